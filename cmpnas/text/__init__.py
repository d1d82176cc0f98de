"""Words and pictures: tokeniser, text encoders and their search space, regions, coarse and fine scorers."""

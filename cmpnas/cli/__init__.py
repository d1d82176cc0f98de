"""The command line of cmpnas."""

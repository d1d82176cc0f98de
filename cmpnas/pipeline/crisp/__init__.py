"""Runs of text recipes: a light model proposes pictures, a heavy one decides (CrispSearch)."""

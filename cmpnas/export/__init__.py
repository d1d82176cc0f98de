"""Bundles that run without cmpnas."""

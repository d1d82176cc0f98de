"""Plots and tables; they read results only."""

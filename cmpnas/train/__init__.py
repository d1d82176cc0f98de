"""Training: one loop, and what each stage puts into it."""

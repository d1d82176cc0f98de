"""One reader a file; each turns its settings and the data folder into a table."""

"""Losses against each other: the grid, its cells, tables, plots and the report."""

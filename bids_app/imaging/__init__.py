"""Images in, on one grid, and out again: files, grids, registration."""

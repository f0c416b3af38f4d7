"""Reports: pages that people look at, made from derivatives only."""

"""Everything that scanners, clusters and strangers have put into a BIDS dataset."""

"""From scans and labels to an nnU-Net dataset: names, label maps, splits, what is written down."""

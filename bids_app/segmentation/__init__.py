"""Networks: weights as data, inference as nnU-Net does it. The only place that imports torch."""

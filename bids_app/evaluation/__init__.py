"""Evaluation: how well a segmentation agrees with a reference."""

"""Synthetic spines, training, conversion and packaging of models."""

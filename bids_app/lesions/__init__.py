"""Lesions: from probabilities to instances and their measures; arrays in, rows out."""

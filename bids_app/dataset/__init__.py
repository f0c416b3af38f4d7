"""The only package that knows BIDS names: what is in a dataset and what results are called."""

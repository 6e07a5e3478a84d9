"""make bench: the same work, with the same weights, here and by the PyTorch originals, in turn."""

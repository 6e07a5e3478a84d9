"""make bench: compares nets of this library with the PyTorch originals, with the same weights, in turn.

Our training step is the step of python -m train: loss, gradient, clipping, AdamW, EMA, and a check for values that are
not
finite. The originals' step is loss, gradient, AdamW and EMA.
"""

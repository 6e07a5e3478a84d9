"""make bench: compares the speed of this library's nets and the PyTorch originals, with the same weights, in turn.

Our training step is the step of python -m train: loss, gradient, clipping, AdamW, EMA, and a check for values that are
not finite. The training step of the originals is loss, gradient, AdamW and EMA.
"""

"""make bench: nets of the same weights here and by the PyTorch originals, in turn.

A training step of ours is the training loop's own (compiled as python -m train does): beside loss, gradient and
AdamW it clips, averages and watches for what is not finite. Theirs is loss, gradient and AdamW; it holds averages too.
"""

"""Converts weights between the PyTorch originals and Flax parameters.

table = entries(net, params)        # params: parameters, or shapes from jax.eval_shape
params = from_torch(table, state)   # state: a dict of numpy arrays by name
state = to_torch(table, params)
"""

from archijax.convert.names import entries
from archijax.convert.table import Entry, from_torch, to_torch

__all__ = ["Entry", "entries", "from_torch", "to_torch"]

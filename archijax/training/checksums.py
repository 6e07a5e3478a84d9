"""Computes checksums of arrays that can be split over devices and processes."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from archijax.training import processes


def is_split(leaf: Any) -> bool:
    """Returns whether other processes have shards of the leaf."""
    return isinstance(leaf, jax.Array) and not leaf.is_fully_addressable


def of_arrays(arrays: Mapping[str, Any]) -> dict[str, int]:
    """Returns the checksum of each array by name. All processes must call this function together. The processes
    exchange sums instead of shards."""
    own = {name: of_array(leaf) for name, leaf in arrays.items()}
    of_all = processes.from_all({name: own[name] for name, leaf in arrays.items() if is_split(leaf)})
    return own | {name: sum(each[name] for each in of_all) % 2**32 for name in of_all[0]}


def of_array(leaf: Any) -> int:
    """Returns the sum, modulo 2^32, of the values of an array. The bytes of each value are read as unsigned integers.

    The sum does not depend on how the array is split over devices. For an array that is split over processes, the
    result is this process's part of the sum.
    """
    pieces = [leaf]
    if isinstance(leaf, jax.Array):
        pieces = [shard.data for shard in leaf.addressable_shards if shard.replica_id == 0]
    total = 0
    for piece in pieces:
        data = np.ascontiguousarray(np.asarray(piece)).reshape(-1)
        words = np.dtype(f"u{min(data.dtype.itemsize, 4)}")
        total += int(data.view(words).sum(dtype=np.uint32))
    return total % 2**32

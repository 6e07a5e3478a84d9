"""Defines a mapping of the tensors in safetensors files. The mapping keeps no tensor in memory."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import jax.numpy as jnp
import numpy as np

from archijax.errors import InputError

# PyTorch's new names of weight norm's length and direction, each with its old name.
WEIGHT_NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16, "BOOL": np.bool_, "U8": np.uint8,
    "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64,
}  # fmt: skip


class Tensors(Mapping[str, np.ndarray]):
    """Maps the names of tensors to numpy arrays. Each access returns a new array, which is a read-only map of the
    tensor in its file. The files must not change meanwhile.

    Args:
        paths: the paths of the safetensors files.
        leave_out: prefixes of names. Tensors whose names begin with one of these prefixes are ignored.

    Raises:
        InputError: a file is not a safetensors file, or has numbers of a type that numpy lacks.
    """

    def __init__(self, paths: Sequence[Path], leave_out: tuple[str, ...] = ()):
        self._places = {
            _renamed(name): (path, first, facts)
            for path in paths
            for name, first, facts in _header(path)
            if not name.startswith(leave_out)
        }

    def __getitem__(self, name: str) -> np.ndarray:
        path, first, facts = self._places[name]
        if facts["dtype"] not in TYPES:
            raise InputError(f"{path} holds {name} as {facts['dtype']}: {', '.join(TYPES)} are read")
        begin, end = facts["data_offsets"]
        place, size = first + begin, end - begin
        # Mapping one tensor costs nothing. The pages of a map of the whole file would stay in memory until all tensors
        # are read.
        try:
            if path.stat().st_size < place + size:
                raise InputError(f"{path} ends in the middle of {name}: it has changed meanwhile")
            content = np.memmap(path, np.uint8, "r", place, (size,)) if size else np.empty(0, np.uint8)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error})") from error
        return np.asarray(content).view(TYPES[facts["dtype"]]).reshape(facts["shape"])

    def __contains__(self, name: object) -> bool:
        # This does not read the tensor.
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _header(path: Path) -> Iterator[tuple[str, int, dict]]:
    """Checks that a file is complete. Yields (name, first byte of the data section, header entry) for each tensor."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"), path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            _read_ahead(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not a complete safetensors file ({error})") from error
    header.pop("__metadata__", None)
    return ((name, 8 + size, facts) for name, facts in header.items())


def _read_ahead(file: BinaryIO) -> None:
    """Asks the system to read a file in the background. This is a hint, which some systems do not take."""
    if hasattr(os, "posix_fadvise"):  # macOS and Windows lack it.
        with contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def _renamed(name: str) -> str:
    for new, old in WEIGHT_NORM.items():
        if name.endswith(new):
            return name.removesuffix(new) + old
    return name

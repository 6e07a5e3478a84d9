"""The tensors of safetensors files. Each is read at its access, so that it is in memory no longer than needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archijax.errors import InputError

# The pages of a mapped file use memory until it is closed. It is reopened after this number of bytes.
MAPPED_BYTES = 2**26
# The new and the old names in PyTorch of the length and the direction of weight norm.
WEIGHT_NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


class Tensors(Mapping[str, np.ndarray]):
    """Tensors by name.

    Args:
        paths: the files.
        leave_out: prefixes of names to ignore.

    Raises:
        InputError: a file is not in the format safetensors, or has numbers of a type that numpy lacks.
    """

    def __init__(self, paths: Sequence[Path], leave_out: tuple[str, ...] = ()):
        self._sources: dict[str, tuple[Path, str]] = {}
        self._open: tuple[Path, Any] | None = None
        self._read = 0
        self._lock = threading.Lock()
        for path in paths:
            for name in self._file(path).keys():  # noqa: SIM118  the file is no dict
                if not name.startswith(leave_out):
                    self._sources[_renamed(name)] = path, name

    def __getitem__(self, name: str) -> np.ndarray:
        path, stored = self._sources[name]
        with self._lock:
            file = self._file(path)
            try:
                tensor = file.get_tensor(stored)
            except Exception as error:  # numpy raises an AttributeError for types of eight bits
                raise InputError(f"{path} cannot be read at {stored} ({error})") from error
            self._read += tensor.nbytes
        return tensor

    def __contains__(self, name: object) -> bool:
        # This does not read the tensor.
        return name in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def _file(self, path: Path) -> Any:
        from safetensors import SafetensorError, safe_open

        if self._open is None or self._open[0] != path or self._read > MAPPED_BYTES:
            self._open, self._read = None, 0
            try:
                self._open = path, safe_open(path, framework="numpy")
            except (OSError, SafetensorError) as error:
                raise InputError(f"{path} is not a complete safetensors file ({error})") from error
        return self._open[1]


def _renamed(name: str) -> str:
    for new, old in WEIGHT_NORM.items():
        if name.endswith(new):
            return name.removesuffix(new) + old
    return name

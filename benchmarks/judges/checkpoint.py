"""Reads weights from TensorFlow checkpoints and PyTorch zip files, without these frameworks."""

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def tensorflow(index: Path, data: Path) -> dict[str, np.ndarray]:
    """Reads the float32 tensors of a TensorFlow checkpoint, "version 2" with one shard, by name.

    The index is a sorted LevelDB table (see LevelDB's doc/table_format.md) of BundleEntryProto protocol buffers
    (tensorflow/core/protobuf/tensor_bundle.proto). The data file holds the tensors one after the other.
    """
    table, raw = index.read_bytes(), data.read_bytes()
    footer = table[-48:]
    _, at = _varint(footer, 0)  # the block of metadata, which is not needed
    _, at = _varint(footer, at)
    tensors = {}
    for _, handle in _block(table, footer[at:]):
        for name, value in _block(table, handle):
            entry = dict(_fields(value))
            if name and entry.get(1) == 1:  # float32
                shape = [dict(_fields(size)).get(1, 1) for key, size in _fields(entry.get(2, b"")) if key == 2]
                start, size = entry.get(4, 0), entry.get(5, 0)
                tensors[name.decode()] = np.frombuffer(raw[start : start + size], "<f4").reshape(shape)
    return tensors


def pytorch(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a state_dict that torch.save wrote as a zip file. No code in the file is run."""
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, key):
                _, dtype, name, *_ = key
                return np.frombuffer(archive.read(f"{root}data/{name}"), dtype)

            def find_class(self, module, name):
                if name not in _KNOWN:
                    raise pickle.UnpicklingError(f"{path} wants {module}.{name}, which no state dict needs")
                return _KNOWN[name]

        with archive.open(f"{root}data.pkl") as file:
            return Unpickler(file).load()


def _tensor(storage, offset, size, stride, *_):
    strides = [storage.itemsize * step for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()


_KNOWN = {"_rebuild_tensor_v2": _tensor, "OrderedDict": OrderedDict, "FloatStorage": "<f4", "LongStorage": "<i8"}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _block(table: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a block, which stores each key without the prefix shared with the previous key."""
    offset, at = _varint(handle, 0)
    size, _ = _varint(handle, at)
    if table[offset + size]:
        raise ValueError("The index of the checkpoint is compressed, which is not read.")
    block = table[offset : offset + size]
    end = len(block) - 4 * (1 + struct.unpack("<I", block[-4:])[0])
    key, at = b"", 0
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields (number, value) for each field of a protocol buffer."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
        elif kind == 2:
            size, at = _varint(message, at)
            value, at = message[at : at + size], at + size
        else:
            size = 4 if kind == 5 else 8
            value, at = message[at : at + size], at + size
        yield tag >> 3, value

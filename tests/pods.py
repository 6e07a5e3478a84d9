"""One of two processes that share a sharded state: saves and restores the state, and measures the memory.

    python tests/pods.py HOST:PORT NUMBER FOLDER save|kill|restore [MEGABYTES]

It prints one line of JSON: the additional peak of host memory of each action, divided by the size of the whole state,
and whether the restored state is equal bit for bit. With kill, process 1 ends while it saves a second time.
"""

import json
import os
import signal
import sys

import jax
import numpy as np

from archijax.training import Checkpoints, MeshParallel
from train import hosts


def values(number: int, shape: tuple[int, ...], index: tuple = ()) -> np.ndarray:
    """A part of an array of noise. Noise cannot be compressed."""
    return np.random.default_rng(number).standard_normal(shape, np.float32)[index]


def shapes_of(megabytes: int) -> dict:
    """A state like that of a deep net with the optimizer's two moments, and one array that is not sharded."""
    layers = max(1, megabytes // 16)
    tree = {f"layer_{number}": jax.ShapeDtypeStruct((1024, 1024), np.float32) for number in range(layers)}
    small = {"step": jax.ShapeDtypeStruct((), np.float32), "half": jax.ShapeDtypeStruct((5, 3), jax.numpy.bfloat16)}
    return {"params": tree, "ema": tree, "opt_state": {"mu": tree, "nu": tree}, "state": small}


def make(devices: MeshParallel, megabytes: int, seed: int) -> dict:
    """A state on the mesh. Each process holds its half, and at most one further array at a time."""
    leaves, structure = jax.tree.flatten(shapes_of(megabytes))
    made = []
    for number, leaf in enumerate(leaves):

        def part(index, number=seed * 10_000 + number, leaf=leaf):
            return values(number, leaf.shape, index).astype(leaf.dtype)

        made.append(jax.make_array_from_callback(leaf.shape, devices.sharding(leaf), part))
    return jax.tree.unflatten(structure, made)


def differs(left: jax.Array, right: jax.Array) -> bool:
    pairs = zip(left.addressable_shards, right.addressable_shards, strict=True)
    return any(np.asarray(one.data).tobytes() != np.asarray(two.data).tobytes() for one, two in pairs)


def status(field: str) -> float:
    """A number of bytes from Linux's status of this process."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(field))


class Peak:
    """Measures the peak growth of memory from now on."""

    def __init__(self):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        self.before = status("VmRSS")

    def of(self, size: int) -> float:
        return round((status("VmHWM") - self.before) / size, 3)


def main(coordinator: str, number: str, folder: str, action: str, megabytes: str = "16") -> None:
    hosts.join(coordinator, 2, int(number))
    devices = MeshParallel(jax.device_count(), fsdp=jax.device_count())
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes_of(int(megabytes))))
    sentences = []
    checkpoints = Checkpoints(folder, keep=2, say=sentences.append)
    said = {"bytes": size}
    if action == "restore":
        target = devices.target(shapes_of(int(megabytes)))
        peak = Peak()
        state, record = checkpoints.restore(target)
        # The growth includes the process's own half.
        said["restore"] = peak.of(size) - 0.5
        said["step"] = record["step"]
        made = make(devices, int(megabytes), record["step"])
        said["different"] = sum(jax.tree.leaves(jax.tree.map(differs, state, made)))
    else:
        state = make(devices, int(megabytes), 2)
        peak = Peak()
        checkpoints.save(2, state, {"step": 2})
        # The next training step overwrites the state while it is saved.
        state = devices.compile(lambda state, batch, key: (jax.tree.map(lambda leaf: leaf * 0, state), 0))(state, 0, 0)
        checkpoints.wait()
        said["save"] = peak.of(size)
        if action == "kill":
            print(json.dumps(said), flush=True)
            checkpoints.save(3, make(devices, int(megabytes), 3), {"step": 3})
            if number == "1":
                os.kill(os.getpid(), signal.SIGKILL)
    checkpoints.close()
    print(json.dumps({**said, "said": " ".join(sentences)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

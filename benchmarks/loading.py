"""python -m benchmarks.loading [FOLDER]: measures time and memory of loading a folder in the hub's layout.

Without FOLDER, the program writes a folder: Stable Audio Open at full width with two layers and random weights. Reading
is `read_bytes` of the weight files. Loading is `aj.from_pretrained` in a process that has imported everything but
loaded no model yet. Reading and loading are measured in turn, without and with the files in the system's cache. Memory
is the peak of the process minus its memory before, divided by the size of the weights.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import jax
import numpy as np

import archijax as aj
from archijax.configs import StableAudioConfig, TextConfig
from archijax.convert import diffusers, t5
from archijax.nn.t5 import T5Config
from benchmarks.speed.serve import peak, reset_peak

LAYERS = 2


def write(folder: Path) -> None:
    """Writes a model folder in the hub's layout, with nets of full width and random weights."""
    from safetensors.numpy import save_file

    draw = np.random.default_rng(0).random

    def random(shapes: dict) -> dict:
        return jax.tree.map(lambda leaf: draw(leaf.shape, np.float32) - np.float32(0.5), shapes)

    encoder, text = T5Config(32_128, 768, 64, 3072, LAYERS, 12), folder / "text"
    text.mkdir()
    settings = {f.name: getattr(encoder, f.name) for f in dataclasses.fields(encoder) if f.name != "gated"}
    (text / "config.json").write_text(json.dumps(settings))
    (text / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    tokens = jax.ShapeDtypeStruct((1, 1), np.int32), jax.ShapeDtypeStruct((1, 1), bool)
    shapes = jax.eval_shape(aj.nn.T5Encoder(encoder).init, jax.random.key(0), *tokens)["params"]
    embedder = random(shapes)
    save_file(t5.to_torch(embedder, encoder), text / "model.safetensors")
    config = StableAudioConfig(text=TextConfig(tokenizer=str(text)))
    config = dataclasses.replace(config, transformer=dataclasses.replace(config.transformer, num_layers=LAYERS))
    variables = random(diffusers.shapes(config))
    variables["frozen"]["embedder"] = embedder
    hub = folder / "hub"
    hub.mkdir()
    diffusers.write(hub, config, variables)


def files(folder: Path) -> list[Path]:
    """Returns the weight files in a folder."""
    return sorted(folder.rglob("*.safetensors"))


def evict(folder: Path) -> None:
    """Removes the weight files from the system's file cache."""
    for path in files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(folder: Path) -> dict[str, float]:
    """Returns the wall time and the CPU time of reading the weight files, in seconds."""
    began, spent = time.perf_counter(), time.process_time()
    content = [path.read_bytes() for path in files(folder)]
    return {
        "seconds": time.perf_counter() - began,
        "processor": time.process_time() - spent,
        "bytes": sum(map(len, content)),
    }


def load(folder: Path) -> dict[str, float]:
    """Returns the wall time and the CPU time of loading in seconds, and the peak of additional memory in bytes."""
    import transformers  # noqa: F401  a slow import that is not measured

    import archijax.pipeline
    import archijax.pretrained.foreign  # noqa: F401

    reset_peak()
    before, began, spent = peak(), time.perf_counter(), time.process_time()
    variables = aj.from_pretrained(folder).variables
    facts = {"seconds": time.perf_counter() - began, "processor": time.process_time() - spent}
    return {**facts, "bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(variables)), "memory": peak() - before}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", action="store_true", help="load it, and say what that took as JSON")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(load(options.folder)))
        return
    with tempfile.TemporaryDirectory() as place:
        if options.folder is None:
            write(Path(place))
        compare(options.folder or Path(place) / "hub", options.repeats)


def compare(folder: Path, repeats: int) -> None:
    """Prints the median times of reading and loading, with cold and warm cache."""
    command = [sys.executable, "-m", "benchmarks.loading", str(folder), "--once"]
    for cold in (True, False):
        readings, loadings = [], []
        for _ in range(repeats):
            for runs in (readings, loadings):
                if cold:
                    evict(folder)
                if runs is readings:
                    runs.append(read(folder))
                else:
                    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                    runs.append(json.loads(said))
        size, memory = loadings[0]["bytes"], max(run["memory"] for run in loadings)
        place = "cold" if cold else "warm"
        print(f"{place}: weights of {size / 2**30:.3g} GiB, at most {memory / size:.2f} times as much memory")
        for name in ("seconds", "processor"):
            pairs = [(ours[name], theirs[name]) for ours, theirs in zip(loadings, readings, strict=True)]
            ratio = median(ours / theirs for ours, theirs in pairs)
            told = ", ".join(f"{ours:.2f} and {theirs:.2f}" for ours, theirs in pairs)
            print(f"  {name} of loading and reading: {told}; {ratio:.2f} times as long")


if __name__ == "__main__":
    main()

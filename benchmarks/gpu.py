"""python -m benchmarks.gpu NOTES --out DIR [--minutes 9]: trains a codec and a model of notes on one GPU.

NOTES is the folder of a set of notes (`make set-notes`). Both models are larger than the bundled ones and compute in
bfloat16. Each training ends after its share of the minutes, or after its number of steps. DIR/codec and DIR/notes are
saved models in float16, each below 16 MB; the runs are in DIR/runs. The same command continues a run that was stopped.
`--steps 2` tries the command on a CPU. It was never run on a GPU.
"""

import argparse
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from archijax import cli
from archijax.errors import InputError
from configs import codec as codecs
from configs import notes as texts

ROOT = Path(__file__).parents[1]
STOPPED = 143  # the exit status of a training that SIGTERM has stopped, after saving
CODEC, NOTES = 0.45, 0.85  # the trainings end after these shares of the time
LARGEST = 16e6  # bytes

codec = replace(
    codecs.small,
    model=replace(
        codecs.small.model,
        coder=replace(codecs.small.model.coder, widths=(384,), encoder_blocks=(2,), decoder_blocks=(5,)),
        dtype="bfloat16",
    ),
    data=replace(codecs.small.data, workers=8),
    batch_size=32,
    steps=20_000,
    checkpoint_every=2_000,
    validate_every=2_000,
)

notes = replace(
    texts.config,
    model=replace(
        texts.config.model,
        unet=replace(texts.config.model.unet, channels=(256, 256, 256), modulation_features=192),
        autoencoder=codec.model,
        dtype="bfloat16",
    ),
    data=replace(texts.config.data, workers=8),
    batch_size=64,
    steps=12_000,
    checkpoint_every=2_000,
    validate_every=2_000,
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("notes", type=Path, help="folder of the set of notes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--steps", type=int, help="steps of each training")
    options = parser.parse_args()
    began, seconds = time.monotonic(), 60 * options.minutes
    out, data = options.out.absolute(), options.notes.absolute() / "train"
    if not data.is_dir():
        raise InputError(f"{data} is no folder: NOTES must be the folder of a set of notes.")
    runs, steps = out / "runs", () if options.steps is None else ("--steps", str(options.steps))

    def train(name: str, share: float, *arguments: str | Path) -> None:
        if not (out / name).exists():
            command = ["train", f"benchmarks/gpu.py:{name}", "--out", runs / name, *arguments, *steps]
            run(command, began + share * seconds - time.monotonic())

    def save(name: str, *arguments: str | Path) -> None:
        if not (out / name).exists():
            run(["sample", "save", "--half", "--model", runs / name, "--out", out / name, *arguments])
        size = (out / name / "model.safetensors").stat().st_size
        cli.say(f"{out / name}: {size / 1e6:.1f} MB")
        if size > LARGEST:
            raise InputError(f"{out / name} has {size / 1e6:.1f} MB: at most {LARGEST / 1e6:.0f} MB are wanted.")

    train("codec", CODEC, "--data", data)
    save("codec")
    using = ("--autoencoder", out / "codec")
    run(["train.encode", "benchmarks/gpu.py:notes", *using, "--data", data, "--out", runs / "latents"])
    train("notes", NOTES, *using, "--data", runs / "latents")
    save("notes", *using)
    cli.say(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return 0


def run(arguments: list[str | Path], seconds: float | None = None) -> None:
    """Runs a Python module with arguments. After so many seconds, the module is told to save and stop."""
    process = subprocess.Popen([sys.executable, "-m", *map(str, arguments)], cwd=ROOT)
    try:
        status = process.wait(None if seconds is None else max(seconds, 1.0))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        status = process.wait()
    if status not in (0, STOPPED):
        sys.exit(status)


if __name__ == "__main__":
    sys.exit(cli.run(main))

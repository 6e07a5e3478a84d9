"""Checks that a run that is killed twenty times at random ends bit for bit like an undisturbed run.

    python -m benchmarks.torture [SEED]

The signals KILL and TERM are sent at random times, half of them while a checkpoint is written. Then the newest
checkpoint is damaged. The run must continue from the previous checkpoint, and say so.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

from archijax.audio import files
from archijax.training.checkpoints import restore_weights, steps

KILLS, STEPS, MORE = 20, 1_500, 20
ROOT = Path(__file__).parents[1]
CONFIG = """
import archijax as aj
from train.config import DataConfig, EmaConfig, OptimizerConfig, TrainConfig

config = TrainConfig(
    model=aj.configs.AutoEncoderConfig(
        coder=aj.configs.CoderConfig(
            channels=8, multipliers=(1, 1), factors=(2,), num_blocks=(0,), patch_size=2, resnet_groups=4
        ),
        bottleneck=(aj.configs.QuantizerConfig(num_codes=8),),
        latent_channels=3,
        sample_rate=8000, channels=1, length=64,
    ),
    data=DataConfig(sample_rate=8000, channels=1, length=64, workers=2),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=5),
    ema=EmaConfig(start=3, every=2),
    batch_size=8, grad_accumulation_steps=2, log_every=3, checkpoint_every=20, keep_best=1, validation=0.3,
    validate_every=15,
    sample_prompts=(),
)
"""


def command(folder: Path, out: str, count: int) -> list[str]:
    """Returns the command that trains for `count` steps."""
    arguments = [folder / "config.py", "--data", folder / "audio", "--out", folder / out, "--steps", count]
    return [sys.executable, "-m", "train", *map(str, arguments)]


def run(arguments: list[str]) -> str:
    """Runs a training to its end and returns its output."""
    done = subprocess.run(arguments, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    if done.returncode:
        sys.exit(f"exit status {done.returncode}: {done.stderr}")
    return done.stderr


def strike(arguments: list[str], out: Path, chance: random.Random) -> str:
    """Starts a training, ends it by a signal at a random moment, and returns a description of this."""
    number = chance.choice((signal.SIGKILL, signal.SIGTERM))
    saving, first = chance.random() < 0.5, _logged(out)
    process = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    # Some runs are ended before their first step.
    wanted = chance.choice((-1, 1, 5, 10, 20, 40))
    until = time.monotonic() + chance.uniform(0, 5) if wanted < 0 else time.monotonic() + 600
    while process.poll() is None and time.monotonic() < until:
        if wanted >= 0 and _logged(out) >= first + wanted and (not saving or any(out.glob("checkpoints/*tmp*"))):
            break
        time.sleep(0.0005)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    if "Traceback" in said:
        sys.exit(said)
    moment = "before its first step" if wanted < 0 else "while saving" if saving else "between saves"
    return f"{signal.Signals(number).name} {moment}, exit status {process.returncode}"


def _logged(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def differences(one: Path, two: Path) -> list[str]:
    """Returns the names of arrays and files that differ between two runs, bit for bit."""
    parts = ("step", "skipped", "params", "ema", "opt_state", "state")
    (record, ours), (other_record, theirs) = (restore_weights(out, parts=parts) for out in (one, two))
    ours, theirs = flatten_dict(ours, sep="/"), flatten_dict(theirs, sep="/")
    found = [name for name in ours if not np.array_equal(ours[name], theirs[name], equal_nan=True)]
    found += ["its record"] if record != other_record or ours.keys() != theirs.keys() else []
    equal = (one / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    return found if equal else [*found, "metrics.jsonl"]


def damage(folder: Path) -> None:
    """Flips a bit in the largest file with parameters of the checkpoint in `folder`."""
    path = max(
        (file for file in (folder / "params").rglob("*") if file.is_file()), key=lambda file: file.stat().st_size
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def main(seed: int) -> int:
    """Runs the test and returns the number of failures."""
    chance = random.Random(seed)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.py").write_text(CONFIG)
        (folder / "audio").mkdir()
        for number in range(5):
            sound = 0.3 * np.sin(np.arange(4000 + 500 * number) * 0.05 * (number + 1))
            files.write(folder / "audio" / f"{number}.wav", sound[:, None], 8000)
        run(command(folder, "calm", STEPS))
        for number in range(KILLS):
            told = strike(command(folder, "struck", STEPS), folder / "struck", chance)
            print(f"{number + 1:3d}: {told}; checkpoints {steps(folder / 'struck' / 'checkpoints')}", flush=True)
        run(command(folder, "struck", STEPS))
        wrong = differences(folder / "struck", folder / "calm")
        print(f"after {KILLS} kills: {', '.join(wrong) or 'equal to the bit'}", flush=True)

        newest = folder / "struck" / "checkpoints" / str(STEPS)
        damage(newest)
        said = run(command(folder, "struck", STEPS + MORE))
        run(command(folder, "calm", STEPS + MORE))
        wrong += differences(folder / "struck", folder / "calm")
        if f"{newest} is damaged: going back to the one before" not in said:
            wrong.append("a damaged checkpoint was not noticed")
        print(f"after a damaged checkpoint: {', '.join(wrong) or 'equal to the bit'}")
        return len(wrong)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else random.SystemRandom().randrange(2**32)))

"""python -m benchmarks.evidence [NAME ...]: trains the small models of configs/ and measures them.

Each NAME is a config, such as crisp:small. The model of a config is trained on synthetic music, or taken from an
earlier run that is finished. Each model is measured on held-out sounds and compared with baselines that it must beat.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

import archijax as aj
from archijax import cli
from archijax.atomic import replacing
from archijax.errors import InputError
from archijax.pretrained import from_pretrained
from benchmarks.evidence import music
from benchmarks.evidence.autoencoders import magnitude, wave
from benchmarks.evidence.clips import Case, text
from benchmarks.evidence.prompts import prompts
from train.__main__ import load_config
from train.__main__ import main as train

CONFIGS = Path(__file__).parent.parent.parent / "configs"
TRACKS = 14  # pieces per instrument
JUDGES = {
    aj.configs.DiffusionConfig: prompts,
    aj.configs.AutoEncoderConfig: wave,
    aj.configs.MagnitudeAutoEncoderConfig: magnitude,
}
NAMES = ("autoencoder_wave", "autoencoder_magnitude", "autoencoder_vq", "crisp:small")


@dataclass(frozen=True)
class Evidence:
    """Trains small models on synthetic music and measures them on held-out sounds."""

    names: tyro.conf.Positional[tuple[str, ...]] = NAMES
    """Names of config files, without folder and suffix. CONFIG:NAME selects one of several configs in a file."""
    out: Path = Path("runs/evidence")
    """The folder for the sounds and the runs. The same command continues an interrupted run, and reuses finished
    runs."""

    def run(self) -> int:
        """Trains and measures all models. Returns the exit status: 1 if a promise is broken."""
        configs = {name: _config(name) for name in self.names}
        for name in configs:
            if name not in NAMES:
                raise InputError(f"{name} is not measured here: measured are {', '.join(NAMES)}.")
        music.rendered(self.out / "music", TRACKS)
        broken = 0
        for name, config in configs.items():
            if status := train([_place(name), "--data", str(self._sounds("train")), "--out", str(self._folder(name))]):
                return status
            pipeline = from_pretrained(self._folder(name))
            train_paths, heldout = (sorted(self._sounds(part).rglob("*.*")) for part in ("train", "heldout"))
            rows, promises = JUDGES[type(config.model)](Case(pipeline, self._folder(name), train_paths, heldout))
            told = [f"{'kept' if kept else 'BROKEN'}: {promise}" for promise, kept in promises.items()]
            report = "\n".join([f"{name}: {len(heldout)} held-out files", text(rows), *told])
            print(f"{report}\n", flush=True)
            with replacing(self._folder(name) / "evidence.txt") as unfinished:
                unfinished.write_text(f"{report}\n")
            broken += not all(promises.values())
        return 1 if broken else 0

    def _folder(self, name: str) -> Path:
        return self.out / name.replace(":", "_")

    def _sounds(self, part: str) -> Path:
        """Returns the folder with the sounds of the part "train" or "heldout"."""
        return self.out / "music" / part


def _place(name: str) -> str:
    file, colon, variant = name.partition(":")
    return f"{CONFIGS / file}.py{colon}{variant}"


def _config(name: str):
    if not Path(_place(name).partition(":")[0]).exists():
        known = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.py")))
        raise InputError(f"There is no config {name}: known are {known}.")
    return load_config(_place(name))


def main(arguments: list[str] | None = None) -> int:
    """Runs the program with the given arguments (without its name) and returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return cli.run(
        lambda: cli.parse(Evidence, arguments, prog="python -m benchmarks.evidence").run(),
        interrupted="interrupted; the same command continues from the last checkpoint.",
    )


if __name__ == "__main__":
    sys.exit(main())

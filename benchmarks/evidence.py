"""python -m benchmarks.evidence [NAME ...]: trains the small models of configs/ and says how good they are.

Each NAME is a config file's, such as autoencoder_wave. It is trained on the demo's music (or its finished run is used)
and judged on the tracks that were held out, against the same net untrained and against keeping as many numbers per
second as its latent has by resampling.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from archijax import AutoEncoderConfig, MagnitudeAutoEncoderConfig, cli, metrics
from archijax.audio import files
from archijax.audio.resample import resample
from archijax.audio.stft import from_polar, to_polar
from archijax.config import example_batch
from archijax.encoders import log_magnitude
from archijax.errors import InputError
from archijax.losses import FLOOR
from demo import music
from sample.model import Loaded, load
from train.__main__ import load_config
from train.__main__ import main as train

CONFIGS = Path(__file__).parent.parent / "configs"
KINDS = {"autoencoder": AutoEncoderConfig, "magnitude_autoencoder": MagnitudeAutoEncoderConfig}
TRACKS = 14  # pieces per instrument
BATCH = 8
Rows = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Evidence:
    """Trains small models on the demo's music and judges them on the tracks that were held out."""

    names: tyro.conf.Positional[tuple[str, ...]] = ("autoencoder_wave", "autoencoder_magnitude", "autoencoder_vq")
    """Config files, without folder and suffix."""
    out: Path = Path("runs/evidence")
    """Folder for the music and the runs. The same command continues where it was stopped, and reuses finished runs."""
    music: Path | None = None
    """Folder with train and heldout, if there is one already."""

    def run(self) -> int:
        """All of it; the exit status, 1 where a figure is not as promised."""
        paths = [CONFIGS / f"{name}.py" for name in self.names]
        for path in paths:
            if not path.exists():
                known = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.py")))
                raise InputError(f"There is no config {path.stem}: known are {known}.")
            if not isinstance(load_config(path).model, tuple(KINDS.values())):
                raise InputError(f"{path.stem} is no config of an autoencoder, and nothing else is judged here so far.")
        songs = self.music or music.rendered(self.out / "music", TRACKS)
        broken = 0
        for path in paths:
            run = self.out / path.stem
            if status := train([str(path), "--data", str(songs / "train"), "--out", str(run)]):
                return status
            loaded = load(run, tuple(KINDS))
            tracks = sorted((songs / "heldout").glob("*/*.flac"))
            judge = wave if isinstance(loaded.config, AutoEncoderConfig) else magnitude
            rows, promises = judge(loaded, tracks)
            print(f"{path.stem}: {len(tracks)} held-out tracks, {_rate(loaded)}\n{_table(rows)}")
            for promise, kept in promises.items():
                print(f"{'kept' if kept else 'BROKEN'}: {promise}")
                broken += not kept
            print(flush=True)
        return 1 if broken else 0


def wave(loaded: Loaded, tracks: list[Path]) -> tuple[Rows, dict[str, bool]]:
    """(table, promises) of an autoencoder of sound: it, untrained, and the sound resampled to the latent's rate."""
    model, rate = loaded.model, loaded.config.sample_rate
    kept = rate * model.latent_channels // model.downsample_factor
    codes = []

    @jax.jit
    def both(variables, crops):
        latent, info = model.encode(variables, crops)
        return model.decode(variables, latent), info.get("codes")

    def trained(crops):
        sound, found = both(loaded.variables, crops)
        if found is not None:
            codes.append(np.asarray(found).reshape(-1, found.shape[-1]))
        return sound

    untrained = untrained_variables(loaded)

    def resampled(crops):
        whole = jnp.reshape(crops, (1, -1, crops.shape[2]))
        small = resample(whole, rate, kept)
        again = resample(small, kept, rate)
        return jnp.pad(again, ((0, 0), (0, whole.shape[1] - again.shape[1]), (0, 0))).reshape(crops.shape)

    systems = {"trained": trained, "untrained": lambda crops: both(untrained, crops)[0]}
    rows = _judged(loaded, tracks, systems, {f"resampled to {kept} Hz": resampled})
    sdr = {name: row["SI-SDR (dB)"] for name, row in rows.items()}
    promises = {
        f"SI-SDR 3 dB above '{name}'": sdr["trained"] >= value + 3 for name, value in sdr.items() if name != "trained"
    }
    if codes:
        size = loaded.config.bottleneck.num_codes
        used = [len(np.unique(level)) / size for level in np.concatenate(codes).T]
        shown = ", ".join(f"{part:.1%}" for part in used)
        promises[f"more than 80 % of {size} codes used at each level: {shown}"] = min(used) > 0.8 and size >= 256
    return rows, promises


def magnitude(loaded: Loaded, tracks: list[Path]) -> tuple[Rows, dict[str, bool]]:
    """(table, promises) of an autoencoder of magnitudes: it, untrained, and magnitudes pooled to as many values.

    Sound is made with the original's phases, so that only the magnitudes differ.
    """
    model, untrained = loaded.model, untrained_variables(loaded)
    stft, factor = model.net.stft, model.net.downsample_factor
    compression = stft.frequencies * loaded.config.channels * factor / model.latent_channels

    def sound(change: Callable) -> Callable:
        @jax.jit
        def made(variables, crops):
            norm, phase = to_polar(stft.encode(crops))
            return stft.decode(from_polar(change(variables, crops, jnp.maximum(norm, FLOOR)), phase), crops.shape[1])

        return made

    net = sound(lambda variables, crops, norm: model.decode(variables, model.encode(variables, crops)[0]))
    systems = {
        "trained": lambda crops: net(loaded.variables, crops),
        "untrained": lambda crops: net(untrained, crops),
    }
    # What is pooled more, time or frequency, is for the baseline to choose.
    frames = loaded.config.length // stft.hop_length
    for time in (1, 2, 4, 8, 16):
        bins = max(1, round(stft.frequencies * time / compression))
        if bins <= stft.frequencies:
            pooled = sound(lambda _, crops, norm, time=time, bins=bins: _pooled(norm, frames // time, bins))
            systems[f"pooled to {bins} bins, {time} frames"] = lambda crops, pooled=pooled: pooled(None, crops)
    rows = _judged(loaded, tracks, systems, {})
    distance = {name: row["log-spectral distance (dB)"] for name, row in rows.items()}
    promises = {
        f"log-spectral distance 30 % below '{name}'": distance["trained"] <= 0.7 * value
        for name, value in distance.items()
        if name != "trained"
    }
    return rows, promises


def untrained_variables(loaded: Loaded) -> dict:
    """Variables of the loaded model before training."""
    return loaded.model.init(jax.random.key(0), example_batch(loaded.config))


def _pooled(norm: jax.Array, frames: int, bins: int) -> jax.Array:
    """Log-magnitudes [b, frames, frequencies, c] averaged down to fewer, and interpolated back."""
    small = jax.image.resize(log_magnitude(norm), (len(norm), frames, bins, norm.shape[3]), "linear")
    return jnp.exp(jax.image.resize(small, norm.shape, "linear"))


def _judged(loaded: Loaded, tracks: list[Path], systems: dict[str, Callable], whole: dict[str, Callable]) -> Rows:
    """Metrics of each system, means over tracks: it is given crops [n, length, c], or all of a track's at once."""
    values: dict[str, dict[str, list[float]]] = {name: {} for name in {**systems, **whole}}
    for crops in _tracks(loaded, tracks):
        reference = crops.reshape(1, -1, crops.shape[2])
        for name in values:
            if name in whole:
                made = np.asarray(whole[name](crops))
            else:
                padded = np.pad(crops, ((0, -len(crops) % BATCH), (0, 0), (0, 0)))
                parts = [np.asarray(systems[name](part)) for part in np.split(padded, len(padded) // BATCH)]
                made = np.concatenate(parts)[: len(crops)]
            made = made.reshape(reference.shape)
            for metric, value in {
                "SI-SDR (dB)": metrics.si_sdr(made, reference),
                "log-spectral distance (dB)": metrics.paired_log_spectral_distance(made, reference, n_fft=512),
            }.items():
                values[name].setdefault(metric, []).append(float(value[0]))
    return {name: {metric: float(np.mean(found)) for metric, found in row.items()} for name, row in values.items()}


def _tracks(loaded: Loaded, tracks: list[Path]) -> Iterator[np.ndarray]:
    """Each track as crops [n, length, c], at the loudness of the training; what is left at its end is dropped."""
    config = loaded.config
    for path in tracks:
        sound = files.read(path, sample_rate=config.sample_rate, channels=config.channels)
        sound = sound * loaded.gain(sound)
        count = len(sound) // config.length
        if count:
            yield sound[: count * config.length].reshape(count, config.length, -1)


def _rate(loaded: Loaded) -> str:
    model, rate = loaded.model, loaded.config.sample_rate
    frames = rate / model.downsample_factor
    return f"{rate} Hz, a latent of {model.latent_channels} channels at {frames:g} Hz"


def _table(rows: Rows) -> str:
    names = list(next(iter(rows.values())))
    width = max(map(len, rows))
    lines = [" " * width + "".join(f"{name:>30}" for name in names)]
    lines += [
        f"{row:<{width}}" + "".join(f"{value:>30.2f}" for value in values.values()) for row, values in rows.items()
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs the program with the given arguments (without its name) and returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return cli.run(
        lambda: cli.parse(Evidence, arguments, prog="python -m benchmarks.evidence").run(),
        interrupted="interrupted; the same command continues from the last checkpoint.",
    )


if __name__ == "__main__":
    sys.exit(main())

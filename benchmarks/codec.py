"""python -m benchmarks.codec MODEL SOUNDS --out DIR: measures the quality, the speed and the latents of a codec.

MODEL is an autoencoder. A diffusion autoencoder decodes with the default settings of its config. The program compares
the codec with an untrained codec, with sounds resampled to as many numbers as the latents have and, if ffmpeg is
installed, with Opus at the bit rates of --opus. Sounds are written to DIR/reference, DIR/codec and so on, for
`python -m benchmarks.judges DIR/codec --reference DIR/reference`. Each entry of the table is the median over sounds
and, after the bar, the limit of the worst tenth. The last column is the number of sounds with the pitch of the
original, among the originals with a clear pitch.
"""

import argparse
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import soxr

from archijax.audio import files
from archijax.audio.metrics import paired_log_spectral_distance, si_sdr
from archijax.codecs.losses import log_mel_loss
from archijax.errors import InputError
from archijax.pretrained import from_pretrained
from benchmarks.judges.pitch import Pitch, pitch
from benchmarks.notes import RIGHT

CLEAR = 0.9  # the least periodicity of a clear pitch


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codec", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a run's folder, a saved model's, or a name")
    parser.add_argument("sounds", type=Path, help="folder of sounds that it was not trained on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=96, help="sounds, drawn with seed 0")
    parser.add_argument("--opus", type=int, nargs="*", default=[16, 6], help="kbit/s")
    options = parser.parse_args()
    trained = from_pretrained(options.model)
    config = trained.config
    originals = sounds_in(options.sounds, options.count, config.sample_rate, config.channels)
    untrained = trained.untrained()

    latents, made, untrained_made = [], [], []
    trained.reconstruct(originals[0], sample_rate=config.sample_rate)  # compiles
    seconds = {"encoding": 0.0, "decoding": 0.0}
    for sound in originals:
        start = time.perf_counter()
        latents.append(trained.encode(sound, sample_rate=config.sample_rate))
        middle = time.perf_counter()
        made.append(trained.decode(latents[-1]).sounds[0])
        seconds["encoding"] += middle - start
        seconds["decoding"] += time.perf_counter() - middle
        untrained_made.append(untrained.reconstruct(sound, sample_rate=config.sample_rate).sounds[0])
    duration = sum(map(len, originals)) / config.sample_rate
    numbers = sum(latent.frames.size for latent in latents) / duration
    table = {
        "codec": made,
        "untrained": untrained_made,
        "resampled": [resampled(sound, config.sample_rate, numbers / config.channels) for sound in originals],
    }
    for rate in options.opus if shutil.which("ffmpeg") else ():
        table[f"opus-{rate}k"] = [_opus(sound, config.sample_rate, rate, options.out) for sound in originals]
    write_sounds(options.out, {"reference": originals, **table}, config.sample_rate)

    print(f"{len(originals)} sounds, {numbers:.0f} numbers a second")
    print(f"{'':12}{'SI-SDR (dB)':>18}{'log-spectral (dB)':>20}{'log-mel':>16}{'pitch':>16}")
    pitches = [pitch(sound, config.sample_rate) for sound in originals]
    for name, sounds in table.items():
        rows = np.array([_distances(a, b, config.sample_rate) for a, b in zip(sounds, originals, strict=True)])
        worst = np.percentile(rows[:, 0], 10), *np.percentile(rows[:, 1:], 90, axis=0)
        cells = [f"{middle:.2f} | {tenth:.2f}" for middle, tenth in zip(np.median(rows, axis=0), worst, strict=True)]
        right, clear = pitch_kept(sounds, pitches, config.sample_rate)
        print(f"{name:12}{cells[0]:>18}{cells[1]:>20}{cells[2]:>16}{f'{right} of {clear}':>16}")
    frames = np.concatenate([latent.frames for latent in latents])
    deviations = frames.std(0)
    print(f"latents: beyond 0.98 {np.mean(np.abs(frames) > 0.98):.2%}, deviations {deviations.min():.3f} to ", end="")
    print(f"{deviations.max():.3f}, a factor of {deviations.max() / deviations.min():.1f}")
    print(", ".join(f"{name} {duration / spent:.0f} times real time" for name, spent in seconds.items()))


def sounds_in(folder: Path, count: int, rate: int, channels: int) -> list[np.ndarray]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in files.SUFFIXES)
    order = np.random.default_rng(0).permutation(len(paths))
    sounds = []
    for index in order:
        sound = files.read(paths[index], sample_rate=rate, channels=channels)
        if len(sound) > 4096 and np.sqrt(np.mean(np.square(sound))) > 1e-3:
            sounds.append(sound)
        if len(sounds) == count:
            return sounds
    if not sounds:
        raise InputError(f"{folder} holds no sound that is not silent: give a folder of sounds.")
    return sounds


def write_sounds(folder: Path, table: Mapping[str, Sequence[np.ndarray]], rate: int) -> None:
    """Writes the sounds [time, c] of each system as FOLDER/SYSTEM/0000.flac and so on, for the judges."""
    for name, sounds in table.items():
        for index, sound in enumerate(sounds):
            path = folder / name / f"{index:04}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, np.clip(sound, -1, 1), rate)


def resampled(sound: np.ndarray, rate: int, kept: float) -> np.ndarray:
    """Resamples a sound [time, c] to the sample rate ``kept`` and back."""
    if kept >= rate:
        return sound
    again = soxr.resample(soxr.resample(sound, rate, kept), kept, rate)[: len(sound)]
    return np.pad(again, ((0, len(sound) - len(again)), (0, 0)))


def pitch_kept(sounds: Sequence[np.ndarray], true: Sequence[Pitch], rate: int, right: float = RIGHT) -> tuple[int, int]:
    """Returns (the number of sounds with the pitch of their original, the number of originals that are compared).

    ``true`` are the pitches of the originals. Originals without a clear pitch are left out. ``right`` is the largest
    error of a right pitch in semitones.
    """
    clear = [(sound, one) for sound, one in zip(sounds, true, strict=True) if one.periodicity > CLEAR]
    return sum(abs(pitch(sound, rate).midi - one.midi) < right for sound, one in clear), len(clear)


def _distances(estimate: np.ndarray, reference: np.ndarray, rate: int) -> tuple[float, float, float]:
    a, b = estimate[None], reference[None]
    mel = _log_mel(a, b, rate)
    return float(si_sdr(a, b)[0]), float(paired_log_spectral_distance(a, b)[0]), float(mel)


_log_mel = jax.jit(log_mel_loss, static_argnums=2)


def _opus(sound: np.ndarray, rate: int, kilobits: int, folder: Path) -> np.ndarray:
    """Encodes and decodes a sound by libopus at a constant bit rate. The result has the same length."""
    folder.mkdir(parents=True, exist_ok=True)
    original, coded, decoded = (folder / f".opus{suffix}" for suffix in (".wav", ".opus", "-decoded.wav"))
    files.write(original, np.clip(sound, -1, 1), rate)
    quiet = ["ffmpeg", "-y", "-loglevel", "error"]
    try:
        bit_rate = ["-c:a", "libopus", "-b:a", f"{kilobits}k", "-vbr", "off"]
        subprocess.run([*quiet, "-i", original, *bit_rate, coded], check=True)
        subprocess.run([*quiet, "-i", coded, decoded], check=True)
        made = files.read(decoded, sample_rate=rate, channels=sound.shape[1], frames=len(sound))
    finally:
        for path in (original, coded, decoded):
            path.unlink(missing_ok=True)
    return made


if __name__ == "__main__":
    main()

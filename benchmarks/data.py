"""Measures how fast batches are read from sound files, and how much the memory in use grows."""

import atexit
import contextlib
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from archijax.audio import files
from train.batches import batches
from train.dataset import DataConfig
from train.manifest import Manifest, index

SAMPLE_RATE, LENGTH = 48_000, 2**18
FILES, SECONDS = 8, 60
MANY = 10_000


def write_music(folder: Path) -> None:
    """Writes FLAC files, 48 kHz stereo: chords with noise, which compress about as well as music."""
    time_ = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    for number in range(FILES):
        rng = np.random.default_rng(number)
        tones = [0.1 * np.sin(2 * np.pi * pitch * time_) for pitch in rng.uniform(60, 2000, 5)]
        noise = 0.02 * rng.standard_normal((len(time_), 2))
        files.write(folder / f"{number}.flac", np.sum(tones, axis=0)[:, None] + noise, SAMPLE_RATE)


@contextlib.contextmanager
def stream(manifest: Manifest, length: int, batch_size: int) -> Iterator[Iterator[dict]]:
    """Yields an iterator over batches of random crops, which two threads read."""
    config = DataConfig(sample_rate=SAMPLE_RATE, length=length, workers=2, prefetch=4)
    with contextlib.closing(batches(manifest, config, batch_size=batch_size, seed=0)) as found:
        yield found


def speed(manifest: Manifest, count: int = 60, batch_size: int = 8) -> float:
    """Returns how many seconds of sound are read per second, in crops of 2^18 samples."""
    with stream(manifest, LENGTH, batch_size) as found:
        for _ in range(6):  # batches that were read ahead
            next(found)
        began = time.perf_counter()
        for _ in range(count):
            next(found)
        return count * batch_size * LENGTH / SAMPLE_RATE / (time.perf_counter() - began)


def growth(manifest: Manifest) -> tuple[float, float]:
    """Returns (the memory in use after 1,000 batches, the growth from then until 10,000 batches), in MiB."""
    with stream(manifest, 2**12, 2) as found:
        for number in range(MANY):
            next(found)
            if number == MANY // 10:
                early = _memory()
        return early, _memory() - early


def _memory() -> float:
    """Returns the memory of the process in MiB. On systems that report only the peak so far, returns the peak."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    # The folder is deleted at exit, because threads still read ahead until then.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_music(folder)
    manifest = index(folder, folder / "manifest.json")
    # The growth is measured first. Later, freed memory could hide a leak.
    early, more = growth(manifest)
    print(f"{'batches':<20}{speed(manifest):8.0f} x real time (48 kHz stereo FLAC, crops of 2^18, 2 threads)")
    print(f"{'their memory':<20}{early:8.0f} MiB after {MANY // 10:,} batches, {more:+.1f} after {MANY:,}")


if __name__ == "__main__":
    main()

"""What a model diffuses, as rows: samples of sound, or the frames of a latent model's autoencoder."""

from __future__ import annotations

import numpy as np

from archijax.arithmetic import ceil_div
from archijax.pipeline.coding import decoder, encoder
from archijax.pipeline.driver import Progress, silent
from archijax.pipeline.loaded import Loaded
from archijax.pipeline.settings import SampleSettings


class Samples:
    """Of a model of sound: a row is a sample.

    Attributes:
        loaded: what diffuses rows.
        frame: samples of sound in a row.
    """

    frame = 1

    def __init__(self, loaded: Loaded):
        self.loaded = loaded

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """The rows [n, ...] of a sound [time, channels], its end filled with silence."""
        return audio

    def decode(self, rows: np.ndarray, item: int, progress: Progress = silent) -> np.ndarray:
        """The sound [n * frame, channels] of rows; different items start from different noise, if from any."""
        return rows

    def steps(self, rows: int) -> int:
        """Steps of progress that decoding so many takes."""
        return 0


class Latents(Samples):
    """Of a latent model: a row is a frame of its autoencoder's latent, scaled as it is diffused.

    Args:
        whole: the latent model.
        steps, seed: of an autoencoder that decodes by diffusion.
        batch_size: parts of a sound that are coded at once.
    """

    def __init__(self, whole: Loaded, steps: int = 20, seed: int = 0, batch_size: int = 8):
        super().__init__(whole.halves[0])
        self.whole, self.frame = whole, whole.model.downsample_factor
        self._settings, self._batch_size = SampleSettings(num_steps=steps, seed=seed), batch_size

    def encode(self, audio: np.ndarray) -> np.ndarray:
        frames = encoder(self.whole.halves[1], self._batch_size)(audio)
        return np.asarray(self.whole.model.latents(self.whole.on_device, {"latent": frames[None]}))[0]

    def decode(self, rows: np.ndarray, item: int, progress: Progress = silent) -> np.ndarray:
        frames = np.asarray(self.whole.model.unscaled(self.whole.on_device, rows))
        return self._decoder(item)(frames, progress)

    def steps(self, rows: int) -> int:
        return self._decoder().steps(rows)

    def _decoder(self, item: int = 0):
        return decoder(self.whole.halves[1], self._settings, batch_size=self._batch_size, item=item)


def rows_of(loaded: Loaded, settings: SampleSettings, batch_size: int = 8) -> Samples:
    """The rows that a model diffuses."""
    if loaded.config.autoencoder is None:
        return Samples(loaded)
    return Latents(loaded, seed=settings.seed, batch_size=batch_size)


def kept_rows(mask: np.ndarray, frame: int) -> np.ndarray:
    """Of a mask of samples, bool [time], that of rows: those kept of which each sample is."""
    whole = np.pad(mask, (0, ceil_div(len(mask), frame) * frame - len(mask)), constant_values=True)
    return whole.reshape(-1, frame).all(axis=1)

"""The rows of the arrays that a diffusion model samples: samples of sound, or frames of a latent."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Shaped

from archijax.arithmetic import ceil_div
from archijax.pipeline.coding import decoder, encoder
from archijax.pipeline.driver import Progress, silent
from archijax.pipeline.loaded import Loaded
from archijax.pipeline.parts import Parts
from archijax.pipeline.settings import SampleSettings


class Samples:
    """Converts between sound and the rows that a model of sound samples. A row is a sample of sound.

    Attributes:
        loaded: the diffusion model that samples rows.
        frame: number of samples of sound per row.
    """

    frame = 1

    def __init__(self, loaded: Loaded):
        self.loaded = loaded

    def encode(self, audio: Float[np.ndarray, "time c"]) -> Shaped[np.ndarray, "n channels"]:
        """Turns a sound into rows. Zeros after the end of the sound fill the last row."""
        return audio

    def decode(
        self, rows: Float[np.ndarray, "n channels"], item: int, progress: Progress = silent
    ) -> Float[np.ndarray, "n*{self.frame} c"]:
        """Turns rows into sound. A decoder that starts from noise uses different noise for each item."""
        return rows

    def steps(self, rows: int) -> int:
        """Returns how many steps :meth:`decode` reports as progress if it gets ``rows`` rows."""
        return 0


class Latents(Samples):
    """Converts between sound and the rows that a latent model samples.

    A row is a frame of the latent, in the scale of the diffusion model.

    Args:
        whole: the latent model.
        steps, seed: settings of an autoencoder that decodes by diffusion.
        batch_size: the largest number of parts of a sound that are encoded or decoded at once.
    """

    def __init__(self, whole: Loaded, steps: int = 20, seed: int = 0, batch_size: int = 8):
        super().__init__(whole.halves[0])
        self.whole, self.frame = whole, whole.model.downsample_factor
        self._settings, self._batch_size = SampleSettings(num_steps=steps, seed=seed), batch_size

    def encode(self, audio: Float[np.ndarray, "time c"]) -> Float[np.ndarray, "n channels"]:
        frames = encoder(self.whole.halves[1], self._batch_size)(audio)
        return np.asarray(self.whole.model.latents(self.whole.on_device, {"latent": frames[None]}))[0]

    def decode(
        self, rows: Float[np.ndarray, "n channels"], item: int, progress: Progress = silent
    ) -> Float[np.ndarray, "n*{self.frame} c"]:
        frames = np.asarray(self.whole.model.unscaled(self.whole.on_device, rows))
        return self._decoder(item)(frames, progress)

    def steps(self, rows: int) -> int:
        return self._decoder().steps(rows)

    def _decoder(self, item: int = 0) -> Parts:
        return decoder(self.whole.halves[1], self._settings, batch_size=self._batch_size, item=item)


def rows_of(loaded: Loaded, settings: SampleSettings, batch_size: int = 8) -> Samples:
    """Returns the converter between sound and the rows that this model samples."""
    if loaded.config.autoencoder is None:
        return Samples(loaded)
    return Latents(loaded, seed=settings.seed, batch_size=batch_size)


def kept_rows(mask: Bool[np.ndarray, " time"], frame: int) -> Bool[np.ndarray, " n"]:
    """Turns a mask of samples into a mask of rows. A row is kept if all its samples are kept."""
    whole = np.pad(mask, (0, ceil_div(len(mask), frame) * frame - len(mask)), constant_values=True)
    return whole.reshape(-1, frame).all(axis=1)

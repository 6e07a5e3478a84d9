"""Converts between sound and the rows that a diffusion model makes. A row is a sample of sound or a frame of a
latent."""

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
    """Converts between sound and the rows that a diffusion model of sound makes. A row is a sample of sound.

    Attributes:
        loaded: the diffusion model that makes rows.
        frame: the number of samples of sound per row.
    """

    frame = 1

    def __init__(self, loaded: Loaded):
        self.loaded = loaded

    def encode(self, audio: Float[np.ndarray, "time c"]) -> Shaped[np.ndarray, "n channels"]:
        """Turns a sound [time, c] into rows [n, channels], where n is ``ceil(time / frame)``. Zeros fill the last
        row."""
        return audio

    def decode(
        self, rows: Float[np.ndarray, "n channels"], item: int, progress: Progress = silent
    ) -> Float[np.ndarray, "n*{self.frame} c"]:
        """Turns rows into a sound. If the decoder starts from noise, ``item`` (the number of the sound) selects the
        noise."""
        return rows

    def steps(self, rows: int) -> int:
        """Returns the number of steps that :meth:`decode` reports as progress for ``rows`` rows."""
        return 0


class Latents(Samples):
    """Converts between sound and the rows that a latent model makes.

    A row is a frame of the latent, normalised for the diffusion model.

    Args:
        whole: the latent model.
        steps, seed: the number of denoising steps and the seed of the noise, for an autoencoder that decodes by
            diffusion.
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
    """Returns the converter between sound and the rows of a model: :class:`Latents` for a latent model, else
    :class:`Samples`."""
    if loaded.is_latent:
        return Latents(loaded, seed=settings.seed, batch_size=batch_size)
    return Samples(loaded)


def kept_rows(mask: Bool[np.ndarray, " time"], frame: int) -> Bool[np.ndarray, " n"]:
    """Turns a mask of samples into a mask of ``n = ceil(time / frame)`` rows. A row is kept if all of its samples are
    kept."""
    whole = np.pad(mask, (0, ceil_div(len(mask), frame) * frame - len(mask)), constant_values=True)
    return whole.reshape(-1, frame).all(axis=1)

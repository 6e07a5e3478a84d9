"""The decoder: a latent to sound."""

from __future__ import annotations

import jax

from archijax.codecs.levels import Levels, UpLevel, from_channels
from archijax.errors import InputError
from archijax.nn.arrays import full
from archijax.nn.items import Resnet
from archijax.nn.linear import Conv


class Decoder1d(Levels, kw_only=True):
    """A latent [b, frames, c] to sound [b, frames * downsample_factor, out_channels].

    Fields, beside those of :class:`Levels`, whose order is the reverse of an encoder's:
        out_channels: of the sound.
        in_channels: of the latent, which a kernel-1 convolution widens; None: it has those of the first level already.
    """

    out_channels: int
    in_channels: int | None = None

    def setup(self):
        self._check_patches(self.widths[-1])
        if self.in_channels is not None:
            self.to_in = Conv(self.widths[0], dtype=self.dtype)
        self.up = [self._level(UpLevel, i) for i in range(len(self.factors))]
        self.to_out = Resnet(min(self.patch_size, self.out_channels), channels=self.out_channels, dtype=self.dtype)

    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps a latent [b, frames, c] to [b, frames * downsample_factor, out_channels], at least float32."""
        expected = self.in_channels or self.widths[0]
        if z.shape[-1] != expected:
            raise InputError(f"the latent has {z.shape[-1]} channels: this decoder reads {expected}")
        x = z if self.in_channels is None else self.to_in(z)
        for up in self.up:
            x = up(x)
        x = from_channels(x, self.patch_size).reshape(len(x), x.shape[1] * self.patch_size, -1)
        return full(self.to_out(x))

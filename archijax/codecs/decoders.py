"""Defines the decoder from a latent to sound."""

from __future__ import annotations

from jaxtyping import Array, Float

from archijax.codecs.levels import Levels, UpLevel, from_channels
from archijax.errors import InputError
from archijax.nn.arrays import full
from archijax.nn.items import Resnet
from archijax.nn.linear import Conv


class Decoder1d(Levels, kw_only=True):
    """Decodes a latent to sound. A frame of the latent becomes downsample_factor samples.

    ``decoder = Decoder1d(out_channels=1, channels=32, multipliers=(4, 2, 1), factors=(4, 4), num_blocks=(2, 2))``
    decodes a latent [b, frames, 128] to sound [b, 16 * frames, 1]:
    ``sound = decoder.apply(decoder.init(key, latent), latent)``. Each list is in order from latent to sound.
    ``multipliers`` has one entry more than ``factors`` and ``num_blocks``. Level i has ``num_blocks[i]`` residual
    blocks, and maps ``channels * multipliers[i]`` channels to ``channels * multipliers[i + 1]`` channels.
    downsample_factor is patch_size times the product of the factors. resnet_groups, by default 8, must divide the
    number of channels of every level.

    Fields, in addition to the fields of :class:`archijax.codecs.levels.Levels`:
        out_channels: the number of channels of the sound.
        in_channels: the number of channels of the latent. A convolution with kernel size 1 maps these channels to the
            input channels of the first level. None: the latent has the input channels of the first level, and there is
            no convolution.
    """

    out_channels: int
    in_channels: int | None = None

    def setup(self):
        self._check_patches(self.widths[-1])
        if self.in_channels is not None:
            self.to_in = Conv(self.widths[0], dtype=self.dtype)
        self.up = [self._level(UpLevel, i) for i in range(len(self.factors))]
        self.to_out = Resnet(min(self.patch_size, self.out_channels), channels=self.out_channels, dtype=self.dtype)

    def __call__(self, z: Float[Array, "b frames c"]) -> Float[Array, "b time {self.out_channels}"]:
        """Decodes a latent to a sound of ``frames * downsample_factor`` samples. The sound is in at least float32.

        Raises:
            InputError: the number of channels of the latent is wrong.
        """
        expected = self.in_channels or self.widths[0]
        if z.shape[-1] != expected:
            raise InputError(f"the latent has {z.shape[-1]} channels: this decoder reads {expected}")
        x = z if self.in_channels is None else self.to_in(z)
        for up in self.up:
            x = up(x)
        x = from_channels(x, self.patch_size).reshape(len(x), x.shape[1] * self.patch_size, -1)
        return full(self.to_out(x))

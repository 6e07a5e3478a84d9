"""Contains wrappers that give a net fewer positions with more channels, by a learned transform, patches or an STFT."""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from archijax.arithmetic import ceil_div
from archijax.audio.stft import STFT, from_polar, to_polar
from archijax.errors import InputError
from archijax.nn.arrays import full
from archijax.nn.conditioning import Wrapper
from archijax.nn.linear import fold, pad_positions, strided_conv, transposed_conv, unfold, uniform_init


def _check_length(x: Float[Array, "b *positions c"], multiple: int, origin: str) -> None:
    """Raises InputError unless ``multiple`` divides all lengths of x. The message quotes ``origin``, which says what
    ``multiple`` is.
    """
    for length in x.shape[1:-1]:
        if length == 0 or length % multiple:
            raise InputError(
                f"length {length} is not a multiple of {multiple} ({origin}): "
                f"pad to {multiple * max(1, ceil_div(length, multiple))}"
            )


def _windowed_sinusoids(window: int, stride: int, count: int) -> Float[np.ndarray, "{window} {count}"]:
    """Returns filters [window, count]: sines and cosines of evenly spaced frequencies, multiplied by a sine window.

    If count equals window, analysis followed by synthesis returns the sound (a modulated complex lapped transform,
    Malvar 1999).
    """
    time, frequency = np.arange(window)[:, None] + 0.5, np.arange((count + 1) // 2) + 0.5
    phase = 2 * np.pi / count * frequency * (time + stride / 2)
    envelope = np.sin(np.pi * time / window) if window > stride else np.ones_like(time)
    overlap = window / (2 * stride) if window > stride else 1.0
    waves = np.concatenate([envelope * np.cos(phase), envelope * np.sin(phase)], axis=1)[:, :count]
    return waves / np.sqrt(overlap * count / 2)


class LearnedTransform(Wrapper):
    """Applies a learned filter bank to x, calls the net, and transforms the result back (ArchiSound, section 5.2.4).

    With ``wrapped = LearnedTransform(net, num_filters=32, window_length=32, stride=16)``, ``wrapped.init(key, x,
    time)`` makes the variables. ``wrapped.apply(variables, x, time)`` returns an array in the shape of x [b, time, c].
    A strided convolution transforms x for the net, and a transposed convolution transforms the result of the net back.

    Fields:
        net: a module ``net(x, ..., out_channels=n)``, such as :func:`UNetV0`. The net receives [b, time / stride, c *
            num_filters], and its result has n channels.
        num_filters: the number of filters per channel of the sound.
        window_length: the length of a filter in samples, a multiple of the stride. Stride and window_length must both
            be odd or both be even.
        stride: the number of samples from one position of a filter to the next.
        filters: the initial filters, "sinusoid" or "random". "sinusoid" gives windowed sines and cosines. The transform
            is then invertible if num_filters equals window_length. "random" gives random numbers, as in the original
            code. Training then takes longer.
        dtype: the type in which the filters are applied.
    """

    num_filters: int
    window_length: int
    stride: int
    filters: Literal["sinusoid", "random"] = "sinusoid"
    dtype: DTypeLike = jnp.float32

    @property
    def length_multiple(self) -> int:
        """Returns the number that must divide the length of x: the stride times the ``length_multiple`` of the net."""
        return self.stride * super().length_multiple

    @nn.compact
    def __call__(
        self, x: Float[Array, "b time c"], *args: Any, out_channels: int | None = None, **conditioning: Any
    ) -> Float[Array, "b time out"]:
        """Transforms x, calls the net, and transforms the result of the net back.

        Args:
            args, conditioning: other arguments for the net.
            out_channels: the number of channels of the result, or None for as many channels as x.

        Raises:
            InputError: time is not a multiple of ``length_multiple`` or not above ``(window_length - stride) / 2``, or
                window_length does not fit the stride.
        """
        window, stride = self.window_length, self.stride
        if stride < 1 or window < 1 or window % stride or (window - stride) % 2:
            raise InputError(
                f"window_length {window} with stride {stride}: the window must be a multiple of the stride and differ "
                "from it by an even number"
            )
        _check_length(x, self.length_multiple, "the stride times the product of the net's factors")
        padding = window // 2 - stride // 2
        if x.shape[1] <= padding:
            raise InputError(
                f"length {x.shape[1]} is too short for a window of {window}: more than {padding} samples are needed"
            )
        c_in, c_out = x.shape[-1], out_channels or x.shape[-1]
        encode = self.param("encode", lambda key: self._filters(key, c_in))
        decode = self.param("decode", lambda key: jnp.swapaxes(self._filters(key, c_out), 1, 2))
        x = pad_positions(x.astype(self.dtype), padding, mode="reflect")
        z = strided_conv(x, encode.astype(self.dtype), stride)
        z = self.net(z, *args, out_channels=c_out * self.num_filters, **conditioning)
        return full(transposed_conv(z.astype(self.dtype), decode.astype(self.dtype), stride, padding))

    def _filters(self, key: Shaped[Array, " ..."], channels: int) -> Float[Array, "window {channels} filters"]:
        """Returns the initial filters, ``num_filters`` for each channel. Each sinusoid reads one channel, and each
        random filter reads all channels.
        """
        if self.filters == "random":
            shape = (self.window_length, channels, channels * self.num_filters)
            return uniform_init(self.window_length * channels)(key, shape)
        waves = _windowed_sinusoids(self.window_length, self.stride, self.num_filters)
        return jnp.asarray(np.kron(np.eye(channels), waves[:, None, :]), jnp.float32)


class Patching(Wrapper):
    """Calls a net on patches: consecutive samples become channels of one position (ArchiSound, section 5.2.4).

    ``Patching(net, 4).init(key, x, time)`` makes the variables, and ``Patching(net, 4).apply(variables, x, time)``
    returns an array in the shape of x.

    Fields:
        net: a module ``net(x, ..., out_channels=n)``, such as :func:`UNetV0`. For d position axes, the net receives [b,
            *positions / patch_size, c * patch_size^d], and its result has n channels.
        patch_size: the number of samples of a patch along each position axis.
    """

    patch_size: int

    @property
    def length_multiple(self) -> int:
        """Returns the number that must divide every length of x: patch_size times the `length_multiple` of the net."""
        return self.patch_size * super().length_multiple

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *positions c"], *args: Any, out_channels: int | None = None, **conditioning: Any
    ) -> Float[Array, "b *positions out"]:
        """Turns patches into channels, calls the net, and turns the channels of the net's result back into samples.

        Args:
            args, conditioning: other arguments for the net.
            out_channels: the number of channels of the result, or None for as many channels as x.

        Raises:
            InputError: a position axis has a length that is not a multiple of ``length_multiple``, or patch_size is
                below 1.
        """
        if self.patch_size < 1:
            raise InputError(f"the patch size is {self.patch_size}: it must be at least 1")
        _check_length(x, self.length_multiple, "the patch size times the product of the net's factors")
        c_out = out_channels or x.shape[-1]
        patches = fold(x, self.patch_size)
        widened = c_out * self.patch_size ** (x.ndim - 2)
        return unfold(self.net(patches, *args, out_channels=widened, **conditioning), self.patch_size)


class STFTTransform(Wrapper):
    """Calls a net on the short-time Fourier transform of x, and applies the inverse transform to the net's result
    (ArchiSound, section 5.2.4).

    ``STFTTransform(net).init(key, x, time)`` makes the variables, and ``STFTTransform(net).apply(variables, x, time)``
    returns an array in the shape of x [b, time, c].

    Fields:
        net: a module ``net(x, ..., out_channels=n)``, such as :func:`UNetV0`. The net receives [b, time / hop_length, 2
            * (n_fft // 2 + 1) * c], and its result has n channels.
        n_fft: the length of a window in samples.
        hop_length: the number of samples from one window to the next, at most n_fft.
        polar: whether the channels are magnitudes and phases, instead of real and imaginary parts.
    """

    n_fft: int = 1024
    hop_length: int = 256
    polar: bool = False

    @property
    def length_multiple(self) -> int:
        """Returns the number that must divide the length of x: hop_length times the ``length_multiple`` of the net."""
        return self.hop_length * super().length_multiple

    @nn.compact
    def __call__(
        self, x: Float[Array, "b time c"], *args: Any, out_channels: int | None = None, **conditioning: Any
    ) -> Float[Array, "b time out"]:
        """Transforms x, calls the net, and transforms the result of the net back.

        Args:
            args, conditioning: other arguments for the net.
            out_channels: the number of channels of the result, or None for as many channels as x.

        Raises:
            InputError: time is not a multiple of ``length_multiple``, or not above ``ceil((n_fft - hop_length) / 2)``.
        """
        stft = STFT(self.n_fft, self.hop_length, centred=False)
        _check_length(x, self.length_multiple, "hop_length times the product of the net's factors")
        z, c_out = stft.encode(full(x)), out_channels or x.shape[-1]
        pair = to_polar(z) if self.polar else (z.real, z.imag)
        flat = jnp.stack(pair, axis=-1).reshape(*z.shape[:2], -1)
        y = self.net(flat, *args, out_channels=2 * stft.frequencies * c_out, **conditioning)
        y = y.reshape(*z.shape[:2], stft.frequencies, c_out, 2)
        join = from_polar if self.polar else jax.lax.complex
        return stft.decode(join(y[..., 0], y[..., 1]), x.shape[1])

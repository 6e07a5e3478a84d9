"""Sinc resampling by any ratio of integers."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from archijax.arithmetic import ceil_div
from archijax.errors import InputError
from archijax.nn.linear import strided_conv

_MOST_WEIGHTS = 1 << 26


def resample(
    x: jax.Array, factor_in: int, factor_out: int, rolloff: float = 0.99, lowpass_filter_width: int = 32
) -> jax.Array:
    """A sound [b, time, c] at factor_out / factor_in times its sample rate, [b, time * factor_out // factor_in, c].

    Band-limited interpolation (Smith & Gossett 1984) by a sinc under a cos^2 window, as in the original and torchaudio,
    whose lowpass_filter_width is 6. With that a tone of 1 kHz from 48 to 44.1 kHz and back has an SNR of 64 dB; with 16
    of 88 dB; with 32, for which it costs little more, of 119 dB. Outside, the sound is taken to be zero.

    Args:
        factor_in, factor_out: the two sample rates, or any two integers of their ratio.
        rolloff: cut-off frequency, as a part of the lower of both Nyquist frequencies.
        lowpass_filter_width: zero crossings of the sinc on each side.

    Raises:
        InputError: factors below 1, or with so little in common that their filters would not fit in memory.
    """
    if factor_in < 1 or factor_out < 1:
        raise InputError(f"resampling from {factor_in} to {factor_out}: both must be at least 1")
    if not 0 < rolloff <= 1 or lowpass_filter_width < 1:
        raise InputError(
            f"rolloff {rolloff} with lowpass_filter_width {lowpass_filter_width}: 0 < rolloff <= 1 and a width of at "
            "least 1 are needed"
        )
    b, time, c = x.shape
    length = time * factor_out // factor_in
    common = math.gcd(factor_in, factor_out)
    source, target = factor_in // common, factor_out // common
    filters, before = _filters(source, target, rolloff, lowpass_filter_width)
    blocks = max(1, ceil_div(length, target))
    # Channels are filtered alike, as items of the batch: [b * c, time, 1].
    x = jnp.swapaxes(x, 1, 2).reshape(b * c, time, 1)
    after = (blocks - 1) * source + len(filters) - before - time
    x = jnp.pad(x, ((0, 0), (before, max(0, after)), (0, 0)))[:, : (blocks - 1) * source + len(filters)]
    with jax.default_matmul_precision("highest"):
        y = strided_conv(x, jnp.asarray(filters[:, None, :], x.dtype), source)
    return jnp.swapaxes(y.reshape(b, c, -1)[:, :, :length], 1, 2)


def _filters(source: int, target: int, rolloff: float, zeros: int) -> tuple[np.ndarray, int]:
    """Filters [taps, target] of the outputs of a block of `source` inputs, and how many taps lie before the block.

    Output i of a block lies i / target of it after its first input. Taps are a multiple of `source`.
    """
    cutoff = rolloff * min(source, target)
    before = math.ceil(zeros * source / cutoff)
    taps = ceil_div(2 * before + source, source) * source
    if taps * target > _MOST_WEIGHTS:
        raise InputError(
            f"resampling by {target} / {source} needs {taps * target} filter weights: use rates with a larger common "
            f"divisor, or a smaller lowpass_filter_width, for at most {_MOST_WEIGHTS}"
        )
    offset = (np.arange(taps)[:, None] - before) / source - np.arange(target) / target
    crossings = np.clip(offset * cutoff, -zeros, zeros)
    window = np.square(np.cos(np.pi / 2 * crossings / zeros))
    return np.sinc(crossings) * window * (cutoff / source), before

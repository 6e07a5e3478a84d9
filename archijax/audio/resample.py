"""Resamples sound by the ratio of two integers, with sinc filters."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from archijax.arithmetic import ceil_div
from archijax.errors import InputError
from archijax.nn.linear import strided_conv

_MOST_WEIGHTS = 1 << 26  # of all filters


def resample(
    x: Float[Array | np.ndarray, "b time c"],
    factor_in: int,
    factor_out: int,
    rolloff: float = 0.99,
    lowpass_filter_width: int = 32,
) -> Float[Array, "b time*{factor_out}//{factor_in} c"]:
    """Resamples a sound to ``factor_out / factor_in`` times its sample rate.

    ``resample(x, 48000, 44100)`` returns [b, time * 44100 // 48000, c].

    The method is band-limited interpolation (Smith & Gossett 1984) by a sinc with a cos^2 window. The PyTorch original
    and torchaudio use the same method, by default with a lowpass_filter_width of 6. For a tone of 1 kHz that is
    resampled from 48 to 44.1 kHz and back, the SNR is 64 dB with a width of 6, 88 dB with 16, and 119 dB with 32. A
    width of 32 takes little more time than 6. Before the beginning and after the end of the sound, samples count as
    zero.

    Args:
        factor_in, factor_out: the two sample rates, or two integers with the same ratio.
        rolloff: the cut-off frequency, as a fraction of the lower Nyquist frequency; above 0 and at most 1.
        lowpass_filter_width: the number of zero crossings of the sinc on each side, at least 1.

    Raises:
        InputError: an argument is out of range, or the greatest common divisor of the factors is so small that the
            filters need too much memory.
    """
    if factor_in < 1 or factor_out < 1:
        raise InputError(f"resampling from {factor_in} to {factor_out}: both must be at least 1")
    if not 0 < rolloff <= 1 or lowpass_filter_width < 1:
        raise InputError(
            f"rolloff {rolloff} with lowpass_filter_width {lowpass_filter_width}: a rolloff above 0 and at most 1 and "
            "a width of at least 1 are needed"
        )
    b, time, c = x.shape
    length = time * factor_out // factor_in
    common = math.gcd(factor_in, factor_out)
    source, target = factor_in // common, factor_out // common
    filters, before = _filters(source, target, rolloff, lowpass_filter_width)
    blocks = max(1, ceil_div(length, target))
    # All channels have the same filter, so they become items of the batch: [b * c, time, 1].
    x = jnp.swapaxes(x, 1, 2).reshape(b * c, time, 1)
    after = (blocks - 1) * source + len(filters) - before - time
    x = jnp.pad(x, ((0, 0), (before, max(0, after)), (0, 0)))[:, : (blocks - 1) * source + len(filters)]
    with jax.default_matmul_precision("highest"):
        y = strided_conv(x, jnp.asarray(filters[:, None, :], x.dtype), source)
    return jnp.swapaxes(y.reshape(b, c, -1)[:, :, :length], 1, 2)


def _filters(source: int, target: int, rolloff: float, zeros: int) -> tuple[Float[np.ndarray, "taps {target}"], int]:
    """Returns (the filters of a block's outputs, the number of taps that come before the block).

    A block has `source` input samples and `target` output samples, and each output sample has its own filter. The time
    from the first input sample to output sample i is ``i / target`` blocks. The number of taps is a multiple of
    `source`.
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

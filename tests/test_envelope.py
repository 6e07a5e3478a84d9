"""The envelope of the upsampler's high band."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.audio.resample import resample
from archijax.audio.stft import STFT
from archijax.models.envelope import Envelope, log_magnitudes

RATE, LENGTH = 12_000, 3_072
CONFIG = aj.configs.UpsamplerConfig(
    aj.configs.UNetConfig(channels=(8, 8), factors=(1, 2), items=(1, 1), modulation_features=8, item="adaptive"),
    transform=aj.configs.STFTConfig(n_fft=64, hop_length=32),
    envelope=aj.configs.EnvelopeConfig(n_fft=128, hop_length=32, channels=8, num_blocks=1),
    factor=3,
    sample_rate=RATE,
    channels=1,
    length=LENGTH,
)


@pytest.fixture(scope="module")
def made():
    model = CONFIG.build()
    return model, jax.jit(model.init)(jax.random.key(0), {"audio": jnp.zeros((1, LENGTH, 1))})


@pytest.fixture(scope="module")
def decode(made):
    model, variables = made
    return jax.jit(lambda frames, noise: model.decode(variables, frames, noise, num_steps=1))


def test_noise_of_the_levels_has_the_log_magnitudes_that_the_error_compares():
    stft = STFT(128, 32)
    envelope = Envelope(stft, factor=2, channels=4, num_blocks=1)
    noise = jax.random.normal(jax.random.key(0), (4, 8192, 1))
    measured = log_magnitudes(stft.encode(noise))[:, :, 1:-1].mean()
    assert float(measured) == pytest.approx(envelope.noise, abs=0.02)
    # For levels of 1 and noise, the error is the variance of the log-magnitude of a complex Gaussian, pi^2 / 24. The
    # highest of the 33 frequencies is real, and varies more.
    levels = jnp.zeros((4, noise.shape[1] // 32 + 1, 65, 1))
    assert float(envelope.error(levels, noise)) == pytest.approx(np.pi**2 / 24, rel=0.12)


def test_the_low_band_is_known_and_silence_gives_silence(made):
    model, variables = made
    low = model.upsampled(0.3 * jax.random.normal(jax.random.key(1), (1, LENGTH // 3, 1)))
    levels = jax.jit(model.envelope.apply)({"params": variables["params"]["envelope"]}, low)
    bins = model.envelope.bins
    assert bins == 18  # of 21
    np.testing.assert_allclose(
        levels[:, :, :bins], log_magnitudes(model.envelope.stft.encode(low))[:, :, :bins], atol=1e-5
    )
    silent = jax.jit(model.envelope.apply)({"params": variables["params"]["envelope"]}, jnp.zeros_like(low))
    assert float(silent.max()) < np.log(1e-3)


def test_a_louder_sound_gets_a_louder_high_band_and_keeps_its_low_band(made, decode):
    model, _ = made
    frames = 0.3 * jax.random.normal(jax.random.key(1), (1, LENGTH // 3, 1))
    noise = jax.random.normal(jax.random.key(2), (1, LENGTH, 1))
    loud, quiet, silent = (decode(gain * frames, noise) for gain in (1, 0.01, 0))

    def high(sound):
        rest = sound - model.reupsampled(sound)
        return float(jnp.sqrt(jnp.mean(jnp.square(rest[:, 256:-256]))))

    assert 50 < high(loud) / high(quiet) < 200
    assert float(jnp.abs(silent).max()) < 10 ** (-70 / 20)
    kept = resample(loud, 3, 1, lowpass_filter_width=6)[:, 64:-64]
    assert float(jnp.abs(kept - frames[:, 64:-64]).max()) < 0.3 * float(jnp.abs(frames).max())


def test_training_lowers_the_error_of_the_envelope(made):
    """Sounds whose high band is a tenth as loud as the low band: the net learns this in some steps."""
    model, variables = made
    white = jax.random.normal(jax.random.key(3), (4, LENGTH, 1))
    low = model.reupsampled(white)
    audio = 0.1 * low + 0.01 * (white - low)
    keys = jax.random.split(jax.random.key(4), 4)

    @jax.jit
    def step(params):
        def loss(params):
            return model.loss({**variables, "params": params}, keys, {"audio": audio})[1][0]["envelope"]

        value, gradient = jax.value_and_grad(loss)(params)
        return value, jax.tree.map(lambda leaf, change: leaf - 0.05 * change, params, gradient)

    errors, params = [], variables["params"]
    for _ in range(40):
        error, params = step(params)
        errors.append(float(error))
    # The rest is the scatter of the log-magnitudes of noise.
    assert errors[0] > 2 > 0.6 > errors[-1] > 0.8 * np.pi**2 / 24

"""The envelopes of the upsampler's high band and of the vocoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import drawn

import archijax as aj
from archijax.audio.mel import MelSpectrogram
from archijax.audio.resample import resample
from archijax.audio.stft import STFT
from archijax.models.envelope import Envelope, MelEnvelope, level_error, log_magnitudes, noise_level

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


FRAMES = np.float32(0.3 * np.random.default_rng(1).standard_normal((1, LENGTH // 3, 1)))


@pytest.fixture(scope="module")
def made():
    model = CONFIG.build()
    batch = {"audio": jnp.zeros((1, LENGTH, 1))}
    envelope = jax.jit(lambda key: model.init(key, batch)["params"]["envelope"])(jax.random.key(0))
    variables = drawn(model.init, batch)
    return model, {**variables, "params": {**variables["params"], "envelope": envelope}}


def test_noise_of_the_levels_has_the_log_magnitudes_that_the_error_compares():
    stft = STFT(128, 32)
    envelope = Envelope(stft, factor=2, channels=4, num_blocks=1)
    noise = jnp.float32(np.random.default_rng(0).standard_normal((4, 8192, 1)))
    levels = jnp.zeros((4, noise.shape[1] // 32 + 1, 65, 1))

    @jax.jit
    def both(noise):
        return log_magnitudes(stft.encode(noise))[:, :, 1:-1].mean(), level_error(levels, noise, stft, envelope.bins)

    measured, error = both(noise)
    assert float(measured) == pytest.approx(noise_level(stft), abs=0.02)
    # For levels of 1 and noise, the error is the variance of the log-magnitude of a complex Gaussian, pi^2 / 24. The
    # highest of the 33 frequencies is real, and varies more.
    assert float(error) == pytest.approx(np.pi**2 / 24, rel=0.12)


def test_the_low_band_is_known_and_silence_gives_silence(made):
    model, variables = made

    @jax.jit
    def both(frames):
        low = model.upsampled(frames)
        levels = model.envelope.apply({"params": variables["params"]["envelope"]}, low)
        return levels, log_magnitudes(model.envelope.stft.encode(low))

    levels, wanted = both(FRAMES)
    bins = model.envelope.bins
    assert bins == 18  # of 21
    np.testing.assert_allclose(levels[:, :, :bins], wanted[:, :, :bins], atol=1e-5)
    silent, _ = both(0 * FRAMES)
    assert float(silent.max()) < np.log(1e-3)


def test_a_louder_sound_gets_a_louder_high_band_and_keeps_its_low_band(made):
    model, variables = made
    noise = jnp.float32(np.random.default_rng(2).standard_normal((1, LENGTH, 1)))

    @jax.jit
    def parts(frames):
        sound = model.decode(variables, frames, noise, num_steps=1)
        rest = sound - model.reupsampled(sound)
        high = jnp.sqrt(jnp.mean(jnp.square(rest[:, 256:-256])))
        return sound, high, resample(sound, 3, 1, lowpass_filter_width=6)

    (_, loud, kept), (_, quiet, _), (silent, _, _) = (parts(np.float32(gain) * FRAMES) for gain in (1, 0.01, 0))
    assert 50 < float(loud) / float(quiet) < 200
    assert np.abs(silent).max() < 10 ** (-70 / 20)
    assert np.abs(kept - FRAMES)[:, 64:-64].max() < 0.3 * np.abs(FRAMES).max()


def test_training_lowers_the_error_of_the_envelope(made):
    """Sounds whose high band is a tenth as loud as the low band: the net learns this in some steps."""
    model, variables = made
    white = np.random.default_rng(3).standard_normal((4, LENGTH, 1)).astype(np.float32)
    low = jax.jit(model.reupsampled)(white)
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


class Oracle(MelEnvelope):
    """An envelope whose parameters are the log-levels themselves."""

    def __call__(self, *_):
        return self.get_variable("params", "levels")


def test_a_vocoder_divides_sounds_by_the_levels_and_restores_a_tone_from_noise():
    mel = MelSpectrogram(256, 64, sample_rate=RATE, n_mel_channels=20, normalize="log")
    model = aj.DiffusionVocoder(aj.DiffusionModel(aj.nn.SkipAdd()), mel, Oracle(mel.stft, 8, 0))
    # Loud, quiet and silent parts. The two channels differ.
    time = np.arange(4 * LENGTH) / RATE
    level = np.repeat(np.float32([1.0, 1e-2, 0.0, 0.3]), LENGTH)
    tones = [np.sin(2 * np.pi * hertz * time) for hertz in (440, 620)]
    sound = np.float32(0.3 * level * np.stack(tones))[:, :, None]  # one item per channel
    noise = np.random.default_rng(6).standard_normal(sound.shape).astype(np.float32)
    stereo = sound[:, :, 0].T[None]

    @jax.jit
    def all_of(stereo, sound, noise):
        levels = log_magnitudes(mel.stft.encode(sound)) - noise_level(mel.stft)
        own = {"envelope": {"levels": levels}, "to_flat": {"kernel": jnp.zeros((256, 20, 1))}}
        white, _ = model._conditioned({"params": own}, {"audio": stereo})
        made = model.finish({"params": own}, noise, mel.encode(stereo))
        return white["audio"], made, [log_magnitudes(mel.stft.encode(x)) for x in (made, stereo)]

    white, made, (heard, wanted) = jax.device_get(all_of(stereo, sound, noise))
    loudness = np.std(white.reshape(2, 4, LENGTH)[:, (0, 1, 3), 256:-256], axis=-1)
    assert loudness.max() < 1.1 * loudness.min()
    assert np.abs(made[:, 2 * LENGTH + 256 : 3 * LENGTH - 256]).max() < 1e-4
    loud = wanted > np.log(1e-2)
    assert np.sqrt(np.mean(np.square(heard - wanted)[loud])) < 0.6
    other = dataclasses.replace(mel, hop_length=32)
    with pytest.raises(aj.InputError, match="the spectrogram must have"):
        dataclasses.replace(model, mel=other)

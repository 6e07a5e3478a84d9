from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.audio.griffin_lim import griffin_lim, mel_to_audio, random_phase
from archijax.audio.mel import MelSpectrogram
from archijax.audio.stft import STFT, to_polar

SMALL = STFT(64, 16)


def clip(samples):
    """A chord of three notes with harmonics, [1, samples, 2] at 16 kHz. The channels have different phases."""
    turns = np.arange(samples)[:, None, None, None] * np.array([220.0, 277.2, 329.6])[:, None, None] / 16_000
    harmonics = np.arange(1, 12)[:, None]
    phases = np.random.default_rng(0).uniform(size=(3, 11, 2))
    partials = np.sin(2 * np.pi * (harmonics * turns + phases)) / harmonics
    return 0.1 * partials.sum((1, 2), dtype=np.float32)[None]


def test_true_phases_give_the_sound_back_at_any_length():
    x = clip(1037)
    y = jax.jit(lambda x: griffin_lim(*to_polar(SMALL.encode(x)), stft=SMALL, length=1037, num_steps=4))(x)
    np.testing.assert_allclose(y, x, atol=1e-4)


def test_steps_are_those_of_the_paper():
    stft, (count, n, hop) = STFT(8, 2), (6, 8, 2)
    magnitude = np.asarray(jax.random.uniform(jax.random.key(0), (count, 5)), np.float64)
    phase = np.asarray(random_phase(jax.random.split(jax.random.key(1), 1), (1, count, 5, 1)), np.float64)[0, :, :, 0]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    total = (count - 1) * hop + n

    def synthesis(z):
        sound, weight = np.zeros(total), np.zeros(total)
        for i, frame in enumerate(np.fft.irfft(z, n, norm="ortho")):
            sound[i * hop : i * hop + n] += window * frame
            weight[i * hop : i * hop + n] += window**2
        return sound / np.where(weight > 0, weight, 1)

    def analysis(x):
        return np.stack([np.fft.rfft(window * x[i * hop : i * hop + n], norm="ortho") for i in range(count)])

    t = np.exp(1j * phase)
    before = None
    for _ in range(4):
        c = analysis(synthesis(magnitude * t / np.abs(t)))
        t = c + 0.9 * (c - before) if before is not None else c
        before = c
    expected = synthesis(magnitude * t / np.abs(t))[n // 2 :][:10]

    run = jax.jit(partial(griffin_lim, stft=stft, length=10, num_steps=3, momentum=0.9))
    ours = run(*(jnp.asarray(a, jnp.float32)[None, :, :, None] for a in (magnitude, phase)))
    np.testing.assert_allclose(ours[0, :, 0], expected, atol=1e-4)


def test_momentum_comes_nearer_to_the_magnitudes():
    stft = STFT(256, 64)

    @jax.jit
    def decibels(x):
        magnitude = jnp.abs(stft.encode(x))
        phase = random_phase(jax.random.split(jax.random.key(0), 1), magnitude.shape)
        made = [
            griffin_lim(magnitude, phase, stft=stft, length=4096, num_steps=num_steps, momentum=momentum)
            for momentum, num_steps in ((0.0, 0), (0.0, 32), (0.99, 32))
        ]
        errors = [jnp.linalg.norm(jnp.abs(stft.encode(y)) - magnitude) for y in made]
        return 20 * jnp.log10(jnp.stack(errors) / jnp.linalg.norm(magnitude))

    start, plain, fast = decibels(clip(4096))
    assert plain < start - 5
    assert fast < plain - 1


def test_a_mel_spectrogram_becomes_a_sound_of_nearly_the_same():
    mel = MelSpectrogram(512, 128, sample_rate=16_000, n_mel_channels=40)
    x = clip(6000)
    keys = jax.random.split(jax.random.key(0), 1)

    @jax.jit
    def back(x):
        wanted = mel.encode(x)
        y = mel_to_audio(wanted, keys, mel, 6000)
        return y, wanted, mel.encode(y)

    y, wanted, found = back(x)
    assert y.shape == x.shape
    assert np.linalg.norm(found - wanted) < 0.25 * np.linalg.norm(wanted)
    assert jax.eval_shape(lambda x: mel_to_audio(mel.encode(x), keys, mel), x).shape == (1, 46 * 128, 2)


def test_an_item_has_its_own_key():
    keys = jax.random.split(jax.random.key(0), 3)
    phases = random_phase(keys, (3, 2, 5, 1))
    np.testing.assert_array_equal(phases[1:2], random_phase(keys[1:2], (1, 2, 5, 1)))
    assert np.abs(phases).max() <= np.pi
    assert len(np.unique(phases)) == 30


def test_silence_and_constants_have_finite_values_and_gradients():
    levels = np.stack([np.zeros((256, 1)), np.ones((256, 1))]).astype(np.float32)

    def total(magnitude, phase):
        return jnp.sum(jnp.sin(griffin_lim(magnitude, phase, SMALL, 256, num_steps=16)))

    @jax.jit
    def derived(levels):
        magnitude = jnp.abs(SMALL.encode(levels))
        return jax.value_and_grad(total, argnums=(0, 1))(magnitude, jnp.zeros_like(magnitude))

    value, gradients = derived(levels)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_gradients_flow():
    weights = np.random.default_rng(1).standard_normal((1, 256, 2), np.float32)

    @jax.jit
    def derived(x):
        magnitude = jnp.abs(SMALL.encode(x))
        phase = random_phase(jax.random.split(jax.random.key(0), 1), magnitude.shape)

        def total(magnitude):
            return jnp.sum(weights * griffin_lim(magnitude, phase, SMALL, 256, num_steps=2))

        return magnitude, *jax.value_and_grad(total)(magnitude)

    magnitude, value, gradient = map(np.asarray, derived(clip(256)))
    # The sound is proportional to the magnitudes, so Euler's theorem for homogeneous functions gives this value.
    assert float(np.sum(gradient * magnitude)) == pytest.approx(float(value), rel=1e-3)


def test_arrays_that_do_not_fit_are_named():
    with pytest.raises(aj.InputError, match=r"\[batch, frames, 33, channels\]"):
        griffin_lim(jnp.zeros((1, 4, 32, 1)), jnp.zeros((1, 4, 32, 1)), SMALL, 16)
    with pytest.raises(aj.InputError, match="at most 80 samples"):
        jax.eval_shape(lambda a: griffin_lim(a, a, SMALL, 81), jnp.zeros((1, 4, 33, 1)))

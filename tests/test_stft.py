import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.audio.stft import STFT, from_polar, to_polar


@pytest.mark.parametrize("settings", [(1023, 256), (1024, 256), (64, 16, 48), (63, 16, None, False)])
def test_decoding_inverts_encoding(settings):
    stft = STFT(*settings)
    x = jax.random.normal(jax.random.key(0), (2, 4096, 3))
    np.testing.assert_allclose(stft.decode(stft.encode(x), 4096), x, atol=1e-5)


def test_a_sine_is_in_its_bin_and_noise_keeps_its_variance():
    stft = STFT(64, 16)
    sine = jnp.cos(2 * jnp.pi * 5 / 64 * jnp.arange(512.0))[None, :, None]
    spectrum = jnp.abs(stft.encode(sine))[0, 4:-4, :, 0]
    assert set(np.argmax(np.asarray(spectrum), axis=1).tolist()) == {5}
    noise = stft.encode(jax.random.normal(jax.random.key(0), (4, 8192, 1)))[:, :, 1:-1]
    assert float(jnp.mean(jnp.abs(noise) ** 2)) == pytest.approx(3 / 8, rel=0.05)  # the mean square of a Hann window


def test_silence_has_finite_gradients():
    stft = STFT(64, 16)

    def energy(x):
        magnitude, phase = to_polar(stft.encode(x))
        return jnp.sum(magnitude) + jnp.sum(phase) + jnp.sum(stft.decode(from_polar(magnitude, phase), 256))

    for x in (jnp.zeros((1, 256, 1)), jnp.ones((1, 256, 1))):
        assert np.isfinite(jax.grad(energy)(x)).all()


def test_settings_and_lengths_that_do_not_fit_are_named():
    with pytest.raises(aj.InputError, match="hop_length 0"):
        STFT(64, 0)
    with pytest.raises(aj.InputError, match="window_length 80"):
        STFT(64, 16, 80)
    with pytest.raises(aj.InputError, match="length 32 is too short for n_fft 64: use more than 32"):
        STFT(64, 16).encode(jnp.zeros((1, 32, 1)))
    with pytest.raises(aj.InputError, match="hold no 1000 samples"):
        STFT(64, 16).decode(jnp.zeros((1, 4, 33, 1), jnp.complex64), 1000)

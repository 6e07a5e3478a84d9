import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.sampling import windowed

X = jax.random.normal(jax.random.key(0), (2, 50, 1))
T = jnp.array([0.3, 0.7])


@pytest.mark.parametrize(("window", "hop"), [(16, 8), (16, 16), (20, 7), (50, 25), (1, 1)])
@pytest.mark.parametrize("circular", [False, True])
def test_windows_of_what_works_sample_by_sample_change_nothing(window, hop, circular):
    denoise = lambda x, t: jnp.sin(3 * x) + t[:, None, None]  # noqa: E731
    found = jax.jit(windowed(denoise, window, hop, circular=circular))(X, T)
    np.testing.assert_allclose(found, denoise(X, T), atol=1e-5)


def test_windows_blend_without_a_seam():
    # Every window predicts the mean of its input. Blending limits the changes of the level.
    denoise = lambda x, t: jnp.broadcast_to(x.mean(1, keepdims=True), x.shape)  # noqa: E731
    steps = jnp.repeat(jnp.arange(8.0), 16)[None, :, None]
    found = windowed(denoise, 32, 16)(steps, T[:1])[0, :, 0]
    assert float(found[0]) == pytest.approx(0.5)
    assert float(found[-1]) == pytest.approx(6.5)
    assert float(jnp.abs(jnp.diff(found)).max()) < 0.13


def test_a_circular_sound_goes_on_at_its_beginning():
    denoise = lambda x, t: jnp.broadcast_to(x.mean(1, keepdims=True), x.shape)  # noqa: E731
    found = windowed(denoise, 16, 8, circular=True)
    rolled = jnp.roll(X[:, :48], 8, axis=1)
    np.testing.assert_allclose(found(rolled, T), jnp.roll(found(X[:, :48], T), 8, axis=1), atol=1e-5)


def test_windows_that_cannot_be_are_refused():
    with pytest.raises(aj.InputError, match="hop between windows is 9"):
        windowed(lambda x, t: x, 8, 9)
    with pytest.raises(aj.InputError, match="the sound has 50 samples: at least one window of 64"):
        windowed(lambda x, t: x, 64, 32)(X, T)

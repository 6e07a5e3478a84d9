import numpy as np
import pytest

from archijax.audio.loudness import gain


def test_normalize():
    rng = np.random.default_rng(0)
    audio = (0.01 * rng.standard_normal((1_000, 2))).astype(np.float32)
    scaled = audio * gain(audio, -18.0)
    assert scaled.dtype == np.float32
    assert 20 * np.log10(np.sqrt(np.mean(scaled**2))) == pytest.approx(-18, abs=1e-3)
    assert np.abs(audio * gain(audio, 0.0)).max() == pytest.approx(1, abs=1e-6)
    silence = np.full((10, 1), 1e-6, np.float32)
    np.testing.assert_array_equal(gain(silence, -18.0), 1)

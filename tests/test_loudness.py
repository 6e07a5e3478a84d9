import numpy as np
import pytest
import soundfile

from archijax.audio import files
from archijax.audio.loudness import gain, loudness
from archijax.errors import InputWarning


def test_normalize():
    rng = np.random.default_rng(0)
    audio = (0.01 * rng.standard_normal((1_000, 2))).astype(np.float32)
    scaled = audio * gain(audio, -18.0)
    assert scaled.dtype == np.float32
    assert 20 * np.log10(np.sqrt(np.mean(scaled**2))) == pytest.approx(-18, abs=1e-3)
    assert np.abs(audio * gain(audio, 0.0)).max() == pytest.approx(1, abs=1e-6)


def test_gain_is_bounded_and_has_no_cliff():
    noise = np.random.default_rng(0).standard_normal((1_000, 1)).astype(np.float32)
    noise /= np.sqrt(np.mean(noise**2))
    levels = 10 ** np.linspace(-12, 0, 481)
    gains = np.array([gain(level * noise, -14.0) for level in levels])
    assert gains.max() == pytest.approx(10**1.5)
    assert gain(np.zeros((10, 1), np.float32), -14.0) == pytest.approx(10**1.5)
    assert gain(1e-5 * noise, -14.0, limit=6.0) == pytest.approx(10**0.3)
    # From each level to the next one, which is 0.5 dB louder, the gain falls by at most 0.5 dB and does not rise.
    steps = 20 * np.log10(gains[1:] / gains[:-1])
    assert steps.max() <= 1e-4
    assert steps.min() >= -0.51


@pytest.mark.parametrize(
    ("peak", "scale"),
    [(0.9, 1), (3.9, 1), (100, 100), (9_818, 32_768), (32_768, 32_768), (40_000, 40_000), (2.0**31, 2.0**31)],
)
@pytest.mark.parametrize("suffix", ["wav", "aiff", "caf"])
def test_floats_far_beyond_full_scale_are_brought_back(tmp_path, peak, scale, suffix):
    time = np.arange(400_000) / 44_100
    # The sound starts quietly, so that its beginning does not show the scale.
    sound = (np.sin(2 * np.pi * 100 * time) * np.linspace(0, 1, len(time)) ** 2)[:, None]
    sound *= peak / np.abs(sound).max()
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, sound, 44_100, subtype="FLOAT")
    if scale > 1:
        with pytest.warns(InputWarning, match="divided by"):
            files.verify(path)
    # The file warns only once. A second warning would be an error here.
    np.testing.assert_allclose(files.read(path), sound / scale, atol=1e-6)
    np.testing.assert_allclose(files.read(path, start=10_000, frames=900), sound[10_000:10_900] / scale, atol=1e-6)


def sine(hertz, amplitude, seconds, rate, channels=1):
    wave = amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


@pytest.mark.parametrize("rate", [48_000, 44_100, 16_000])
def test_loudness_is_that_of_the_standard(rate):
    # BS.1770-4, annex 1: 997 Hz at full scale in one channel. EBU Tech 3341, case 1: both channels at -23 dBFS.
    assert loudness(sine(997, 1.0, 5, rate), rate) == pytest.approx(-3.01, abs=0.1)
    both = sine(1_000, 10 ** (-23 / 20), 60, rate, channels=2)
    assert loudness(both, rate) == pytest.approx(-23.0, abs=0.1)
    # Case 3: far quieter parts and silence do not count.
    quiet = sine(1_000, 10 ** (-36 / 20), 10, rate, channels=2)
    assert loudness(np.concatenate([quiet, both, quiet, 0 * both]), rate) == pytest.approx(-23.0, abs=0.1)
    # Low tones have a lower loudness.
    assert loudness(sine(40, 0.1, 5, rate), rate) < loudness(sine(1_000, 0.1, 5, rate), rate) - 5


def test_loudness_of_short_and_of_silent_sounds():
    assert loudness(sine(997, 1.0, 0.1, 48_000), 48_000) == pytest.approx(-3.01, abs=0.5)
    assert loudness(np.zeros((48_000, 2), np.float32), 48_000) == -np.inf


def test_gain_brings_a_sound_to_a_loudness():
    for amplitude, hertz in ((0.01, 100), (0.3, 1_000), (0.5, 3_000)):
        sound = sine(hertz, amplitude, 2, 16_000, channels=2)
        brought = sound * gain(sound, -20.0, sample_rate=16_000)
        assert loudness(brought, 16_000) == pytest.approx(-20.0, abs=0.01)
    assert gain(np.zeros((16_000, 1), np.float32), -20.0, sample_rate=16_000) == np.float32(10 ** (30 / 20))

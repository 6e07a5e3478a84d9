"""The measures of the evidence, on models with known quality."""

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

import archijax as aj
from benchmarks.evidence.__main__ import NAMES, main
from benchmarks.evidence.autoencoders import _pooled, wave
from benchmarks.evidence.clips import Case
from benchmarks.unconditional import distances
from benchmarks.upsampling import baselines, measured

RATE, LENGTH = 4000, 1024


class Keeper:
    """An autoencoder that keeps every sample and adds a tone with the amplitude in its variables. It claims to keep a
    quarter."""

    latent_channels, downsample_factor = 16, 64

    def init(self, key, batch):
        return 1.0

    def encode(self, variables, audio):
        codes = jnp.arange(audio.shape[1]) % 250
        return audio, {"codes": jnp.broadcast_to(codes[None, :, None], (*audio.shape[:2], 1))}

    def decode(self, variables, latent):
        return latent + variables * 0.1 * jnp.sin(2 * jnp.arange(latent.shape[1], dtype=jnp.float32))[:, None]


def test_the_table_and_the_promises_of_sound(tmp_path):
    rng = np.random.default_rng(0)
    time = np.arange(2 * LENGTH + 100) / RATE
    low, high = np.sin(2 * np.pi * 200 * time), np.sin(2 * np.pi * 1500 * time)
    for index in range(2):
        soundfile.write(tmp_path / f"{index}.wav", 0.3 * low + 0.3 * high + rng.normal(0, 1e-3, len(time)), RATE)
    coder = aj.configs.CoderConfig(channels=8, multipliers=(1, 1), factors=(2,), num_blocks=(1,))
    config = aj.configs.AutoEncoderConfig(
        coder=coder, bottleneck=(aj.configs.QuantizerConfig(300),), sample_rate=RATE, channels=1, length=LENGTH
    )
    rows, promises = wave(Case(aj.Pipeline(config, Keeper(), 0.01), tmp_path, [], sorted(tmp_path.glob("*.wav"))))

    sdr = {name: row["SI-SDR (dB)"] for name, row in rows.items()}
    # The ratio of two tones of 0.3 to an error of 0.001 or of 0.1. Resampling keeps the lower of two equal tones.
    assert sdr["trained"] == pytest.approx(10 * np.log10(2 * 0.3**2 / 0.001**2), abs=0.2)
    assert sdr["untrained"] == pytest.approx(10 * np.log10(2 * 0.3**2 / 0.1**2), abs=0.2)
    assert sdr["resampled to 1000 Hz"] == pytest.approx(0, abs=0.3)
    assert rows["trained"]["log-spectral distance (dB)"] < rows["untrained"]["log-spectral distance (dB)"]
    assert list(promises.values()) == [True, True, True]
    assert "more than 80 % of 300 codes used at each level: 83.3%" in promises


def test_pooling_keeps_what_varies_slowly():
    ramp = np.exp(np.linspace(-1, 1, 32, dtype=np.float32))[None, None, :, None] * np.ones((1, 16, 1, 1), np.float32)
    np.testing.assert_allclose(_pooled(jnp.asarray(ramp), 16, 32), ramp, rtol=1e-5)
    pooled = np.asarray(_pooled(jnp.asarray(ramp), 4, 8))
    np.testing.assert_allclose(pooled[:, :, 6:-6], ramp[:, :, 6:-6], rtol=1e-3)
    noisy = ramp * np.exp(np.random.default_rng(0).normal(0, 1, ramp.shape)).astype(np.float32)
    assert np.std(np.log(np.asarray(_pooled(jnp.asarray(noisy), 4, 8)) / ramp)) < 0.5


def test_an_upsampler_is_compared_with_sinc_and_noise():
    rng, time = np.random.default_rng(1), np.arange(8 * LENGTH)[:, None] / RATE
    # A loud second, then a quiet one: stationary noise is too quiet, then too loud.
    gain = np.where(time < 1, 0.1, 0.001)
    originals = [np.float32(gain * rng.normal(size=time.shape)) for _ in range(3)]
    config = aj.configs.UpsamplerConfig(aj.configs.UNetConfig((8,), (1,), (1,)), RATE, 1, LENGTH, factor=2)
    table = baselines(config.build(), {}, originals)
    assert list(table) == ["sinc", "noise"]
    errors = {name: np.mean(measured(sounds, originals, 2)[0]) for name, sounds in table.items()}
    assert measured(originals, originals, 2) == ([0.0] * 3, [0.0] * 3)
    # The distance of two independent noises of equal levels is 7.9 dB, and more where the level changes.
    other = [np.float32(gain * rng.normal(size=time.shape)) for _ in range(3)]
    assert 7.9 < np.mean(measured(other, originals, 2)[0]) < 9
    assert errors["sinc"] > errors["noise"] > 15
    louder = [2 * sound for sound in originals]
    np.testing.assert_allclose(measured(louder, originals, 2)[1], 6.0, atol=0.1)


def test_sounds_of_the_same_kind_are_near_and_noise_is_far():
    rng, time = np.random.default_rng(2), np.arange(2 * RATE)[:, None] / RATE
    tones = [np.float32(0.1 * np.sin(2 * np.pi * rng.uniform(200, 900) * time)) for _ in range(24)]
    noise = [np.float32(0.07 * rng.normal(size=time.shape)) for _ in range(12)]
    found = distances({"tones": tones[:12], "noise": noise}, tones[12:], RATE)
    assert abs(found["tones"]) < 0.2 * found["noise"]


def test_every_name_is_a_config():
    from train.__main__ import load_config

    for name in NAMES:
        file, colon, variant = name.partition(":")
        load_config(f"configs/{file}.py{colon}{variant}")


def test_unknown_configs_are_refused_by_name(capsys):
    assert main(["autoencoder_waves"]) == 2
    assert "There is no config autoencoder_waves: known are" in capsys.readouterr().err
    assert main(["upsampler:small"]) == 2
    assert "upsampler:small is not measured here: measured are autoencoder_wave," in capsys.readouterr().err

"""The measures of benchmarks/, on sounds of known quality."""

import numpy as np
import pytest
from nets import variables_of

import archijax as aj
from benchmarks.codec import pitch_kept, resampled
from benchmarks.judges.pitch import pitch
from benchmarks.notes import played
from benchmarks.unconditional import distances
from benchmarks.upsampling import baselines, measured

RATE, LENGTH = 4000, 1024


def test_every_row_is_played_from_its_own_conditions_and_noise():
    config = aj.configs.DiffusionConfig(
        aj.configs.UNetConfig((8,), (1,), (1,), modulation_features=16),
        sample_rate=RATE,
        channels=1,
        length=256,
        conditioners=(aj.configs.NumberConfig("tempo", 40, 240),),
    )
    pipeline = aj.Pipeline(config, config.build(), variables_of(config, 1))
    settings = aj.SampleSettings(num_steps=1)
    rows = [{"tempo": 60}, {"tempo": 180}, {"tempo": 60}, {}]
    sounds = played(pipeline, rows, settings)

    def alone(index, conditions):
        ((_, _, sound),) = pipeline.generation(settings, [""] * 4, [(index, index)], conditions=conditions).run()
        return sound

    for index, (row, sound) in enumerate(zip(rows, sounds, strict=True)):
        np.testing.assert_allclose(sound, alone(index, row), atol=1e-5)
    assert np.abs(sounds[0] - alone(0, rows[1])).max() > 1e-3
    assert np.abs(sounds[0] - sounds[2]).max() > 1e-3
    with pytest.raises(aj.InputError, match="conditioned on tempo, but no sound of the set has this field"):
        played(pipeline, [{"pitch": 60}], settings)


def test_a_codec_is_compared_with_resampling_and_by_pitch():
    time = np.arange(16_000)[:, None] / 16_000
    notes = [sum(np.sin(2 * np.pi * n * hertz * time) / n for n in range(1, 9)) for hertz in (200, 400, 1500)]
    noise = np.random.default_rng(0).normal(size=time.shape)
    # Resampling to 2000 Hz keeps the partials below 1000 Hz, and thus none of the last note.
    low = [resampled(note, 16_000, 2000.0) for note in notes]
    assert [len(sound) for sound in low] == [16_000] * 3
    kept = sum(np.sin(2 * np.pi * n * 200 * time) / n for n in range(1, 5))
    np.testing.assert_allclose(low[0][2000:-2000], kept[2000:-2000], atol=0.02)
    np.testing.assert_allclose(low[2][2000:-2000], 0, atol=0.02)
    assert resampled(noise, 16_000, 20_000.0) is noise
    true = [pitch(sound, 16_000) for sound in (*notes, noise)]
    # The pitch of noise is not clear, so noise is no original to compare with.
    assert pitch_kept([*low, noise], true, 16_000) == (2, 3)
    higher = [sum(np.sin(2 * np.pi * n * 2 * hertz * time) / n for n in range(1, 5)) for hertz in (200, 400, 1500)]
    assert pitch_kept([notes[0], *higher[1:]], true[:3], 16_000) == (1, 3)
    moved = sum(np.sin(2 * np.pi * n * 200 * 2 ** (0.3 / 12) * time) / n for n in range(1, 9))
    assert [pitch_kept([moved], true[:1], 16_000, right) for right in (0.5, 0.2)] == [(1, 1), (0, 1)]


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

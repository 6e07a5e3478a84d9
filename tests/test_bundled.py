"""The bundled models: the contents of their folders, and the quality of their sounds."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile as sf
import soxr

import archijax as aj
from archijax.pretrained.trained import BUNDLED
from benchmarks.judges.pitch import pitch

REAL = Path(__file__).parent.parent / "demo" / "real"
MB = 1e6


def folders():
    return sorted(path for path in BUNDLED.iterdir() if path.is_dir())


def test_they_are_small_and_their_cards_say_where_they_come_from():
    sizes = [sum(path.stat().st_size for path in folder.iterdir()) for folder in folders()]
    assert sum(sizes) < 30 * MB
    for folder in folders():
        assert all(path.stat().st_size < 16 * MB for path in folder.iterdir())
        card = (folder / "README.md").read_text()
        assert "license: " in card
        assert "## Data" in card
        assert "## Figures" in card


def test_the_codec_keeps_the_pitch_and_leaves_its_latents_room():
    pipeline = aj.from_pretrained("codec-16k")
    paths = sorted(REAL.glob("*.flac"))
    sounds = [sf.read(path, dtype="float32")[0][:32_768, None] for path in paths]
    batch = np.stack([np.pad(sound, ((0, 32_768 - len(sound)), (0, 0))) for sound in sounds])

    @jax.jit
    def coded(variables, sounds):
        latent, _ = pipeline.model.encode(variables, sounds)
        return latent, pipeline.model.decode(variables, latent)

    latent, made = map(np.asarray, coded(pipeline.variables, batch))
    assert made.shape == batch.shape
    cents = [
        1200 * np.log2(pitch(ours[:, 0], 16_000).hertz / pitch(theirs[:, 0], 16_000).hertz)
        for ours, theirs in zip(made, batch, strict=True)
    ]
    assert np.mean(np.abs(cents) < 20) >= 0.9
    assert np.mean(np.abs(latent) > 0.98) < 0.05


def test_the_upsampler_keeps_the_low_band_and_adds_a_fitting_high_band():
    pipeline = aj.from_pretrained("upsampler-48k")
    # A decaying pluck with partials up to 24 kHz, then silence.
    time = np.arange(49_152) / 48_000
    partials = [np.sin(2 * np.pi * 220 * n * time) * np.exp(-time * (6 + n / 4)) / n for n in range(1, 109)]
    whole = np.float32(0.2 * np.sum(partials, axis=0) * (time < 0.7))
    low = soxr.resample(whole, 48_000, 16_000)[:, None]
    (made,), rate = pipeline.upsample(low, sample_rate=16_000)
    assert (rate, made.shape) == (48_000, (3 * len(low), 1))
    again = soxr.resample(made[:, 0], 48_000, 16_000)[: len(low)]
    assert np.sum((again - low[:, 0]) ** 2) < 0.01 * np.sum(low**2)

    def high(sound):
        """Levels in dB of the band above 8.5 kHz in frames of 43 ms."""
        frames = np.abs(np.fft.rfft(np.reshape(sound[: 24 * 2048], (24, 2048)) * np.hanning(2048)))[:, 363:]
        return 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)

    ours, theirs = high(made[:, 0]), high(whole)
    interpolated = high(soxr.resample(low[:, 0], 16_000, 48_000))
    loud = slice(1, 8)
    assert np.mean(np.abs(ours[loud] - theirs[loud])) < 0.5 * np.mean(np.abs(interpolated[loud] - theirs[loud]))
    assert np.abs(made[40_000:]).max() < 10 ** (-70 / 20)


@pytest.mark.slow
def test_notes_plays_what_is_asked_for(unchecked):
    prompts = {
        "a soft flute playing C5": 72,
        "a loud cello, C3": 48,
        "grand piano A3": 57,
        "a trumpet playing G4": 67,
        "vibraphone D5": 74,
        "an electric bass, E2": 40,
        "a clarinet playing F4": 65,
        "violin A4": 69,
    }
    sounds, rate = aj.from_pretrained("notes").generate(list(prompts), seed=1)
    heard = np.array([pitch(sound, rate).midi for sound in sounds])
    asked = np.array(list(prompts.values()))
    assert np.mean(np.abs(heard - asked) < 0.5) >= 0.75
    # Each prompt is followed by a prompt with another note.
    assert np.mean(np.abs(heard - np.roll(asked, 1)) < 0.5) <= 0.25
    assert json.loads((BUNDLED / "notes" / "config.json").read_text())["autoencoder"] == "codec-16k"

import json

import numpy as np
import pytest
import soxr

from archijax.errors import InputError
from benchmarks.evidence import music, table

RATE, LENGTH = 8000, 4096


def _clips(tracks: dict[str, list[np.ndarray]], each: int, seed: int) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    clips, labels = [], []
    for name, pieces in tracks.items():
        for i in range(each):
            piece = pieces[i % len(pieces)]
            start = int(rng.integers(len(piece) - LENGTH))
            clips.append(piece[start : start + LENGTH])
            labels.append(name)
    return np.stack(clips), labels


def _pieces(numbers: range) -> dict[str, list[np.ndarray]]:
    return {
        name: [soxr.resample(music.track(name, n, 0, (3.5, 4.5))[0], music.RATE, RATE) for n in numbers]
        for name in music.INSTRUMENTS
    }


@pytest.fixture(scope="module")
def heldout():
    return _clips(_pieces(range(9, 11)), 4, seed=1)


@pytest.fixture(scope="module")
def training():
    return _clips(_pieces(range(1, 9)), 32, seed=2)


@pytest.fixture(scope="module")
def classifier(training):
    return table.fit(*training, RATE)


def test_heldout_real_clips_are_recognised(classifier, heldout):
    clips, labels = heldout
    result = table.score(classifier, clips, labels)
    assert result.total == 24
    assert result.hits >= 23, result.text("held-out")


@pytest.mark.parametrize("snr", [25, 15, 10])
def test_hiss_does_not_decide(classifier, heldout, snr):
    clips, labels = heldout
    mono = clips.mean(axis=-1)
    noise = np.random.default_rng(0).standard_normal(mono.shape)
    noise *= np.sqrt(np.mean(mono**2, axis=1, keepdims=True)) * 10 ** (-snr / 20)
    result = table.score(classifier, mono + noise, labels)
    assert result.hits >= 22, result.text(f"{snr} dB")


def test_what_is_not_the_prompt_scores_near_chance(classifier, heldout):
    clips, labels = heldout
    rng = np.random.default_rng(3)
    assert table.score(classifier, rng.standard_normal(clips.shape), labels).hits <= 8
    assert table.score(classifier, np.zeros_like(clips), labels).hits <= 8
    assert table.score(classifier, clips, list(rng.permutation(labels))).hits <= 8


def test_level_and_channels_say_nothing(classifier, heldout):
    clips, _ = heldout
    expected = classifier.predict(clips)
    assert classifier.predict(0.01 * clips) == expected
    assert classifier.predict(clips.mean(axis=-1)) == expected
    assert classifier.predict(clips.mean(axis=-1, keepdims=True)) == expected


@pytest.mark.parametrize(("rate", "length"), [(8000, 300), (11_025, 5000), (48_000, 8000), (1000, 700)])
def test_any_rate_and_length(rate, length):
    rng = np.random.default_rng(0)
    turn = 2 * np.pi * rng.uniform(100, 200, (8, 1)) * np.arange(length) / rate
    clips = np.concatenate([np.sin(turn), rng.standard_normal((8, length))])
    labels = ["tone"] * 8 + ["noise"] * 8
    heard = table.fit(clips[::2], labels[::2], rate).predict(clips[1::2])
    assert heard == labels[1::2]


def test_distance_orders_real_sound_good_copies_and_noise(training, heldout, monkeypatch):
    real, clips = training[0].mean(axis=-1), heldout[0].mean(axis=-1)
    rng = np.random.default_rng(0)
    white = rng.standard_normal(clips.shape)
    # Noise with the mean spectrum of the real clips is the best result without tones.
    spectrum = np.sqrt(np.mean(np.abs(np.fft.rfft(real, axis=1)) ** 2, axis=0))
    coloured = np.fft.irfft(np.fft.rfft(white, axis=1) * spectrum, n=clips.shape[1], axis=1)

    def noisy(decibels):
        loudness = np.sqrt(np.mean(clips**2, axis=1, keepdims=True))
        return clips + loudness * 10 ** (-decibels / 20) * rng.standard_normal(clips.shape)

    sets = [clips, noisy(30), noisy(20), noisy(10), coloured, white, np.zeros_like(white)]
    # All distances need the embedding of the same real clips.
    embed, known = table.log_mel_embedding, {}

    def embed_once(levelled, rate):
        key = levelled.shape, levelled.tobytes()
        if key not in known:
            known[key] = embed(levelled, rate)
        return known[key]

    monkeypatch.setattr(table, "log_mel_embedding", embed_once)
    distances = [table.distance(each, real, RATE) for each in sets]
    assert abs(distances[0]) < 0.01
    # Each distance exceeds the previous one by more than the random error of a distance between real sounds.
    assert min(np.diff(distances)) > 0.01, distances
    # The distance does not depend on the level, the channels or the number of clips.
    assert table.distance(0.1 * heldout[0], real, RATE) == pytest.approx(distances[0], abs=2e-3)
    assert table.distance(coloured[::2], real, RATE) == pytest.approx(distances[4], rel=0.1)


def test_table_text_and_dict():
    result = table.Table(("organ", "pad"), np.array([[3, 1], [0, 4]]))
    assert (result.hits, result.total) == (7, 8)
    assert json.loads(json.dumps(result.as_dict())) == {
        "labels": ["organ", "pad"],
        "counts": [[3, 1], [0, 4]],
        "hits": 7,
        "total": 8,
    }
    title, header, organ, pad = result.text("Generated").splitlines()
    assert title == "Generated: 7 of 8"
    assert header.split() == ["prompt", "organ", "pad"]
    assert organ.split() == ["organ", "3", "1"]
    assert pad.split() == ["pad", ".", "4"]
    assert len({len(header), len(organ), len(pad)}) == 1, "columns line up"


def test_bad_input_is_one_sentence(classifier):
    clips = np.ones((2, 100, 1))
    with pytest.raises(InputError, match="2 clips came with 1 labels"):
        table.fit(clips, ["a"], RATE)
    with pytest.raises(InputError, match="at least two kinds"):
        table.fit(clips, ["a", "a"], RATE)
    with pytest.raises(InputError, match="but not 'tuba'"):
        table.score(classifier, clips, ["tuba", "organ"])
    with pytest.raises(InputError, match=r"shape \(2, 0, 1\)"):
        classifier.predict(clips[:, :0])
    with pytest.raises(InputError, match="not finite"):
        classifier.predict(clips * np.nan)
    with pytest.raises(InputError, match="sample rate is 0"):
        table.distance(clips, clips, 0)

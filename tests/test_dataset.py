"""Crops of sounds: resampled, varied, as loud as wanted, and kept in memory."""

import contextlib
import shutil

import numpy as np
import pytest
from test_batches import texts, tokenize

from archijax.audio import files
from archijax.audio.loudness import loudness
from archijax.errors import InputError
from train.batches import batches
from train.dataset import Crops, DataConfig, Sounds, split
from train.manifest import Entry, Manifest, index


def test_crops_round_to_the_nearest():
    def entry(frames, rate):
        return Entry("a", 0, 0, frames, rate, 1, {})

    config = DataConfig(sample_rate=8_000, length=1_000)
    cases = [(1, 8_000), (1_499, 8_000), (1_500, 8_000), (4_000, 16_000)]
    crops = Crops(Manifest("", tuple(entry(*case) for case in cases)), config)
    assert list(crops.counts) == [1, 1, 2, 2]
    assert [crops[k] for k in range(len(crops))] == [(0, 0, 1), (1, 0, 1), (2, 0, 2), (2, 1, 2), (3, 0, 2), (3, 1, 2)]


def _heard(manifest, config, count):
    iterator = batches(manifest, config, batch_size=8, seed=0)
    return np.concatenate([next(iterator)["audio"] for _ in range(count)])


def test_mixed_sources_are_converted(tmp_path):
    root = tmp_path / "mixed"
    root.mkdir()
    time = np.arange(22_050)[:, None] / 22_050
    files.write(root / "a_quiet tone.wav", 0.01 * np.sin(2 * np.pi * 440 * time), 22_050)
    files.write(root / "b.flac", np.full((100, 2), 0.5), 44_100)
    config = DataConfig(sample_rate=16_000, channels=2, length=4_000, normalize=-20.0)
    iterator = batches(index(root, tmp_path / "m.json"), config, batch_size=5, seed=0, tokenize=tokenize)
    batch = next(iterator)
    assert batch["audio"].shape == (5, 4_000, 2)
    level = 20 * np.log10(np.sqrt(np.mean(batch["audio"] ** 2, axis=(1, 2))))
    tone = level > -20.5
    assert tone.sum() == 4
    np.testing.assert_allclose(level[tone], -20, atol=0.01)
    # A hundred frames at 44.1 kHz are 36 frames here. They cannot reach -20 dBFS, because their peak is limited to 1.
    assert 0.99 < np.abs(batch["audio"][~tone]).max() <= 1
    assert set(texts(batch)) <= {"a quiet tone", "b", ""}


def test_split():
    def listed(count):
        return Manifest("", tuple(Entry(f"{i:03}.wav", 1, 1, 1, 8_000, 1, {}) for i in range(count)))

    train, validation = split(listed(300), 0.2)
    assert 40 < len(validation.entries) < 80
    assert sorted((*train.entries, *validation.entries), key=lambda e: e.path) == list(listed(300).entries)
    assert list(train.entries) == sorted(train.entries, key=lambda e: e.path)
    # A file stays on its side when others are added.
    more = split(listed(400), 0.2)
    assert set(e.path for e in validation.entries) == {e.path for e in more[1].entries if e.path < "300"}
    assert split(listed(300), 0.2, seed=1)[1] != validation
    assert [len(part.entries) for part in split(listed(2), 0.001)] == [1, 1]
    assert [len(part.entries) for part in split(listed(2), 0.999)] == [1, 1]
    assert [len(part.entries) for part in split(listed(1), 0.5)] == [1, 0]
    assert [len(part.entries) for part in split(listed(5), 0.0)] == [5, 0]
    with pytest.raises(InputError, match=r"fraction is 1\.5"):
        split(listed(5), 1.5)


def test_bad_settings():
    for setting in ({"sample_rate": 0}, {"channels": 0}, {"length": -1}, {"workers": 0}, {"prefetch": 0}):
        with pytest.raises(InputError, match=next(iter(setting))):
            DataConfig(**setting)
    with pytest.raises(InputError, match="crop"):
        DataConfig(crop="middle")
    with pytest.raises(InputError, match="normalize"):
        DataConfig(normalize=3.0)


def test_crops_are_shifted_in_pitch_over_the_whole_range(tmp_path):
    time = np.arange(40_000) / 8_000
    files.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 1_000 * time)[:, None], 8_000)
    manifest = index(tmp_path, tmp_path / "manifest.json")
    config = DataConfig(sample_rate=8_000, channels=1, length=8_000, pitch_shift=2.0, prefetch=1)
    crops = _heard(manifest, config, 8)
    window = np.hanning(8_000)
    pitches = np.abs(np.fft.rfft(crops[:, :, 0] * window)).argmax(1)  # in Hz
    semitones = 12 * np.log2(pitches / 1_000)
    assert -2.02 < semitones.min() < -1.5
    assert 1.5 < semitones.max() < 2.02
    assert len(np.unique(pitches)) > 40
    np.testing.assert_array_equal(_heard(manifest, config, 1), crops[:8])


def test_silent_crops_are_drawn_again(tmp_path):
    wave = np.zeros(64_000)
    wave[:16_000] = 0.1
    files.write(tmp_path / "a.wav", wave[:, None], 8_000)
    manifest = index(tmp_path, tmp_path / "manifest.json")

    def heard(level):
        config = DataConfig(sample_rate=8_000, channels=1, length=1_000, skip_below=level, prefetch=1)
        crops = _heard(manifest, config, 16)
        return (np.sqrt(np.square(crops).mean((1, 2))) > 10 ** (-40 / 20)).mean()

    assert 0.15 < heard(None) < 0.4
    # In a file with three quarters of silence, four tries find sound with the probability 1 - (3/4)^4.
    assert 0.55 < heard(-40.0) < 0.8


@pytest.fixture(scope="module")
def stereo(tmp_path_factory):
    """Two files with different levels left and right, which are positive in the first halves of crops. One has another
    rate."""
    root = tmp_path_factory.mktemp("stereo")
    for name, rate in (("a", 8_000), ("b", 16_000)):
        left = np.tile(np.repeat([0.4, -0.1], 500), 4 * rate // 8_000)
        files.write(root / f"{name}.wav", np.stack([left, left / 4], axis=1), rate)
    return index(root, root / "manifest.json")


def crops_of(manifest, count=80, **settings):
    config = DataConfig(sample_rate=8_000, channels=2, length=1_000, workers=3, prefetch=1, **settings)
    with contextlib.closing(batches(manifest, config, batch_size=20, seed=6)) as iterator:
        return np.concatenate([next(iterator)["audio"] for _ in range(count // 20)])


def test_gain_polarity_and_channels_vary(stereo):
    plain = crops_of(stereo, crop="fixed")
    varied = crops_of(stereo, crop="fixed", random_gain=6.0, flip_polarity=True, swap_channels=True)
    # The change of a crop in the left and in the right channel.
    swapped = np.abs(varied[:, 100, 0]) < np.abs(varied[:, 100, 1])
    assert 0.3 < swapped.mean() < 0.7
    varied[swapped] = varied[swapped][:, :, ::-1]
    factors = varied[:, 100, 0] / plain[:, 100, 0]
    np.testing.assert_allclose(varied, plain * factors[:, None, None], atol=1e-6)
    assert 0.3 < (factors < 0).mean() < 0.7
    decibels = 20 * np.log10(np.abs(factors))
    assert -6.01 < decibels.min() < -4
    assert 4 < decibels.max() < 6.01
    assert len(np.unique(decibels)) > 60
    # The gain is limited so that crops do not exceed full scale. Crops are not clipped.
    loud = crops_of(stereo, 20, crop="fixed", random_gain=30.0)
    assert np.abs(loud).max() <= 1
    np.testing.assert_allclose(loud[:, 100, 1] / loud[:, 100, 0], 0.25, rtol=1e-5)


def test_crops_are_brought_to_a_loudness(stereo):
    for crop in crops_of(stereo, 20, normalize=-23.0, normalize_by="lufs"):
        assert loudness(crop, 8_000) == pytest.approx(-23.0, abs=0.01)


def test_kept_sounds_are_those_of_the_files(stereo, capfd):
    expected, kept = crops_of(stereo, 40), crops_of(stereo, 40, memory=0.01)
    # A resampled crop and the same crop of the resampled sound differ by rounding.
    np.testing.assert_allclose(kept, expected, atol=2e-6)
    np.testing.assert_array_equal(kept, crops_of(stereo, 40, memory=0.01))
    np.testing.assert_array_equal(expected, crops_of(stereo, 40, memory=1e-6))
    assert "need 0.00 GiB, more than data.memory: they are not kept" in capfd.readouterr().err


def test_kept_sounds_are_read_once(stereo, tmp_path, monkeypatch):
    for name in ("a.wav", "b.wav"):
        shutil.copy(f"{stereo.root}/{name}", tmp_path)
    manifest, read, opened = index(tmp_path, tmp_path / "manifest.json"), files.read, []

    def counted(place, **options):
        # Iterators of other tests can still read ahead.
        if place.path.parent == tmp_path:
            opened.append(place.path.name)
        return read(place, **options)

    monkeypatch.setattr(files, "read", counted)
    for memory, names in ((0.01, ["a.wav", "b.wav"]), (1e-6, ["a.wav"] * 5 + ["b.wav"] * 5)):
        sounds = Sounds(manifest, DataConfig(sample_rate=8_000, channels=2, length=1_000, memory=memory))
        opened.clear()
        for entry in manifest.entries:
            for start in range(0, 5_000, 1_000):
                sounds.read(entry, start)
        assert opened == names


def test_bad_settings_of_what_is_heard():
    for settings, message in (
        ({"normalize_by": "ears"}, 'data.normalize_by is "ears", but must be "rms" or "lufs"'),
        ({"normalize_by": "lufs", "sample_rate": 3_000}, "data.sample_rate must be 4000 or more for loudness in LUFS"),
        ({"random_gain": -1.0}, "data.random_gain must be 0 or more, not -1.0"),
        ({"memory": float("nan")}, "data.memory must be 0 or more"),
        ({"swap_channels": True, "channels": 1}, "data.channels must be 2 for swap_channels, not 1"),
    ):
        with pytest.raises(InputError, match=message.replace(".", r"\.")):
            DataConfig(**settings)

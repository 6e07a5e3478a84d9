import numpy as np
import pytest
import soundfile as sf

from archijax.errors import InputError
from benchmarks.evidence import music

PITCHED = [name for name in music.INSTRUMENTS if name != "drums"]


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    return folder, music.render(folder, tracks=music.HELD_OUT + 1, seed=0, seconds=(3.0, 4.0))


def test_render_splits_every_instrument_into_train_and_heldout(album):
    folder, paths = album
    assert sorted(folder.rglob("*.*")) == paths, "the returned paths are all that was written"
    for name in music.INSTRUMENTS:
        folders = [path.relative_to(folder).parts[0] for path in paths if name in path.parent.name]
        assert sorted(folders) == ["heldout"] * music.HELD_OUT + ["train"]


def test_files_are_stereo_flac_with_tags_that_read_back(album):
    for path in album[1]:
        with sf.SoundFile(path) as file:
            tags = file.copy_metadata()
            assert (file.format, file.channels, file.samplerate) == ("FLAC", 2, music.RATE)
        assert tags["genre"] in music.INSTRUMENTS
        assert tags["genre"] in tags["title"].split()
        assert tags["genre"] in tags["album"].split()
        assert tags["title"].split()[-1] in ("major", "minor")
        assert tags["artist"]
        assert 1970 <= int(tags["date"]) < 2025


def test_sound_is_loud_finite_and_without_gaps(album):
    for path in album[1]:
        audio, rate = sf.read(path)
        half = rate // 2
        assert 0.8 < np.abs(audio).max() < 0.9
        assert -20 < 10 * np.log10(np.mean(audio**2)) < -8
        assert np.abs(audio.mean(axis=0)).max() < 1e-3
        halves = audio[: len(audio) // half * half].reshape(-1, half, 2)
        assert np.all(np.mean(halves**2, axis=(1, 2)) > 10 ** (-45 / 10)), path
        assert not np.array_equal(audio[:, 0], audio[:, 1]), "stereo has some width"


def test_same_seed_same_bytes(album, tmp_path):
    folder, paths = album
    again = music.render(tmp_path, tracks=music.HELD_OUT + 1, seed=0, seconds=(3.0, 4.0))
    for old, new in zip(paths, again, strict=True):
        assert old.relative_to(folder) == new.relative_to(tmp_path)
        assert old.read_bytes() == new.read_bytes()


def test_another_seed_or_number_is_another_piece():
    first, _ = music.track("organ", 1, seed=0, seconds=(2.0, 2.5))
    for number, seed in ((1, 1), (5, 0)):
        other, _ = music.track("organ", number, seed=seed, seconds=(2.0, 2.5))
        assert first.shape != other.shape or np.abs(first - other).max() > 0.1


@pytest.mark.parametrize("form", music.FORMS)
@pytest.mark.parametrize("mode", music.SCALES)
def test_notes_stay_in_key_and_between_110_and_440_hz(form, mode):
    for root in range(12):
        notes = music.compose(np.random.default_rng(root), root, mode, form, 120.0, 8)
        midi = np.array([69 + 12 * np.log2(note.pitch / 440) for note in notes])
        np.testing.assert_allclose(midi, np.round(midi), atol=1e-9)
        assert set((np.round(midi).astype(int) - root) % 12) <= set(music.SCALES[mode])
        assert midi.min() > 44.99
        assert midi.max() < 69.01
        assert {int(note.start // 2) for note in notes} == set(range(8)), "every bar of two seconds has notes"


@pytest.mark.parametrize("instrument", PITCHED)
def test_voices_are_in_tune(instrument):
    note = music.Note(0.0, 1.0, 220.0, 1.0)
    sound = music.VOICES[instrument](np.random.default_rng(0), note).mean(axis=1)[: music.RATE]
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8 * len(sound)))
    frequency = np.arange(len(spectrum)) / 8
    near = (frequency > 205) & (frequency < 235)
    assert abs(frequency[near][np.argmax(spectrum[near])] - 220) < 2.2


def test_string_is_the_karplus_strong_loop():
    pluck, points, blend = np.random.default_rng(0).uniform(-1, 1, 16), 16, 0.3
    slow = list(pluck)
    for n in range(points, 10 * points):
        slow.append((1 - blend) * slow[n - points] + blend * (slow[n - points - 1] if n > points else 0.0))
    np.testing.assert_allclose(music._string(pluck, 10, blend), slow, atol=1e-12)


def test_bad_input_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no instrument 'tuba'"):
        music.track("tuba", 1)
    with pytest.raises(InputError, match=f"give at least {music.HELD_OUT + 1}"):
        music.render(tmp_path, tracks=music.HELD_OUT)
    assert list(tmp_path.iterdir()) == []

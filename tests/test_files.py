import os
import struct
import warnings

import numpy as np
import pytest
import soundfile
import soxr

from archijax.audio import files, libsndfile
from archijax.errors import InputError


@pytest.fixture
def noise():
    """Two seconds of quiet low-passed stereo noise. Lossy codecs keep it, and resamplers do not clip it."""
    white = np.random.default_rng(0).standard_normal((88_200, 2))
    return (0.1 * soxr.resample(soxr.resample(white, 4, 1), 1, 4)).astype(np.float32)[:88_200]


def test_write_and_read_back(tmp_path, noise):
    tags = {"title": "Nocturne Øp. 9", "artist": "F. Chopin", "album": "A, B", "genre": "Piano", "year": "1832"}
    for suffix, tolerance in ((".wav", 2e-6), (".flac", 2e-6), (".ogg", 0.5)):
        path = tmp_path / f"a{suffix}"
        files.write(path, noise, 44_100, tags)
        assert files.info(path) == files.verify(path) == files.AudioInfo(88_200, 44_100, 2, tags)
        audio = files.read(path)
        assert audio.dtype == np.float32
        assert np.linalg.norm(audio - noise) / np.linalg.norm(noise) < tolerance
    assert len(list(tmp_path.iterdir())) == 3


def test_long_ogg(tmp_path):
    path = tmp_path / "long.ogg"
    audio = np.zeros((48_000 * 400, 1), np.float32)
    files.write(path, audio, 48_000)
    assert files.info(path).frames == len(audio)


def test_write_clips(tmp_path):
    files.write(tmp_path / "a.wav", np.array([[2.0], [-3.0], [0.5]]), 8_000)
    np.testing.assert_allclose(files.read(tmp_path / "a.wav")[:, 0], [1, -1, 0.5], atol=2e-7)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_seeking_equals_slicing(tmp_path, noise, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise, 44_100)
    whole = files.read(path)
    for start in (0, 1, 40_000, 86_000, 88_000):
        crop = files.read(path, start=start, frames=3_000)
        expected = np.pad(whole, ((0, 3_000), (0, 0)))[start : start + 3_000]
        np.testing.assert_allclose(crop, expected, atol=1e-6)
    assert not files.read(path, start=200_000, frames=10).any()


@pytest.mark.parametrize("rates", [(44_100, 48_000), (48_000, 16_000), (22_050, 48_000), (11_127, 44_100)])
def test_resampled_crops_align(tmp_path, rates):
    source, target = rates
    noise = 0.1 * np.random.default_rng(0).standard_normal((3 * source, 2)).astype(np.float32)
    files.write(tmp_path / "a.wav", noise, source)
    whole = files.read(tmp_path / "a.wav", sample_rate=target)
    assert whole.shape == (3 * target, 2)
    np.testing.assert_allclose(whole, soxr.resample(noise, source, target), atol=1e-5)
    for start in (0, 777, target + 1, 3 * target - 500):
        crop = files.read(tmp_path / "a.wav", sample_rate=target, start=start, frames=1_000)
        expected = np.pad(whole, ((0, 1_000), (0, 0)))[start : start + 1_000]
        edge = 3 * target - start if start + 1_000 > 3 * target else 1_000
        np.testing.assert_allclose(crop[:edge], expected[:edge], atol=1e-5)
        assert crop.shape == (1_000, 2)
        assert not crop[edge:].any()


def test_resampled_crop_decodes_only_its_surroundings(tmp_path, noise, monkeypatch):
    files.write(tmp_path / "a.flac", noise, 44_100)
    decode, counts = libsndfile.Stream.decode, []
    monkeypatch.setattr(
        libsndfile.Stream, "decode", lambda s, begin, count: counts.append(count) or decode(s, begin, count)
    )
    files.read(tmp_path / "a.flac", sample_rate=48_000, start=40_000, frames=1_000)
    assert 900 < counts[0] < 2_500


def test_channels(tmp_path, noise):
    files.write(tmp_path / "stereo.wav", noise, 8_000)
    files.write(tmp_path / "mono.wav", noise[:, :1], 8_000)
    files.write(tmp_path / "three.wav", noise[:, [0, 1, 0]], 8_000)
    mean = noise.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(files.read(tmp_path / "stereo.wav", channels=1), mean, atol=2e-7)
    np.testing.assert_allclose(files.read(tmp_path / "mono.wav", channels=2), noise[:, [0, 0]], atol=2e-7)
    three = np.repeat(noise[:, [0, 1, 0]].mean(axis=1, keepdims=True), 2, axis=1)
    np.testing.assert_allclose(files.read(tmp_path / "three.wav", channels=2), three, atol=2e-7)
    assert files.read(tmp_path / "mono.wav", channels=2, sample_rate=16_000).flags.c_contiguous


def bad_files(folder):
    """Pairs (name, words of the error) of files that are not sound."""
    tone = np.ones((5_000, 1), np.float32) * 0.1
    (folder / "text.wav").write_text("not sound " * 100)
    (folder / "text.mp3").write_text("not sound " * 100)
    (folder / "pages.ogg").write_bytes(b"OggS" + bytes(1_000))
    (folder / "nothing.flac").touch()
    soundfile.write(folder / "zero.wav", np.zeros((0, 1)), 8_000)
    soundfile.write(folder / "good.wav", tone, 8_000)
    header = bytearray((folder / "good.wav").read_bytes())
    for rate in (0, 1, 2_000_000_000):
        header[24:28] = struct.pack("<I", rate)
        (folder / f"rate{rate}.wav").write_bytes(header)
    (folder / "good.wav").unlink()
    return [
        ("text.wav", "not recognised"),
        ("text.mp3", "no MP3 frame"),
        ("pages.ogg", "cannot be read"),
        ("nothing.flac", "0 bytes"),
        ("zero.wav", "length is zero"),
        ("rate0.wav", "sample rate"),
        ("rate1.wav", "1 Hz"),
        ("rate2000000000.wav", "2000000000 Hz"),
    ]


def test_bad_files_are_named_in_one_sentence(tmp_path):
    for name, words in [*bad_files(tmp_path), ("absent.wav", "no file"), (".", "no file")]:
        with pytest.raises(InputError) as caught:
            files.verify(tmp_path / name)
        message = str(caught.value)
        assert words in message, name
        assert str(tmp_path / name) in message
        assert "\n" not in message
        assert message.endswith(".")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "caf", "au", "w64"])
def test_what_decodes_of_a_file_that_was_cut_off_is_used(tmp_path, noise, suffix):
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, np.concatenate([noise] * 3), 44_100)
    whole, content = files.read(path), path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        frames = files.verify(path).frames
    assert 0.35 * len(whole) < frames < 0.55 * len(whole)
    # An Ogg file does not state its number of pages, and libsndfile does not report truncated CAF, AU and W64 files.
    assert len(told) == (suffix in ("wav", "flac", "mp3", "aiff"))
    assert all("is cut off: its header promises" in str(each.message) for each in told)
    read = files.read(path)
    assert abs(len(read) - frames) <= 1152
    np.testing.assert_allclose(read[: frames - 2048], whole[: frames - 2048], atol=1e-6)
    crop = files.read(path, start=frames // 2, frames=1000)
    np.testing.assert_allclose(crop, whole[frames // 2 :][:1000], atol=1e-6)


def test_a_small_loss_is_not_worth_a_word(tmp_path, noise):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.concatenate([noise] * 10), 44_100)
    path.write_bytes(path.read_bytes()[:-3_000])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = files.verify(path).frames
    assert 0 < 882_000 - frames < 8_820


def test_only_our_sentence_about_an_mp3(tmp_path, capfd):
    (tmp_path / "text.mp3").write_text("not sound " * 100)
    with pytest.raises(InputError):
        files.verify(tmp_path / "text.mp3")
    assert capfd.readouterr().err == ""
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(tmp_path / "text.mp3")
    assert "Illegal Audio-MPEG-Header" in capfd.readouterr().err


def test_whole_files_with_open_lengths_are_not_cut_off(tmp_path, noise):
    files.write(tmp_path / "a.wav", noise, 44_100)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(content)
    assert files.verify(tmp_path / "a.wav").frames == 88_200
    # Without its first frame, which has the length, libsndfile overestimates the length of an MP3 with a variable bit
    # rate.
    audio = np.concatenate([np.zeros((220_500, 1)), noise[:, :1]])
    with soundfile.SoundFile(
        tmp_path / "a.mp3", "w", 44_100, 1, "MPEG_LAYER_III", compression_level=0.4, bitrate_mode="VARIABLE"
    ) as file:
        file.write(audio)
    content = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(content[content.index(b"\xff\xfb", content.index(b"Xing")) :])
    assert files.info(tmp_path / "a.mp3").frames > len(audio) + 22_050
    assert abs(files.verify(tmp_path / "a.mp3").frames - len(audio)) < 3 * 1152


def test_not_finite_is_refused(tmp_path, noise):
    noise[50_000, 1] = np.nan
    soundfile.write(tmp_path / "a.wav", noise, 44_100, subtype="FLOAT")
    with pytest.raises(InputError, match="not finite"):
        files.read(tmp_path / "a.wav")
    assert files.read(tmp_path / "a.wav", frames=40_000).shape == (40_000, 2)
    with pytest.raises(InputError, match="NaN"):
        files.write(tmp_path / "b.wav", noise, 44_100)
    assert not (tmp_path / "b.wav").exists()


def test_read_refuses_bad_arguments(tmp_path, noise):
    files.write(tmp_path / "a.wav", noise, 44_100)
    for arguments in ({"start": -1}, {"frames": 0}, {"sample_rate": 0}, {"channels": 0}, {"start": 88_200}):
        with pytest.raises(InputError, match=next(iter(arguments))):
            files.read(tmp_path / "a.wav", **arguments)


def test_write_refuses_bad_arguments(tmp_path, noise, unchecked):
    cases = [
        ("a.xyz", noise, 44_100, None, "suffix"),
        ("a.wav", noise[None], 44_100, None, "shape"),
        ("a.wav", noise[:0], 44_100, None, "shape"),
        ("a.wav", noise, 0, None, "is 0 Hz"),
        ("a.ogg", noise, 200_001, None, "and 200000"),
        ("a.flac", noise, 700_000, None, "cannot be written"),
        ("a.wav", noise, 44_100, {"mood": "glad"}, "mood"),
        ("absent/a.wav", noise, 44_100, None, "no folder"),
    ]
    for name, audio, rate, tags, words in cases:
        with pytest.raises(InputError, match=words):
            files.write(tmp_path / name, audio, rate, tags)
    assert not list(tmp_path.iterdir())


def test_failed_write_keeps_the_old_file(tmp_path, noise, monkeypatch):
    files.write(tmp_path / "a.wav", noise, 44_100)
    before = (tmp_path / "a.wav").read_bytes()

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    with pytest.raises(InputError, match="disk is full"):
        files.write(tmp_path / "a.wav", noise, 44_100)
    assert (tmp_path / "a.wav").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]

"""Real-world files in tests/cases, and similar files: each is read correctly."""

import itertools
import shutil
import struct
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from archijax.audio import files
from archijax.audio.channels import mix
from archijax.audio.loudness import gain
from archijax.errors import InputError, InputWarning

CASES = Path(__file__).parent / "cases"
RATE = 8_000
HALF = 0.5**0.5
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")


def tone(seconds=2.0, pitch=440.0, channels=1, rate=RATE):
    time = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * pitch * time)[:, None]).repeat(channels, axis=1).astype(np.float32)


def pitch(audio, rate=RATE):
    """The frequency in Hz of the loudest bin of a spectrum."""
    return np.abs(np.fft.rfft(audio[:, 0])).argmax() * rate / len(audio)


def crops_are_the_whole(path, tolerance=1e-6):
    whole = files.read(path)
    for start in (0, 1, len(whole) // 3, len(whole) // 2 - 50, len(whole) - 100):
        expected = np.pad(whole, ((0, 200), (0, 0)))[start : start + 200]
        np.testing.assert_allclose(files.read(path, start=start, frames=200), expected, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "frames", "peak"),
    [
        ("chained.ogg", 32_000, 0.3050),
        ("flac_behind_id3_cover.flac", 16_000, 0.2996),
        ("full_scale_32768.wav", 16_000, 0.2996),
        ("legacy_tags.mp3", 16_000, 0.2985),
        ("no_end_flag.ogg", 16_000, 0.3050),
        ("rare.au", 16_000, 0.2996),
        ("rare.caf", 16_000, 0.2996),
        ("silent.wav", 16_000, 0.0),
        ("fade_out.wav", 16_000, 1.2e-4),
    ],
)
@pytest.mark.filterwarnings("ignore:.*full_scale_32768.wav has samples up to 9818:archijax.errors.InputWarning")
def test_all_of_a_case_is_used(name, frames, peak):
    path = CASES / name
    assert files.info(path).frames == files.verify(path).frames == frames
    audio = files.read(path)
    assert audio.shape == (frames, 1)
    assert np.abs(audio).max() == pytest.approx(peak, abs=1e-3 * max(peak, 1e-3))
    crops_are_the_whole(path)


def test_both_links_of_a_chain_sound():
    audio = files.read(CASES / "chained.ogg")
    # Two decaying tones of half a second. The second tone is as loud as the first.
    levels = np.sqrt(np.mean(audio.reshape(8, -1) ** 2, axis=1))
    np.testing.assert_allclose(levels, [0.169, 0.102, 0.062, 0.038, 0.084, 0.051, 0.031, 0.019], atol=1e-3)


@pytest.mark.parametrize("serial", [b"\1\2\3\4", None])
@pytest.mark.parametrize("suffix", ["ogg", "opus"])
def test_chains_of_any_number_of_links(tmp_path, serial, suffix):
    pieces, rate = [], 48_000
    for hertz in (500, 1000, 2000):
        kind = {"format": "OGG", "subtype": {"ogg": "VORBIS", "opus": "OPUS"}[suffix]}
        soundfile.write(tmp_path / f"a.{suffix}", tone(0.7, hertz, rate=rate), rate, **kind)
        page = bytearray((tmp_path / f"a.{suffix}").read_bytes())
        if serial:
            page = renumbered(page, serial)
        pieces.append(bytes(page))
    path = tmp_path / f"chain.{suffix}"
    path.write_bytes(b"".join(pieces))
    alone = files.info(tmp_path / f"a.{suffix}").frames
    assert files.verify(path).frames == 3 * alone
    audio = files.read(path)
    assert [round(pitch(part, rate), -2) for part in audio.reshape(3, -1, 1)] == [500, 1000, 2000]
    crops_are_the_whole(path)
    # Resampled crops cross the joint too.
    whole = files.read(path, sample_rate=44_100)
    crop = files.read(path, sample_rate=44_100, start=len(whole) // 3 - 500, frames=1000)
    np.testing.assert_allclose(crop, whole[len(whole) // 3 - 500 :][:1000], atol=1e-5)


def renumbered(data, serial):
    """An Ogg file with another serial number of its pages."""
    table = []
    for byte in range(256):
        remainder = byte << 24
        for _ in range(8):
            remainder = (remainder << 1 ^ (0x04C11DB7 if remainder & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(remainder)
    place, data = 0, bytearray(data)
    while place < len(data):
        count = data[place + 26]
        size = 27 + count + sum(data[place + 27 : place + 27 + count])
        data[place + 14 : place + 18], data[place + 22 : place + 26] = serial, bytes(4)
        checksum = 0
        for byte in data[place : place + size]:
            checksum = (checksum << 8 & 0xFFFFFFFF) ^ table[checksum >> 24 ^ byte]
        data[place + 22 : place + 26] = struct.pack("<I", checksum)
        place += size
    return data


def test_links_with_other_channels_are_mixed_to_those_of_the_first(tmp_path):
    for name, count in (("mono", 1), ("stereo", 2)):
        soundfile.write(tmp_path / f"{name}.ogg", tone(1, channels=count), RATE)
    for names in (("mono", "stereo"), ("stereo", "mono")):
        path = tmp_path / f"{names[0]}_first.ogg"
        path.write_bytes(b"".join((tmp_path / f"{name}.ogg").read_bytes() for name in names))
        header = files.verify(path)
        assert (header.frames, header.channels) == (2 * RATE, 1 if names[0] == "mono" else 2)
        assert np.sqrt(np.mean(files.read(path)[RATE:] ** 2)) == pytest.approx(0.3 * HALF, rel=0.05)
        crops_are_the_whole(path)


def test_a_chain_with_another_rate_gives_its_first_links(tmp_path):
    for name, rate in (("a", 8_000), ("b", 16_000)):
        soundfile.write(tmp_path / f"{name}.ogg", tone(1, rate=rate), rate)
    path = tmp_path / "chain.ogg"
    path.write_bytes((tmp_path / "a.ogg").read_bytes() + (tmp_path / "b.ogg").read_bytes())
    with pytest.warns(InputWarning, match=r"1 of 2 links are left out"):
        assert files.verify(path).frames == 8_000
    # A file with a damaged second link is read in the same way.
    damaged = (tmp_path / "a.ogg").read_bytes()
    path = tmp_path / "damaged.ogg"
    path.write_bytes(damaged + damaged[:58] + bytes(3000))
    with pytest.warns(InputWarning, match=r"1 of 2 links are left out"):
        assert files.verify(path).frames == 8_000


@pytest.mark.parametrize("suffix", ["w64", "aifc", "aif", "caf", "au", "snd", "rf64", "voc", "sph"])
def test_formats_of_libsndfile(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    kind = {"aifc": "AIFF", "aif": "AIFF", "snd": "AU", "sph": "NIST"}.get(suffix, suffix.upper())
    subtype = "ULAW" if suffix == "aifc" else "PCM_16"
    soundfile.write(path, tone(), RATE, format=kind, subtype=subtype)
    assert files.verify(path).frames == 16_000
    np.testing.assert_allclose(files.read(path), tone(), atol=0.02 if suffix == "aifc" else 1e-4)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["m4a", "aac", "wma", "webm", "g722", "ac3", "wv", "tta", "mka", "mp4"])
def test_formats_of_ffmpeg(tmp_path, suffix):
    rate = 16_000 if suffix == "g722" else 48_000
    soundfile.write(tmp_path / "a.wav", tone(5, 1000, rate=rate), rate)
    path = tmp_path / f"a.{suffix}"
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), "-metadata", "title=A song", str(path)]
    subprocess.run(command, check=True)
    header = files.verify(path)
    assert (header.sample_rate, header.channels) == (rate, 1)
    assert abs(header.frames - 5 * rate) < 5000
    audio = files.read(path)
    assert len(audio) == header.frames
    assert pitch(audio, rate) == pytest.approx(1000, abs=1)
    assert np.sqrt(np.mean(audio[rate:-rate] ** 2)) == pytest.approx(0.3 * HALF, rel=0.05)
    if suffix not in ("aac", "g722", "ac3"):
        assert header.tags["title"] == "A song"
    # The phase of a tone shows that seeking is exact up to the container's timestamps, which are rounded to a
    # millisecond.
    crop, expected = files.read(path, start=3 * rate, frames=4800), audio[3 * rate :][:4800]
    shift = np.angle(np.sum(crop * np.exp(-2j * np.pi * 1000 / rate * np.arange(4800)[:, None])))
    there = np.angle(np.sum(expected * np.exp(-2j * np.pi * 1000 / rate * np.arange(4800)[:, None])))
    exact = suffix not in ("wma", "webm", "mka")
    assert np.abs(np.angle(np.exp(1j * (shift - there)))) < (1e-2 if exact else np.pi)
    assert np.sqrt(np.mean(crop**2)) == pytest.approx(0.3 * HALF, rel=0.05)


@needs_ffmpeg
def test_what_libsndfile_refuses_is_read_by_ffmpeg(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(2, rate=48_000), 48_000)
    for name, options in (("mp3_inside.wav", ["-c:a", "libmp3lame"]), ("named.mp3", ["-f", "ipod"])):
        path = tmp_path / name
        subprocess.run(["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), *options, str(path)], check=True)
        assert abs(files.verify(path).frames - 96_000) < 5000
        assert pitch(files.read(path), 48_000) == pytest.approx(440, abs=1)
    # The part of a damaged file that can be decoded is used here too.
    whole = (tmp_path / "mp3_inside.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(InputWarning, match="is cut off"):
        assert 40_000 < files.verify(tmp_path / "cut.wav").frames < 56_000
    # The header of a FLAC stream from a pipe does not have the length.
    command = f"ffmpeg -v error -i {tmp_path / 'a.wav'} -f flac - | cat > {tmp_path / 'pipe.flac'}"
    subprocess.run(command, shell=True, check=True)
    assert files.verify(tmp_path / "pipe.flac").frames == 96_000


@needs_ffmpeg
def test_what_ffmpeg_decodes_of_a_cut_file_is_used_and_the_loss_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(20, 1000, rate=48_000), 48_000)
    path = tmp_path / "a.webm"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), str(path)], check=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(InputWarning, match="cut off: its header promises 95"):
        frames = files.verify(path).frames
    assert 400_000 < frames < 560_000
    assert pitch(files.read(path, start=300_000, frames=48_000), 48_000) == pytest.approx(1000, abs=1)


def test_without_ffmpeg_its_formats_are_refused_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "a.m4a").write_bytes(b"m4a")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match=r"\.m4a files need ffmpeg, which is not installed"):
        files.verify(tmp_path / "a.m4a")


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_id3_tags_of_any_size_before_the_sound(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(4), RATE)
    frames = files.verify(path).frames
    for size in (10, 70_000, 3_000_000):
        synchsafe = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
        body = b"APIC" + struct.pack(">I", size - 10) + b"\0\0" + b"\0image/png\0\3\0".ljust(size - 10, b"x")
        body = body if size > 30 else bytes(size)
        behind = tmp_path / f"{size}.{suffix}"
        behind.write_bytes(b"ID3\3\0\0" + synchsafe + body + path.read_bytes())
        assert files.verify(behind).frames == frames
        crops_are_the_whole(behind)


def test_tags():
    assert files.info(CASES / "legacy_tags.mp3").tags == {"title": "Песня", "artist": "Ensemble", "genre": "Rock"}


def test_a_fade_out_stays_one():
    audio = files.read(CASES / "fade_out.wav")
    halves = [gain(audio[i : i + 4000], -14.0) for i in range(0, 16_000, 4000)]
    np.testing.assert_allclose(halves, 10**1.5)


def test_centre_of_5_1():
    path = CASES / "only_centre_5_1.wav"
    six = files.read(path)
    np.testing.assert_allclose(files.read(path, channels=2), six[:, [2, 2]] * HALF, atol=1e-6)
    np.testing.assert_allclose(files.read(path, channels=1), six[:, [2]] * HALF, atol=1e-6)


def test_opposite_phases():
    with pytest.warns(InputWarning, match=r"loses more than 12 dB when its 2 channels are mixed to 1"):
        audio = files.read(CASES / "opposite_phases.wav", channels=1)
    assert np.abs(audio).max() < 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.abs(files.read(CASES / "opposite_phases.wav", channels=2)).max() > 0.29


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "aiff", "caf", "w64", "m4a", "ac3"])
def test_the_standard_downmix_of_each_channel(tmp_path, suffix):
    """Each of the six channels has its own pitch. The test measures the level of each channel in the mix."""
    hertz = (500, 700, 1100, 60, 1700, 2300)  # L R C LFE Ls Rs; only LFE has a low frequency
    wave = "|".join(f"0.1*sin(2*PI*{each}*t)" for each in hertz)
    path = tmp_path / f"a.{suffix}"
    source = ["-f", "lavfi", "-i", f"aevalsrc={wave}:c=5.1:s=48000:d=2"]
    codec = {"ogg": ["-c:a", "libvorbis"]}.get(suffix, [])
    subprocess.run(["ffmpeg", "-v", "error", *source, *codec, str(path)], check=True)
    stereo = files.read(path, channels=2, start=24_000, frames=48_000)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(48_000), hertz) / 48_000)
    parts = np.abs(stereo.T @ waves) / 2400
    expected = [[1, 0, HALF, 0, HALF, 0], [0, 1, HALF, 0, 0, HALF]]
    np.testing.assert_allclose(parts, expected, atol=0.06)
    np.testing.assert_allclose(
        files.read(path, channels=1, start=24_000, frames=48_000)[:, 0], stereo.mean(1), atol=1e-6
    )


@pytest.mark.parametrize(("before", "after"), [*itertools.product((1, 2, 3, 4, 6), (1, 2, 4))])
def test_channels_that_are_not_known_are_averaged(before, after):
    audio = np.random.default_rng(0).standard_normal((100, before)).astype(np.float32)
    mixed = mix(audio, after, None, "a.wav")
    expected = audio if before in (1, after) else audio.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(mixed, np.broadcast_to(expected, (100, after)), atol=1e-6)


def test_a_mix_that_loses_one_of_many_channels_warns():
    audio = np.zeros((100, 6), np.float32)
    audio[:, 2] = 0.1
    with pytest.warns(InputWarning, match="more than 12 dB"):
        mix(audio, 2, None, "a.wav")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mix(audio, 2, ("FL", "FR", "FC", "LFE", "BL", "BR"), "a.wav")
        mix(np.random.default_rng(0).standard_normal((1000, 6)).astype(np.float32), 2, None, "a.wav")
        mix(1e-3 * audio, 2, None, "a.wav")

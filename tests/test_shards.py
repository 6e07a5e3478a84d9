"""Tar shards: the items and batches equal those of the same files in a folder, without unpacking."""

import json
import shutil
import subprocess
import tarfile

import numpy as np
import pytest
import soundfile

from archijax.audio import files
from archijax.errors import InputError
from train.batches import batches
from train.dataset import DataConfig
from train.manifest import index

CONFIG = DataConfig(sample_rate=8_000, channels=1, length=1_000, workers=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sounds of several formats, rates and lengths, with captions and fields beside most."""
    root = tmp_path_factory.mktemp("shards") / "folder"
    (root / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)

    def noise(frames, channels=1):
        return rng.uniform(-0.5, 0.5, (frames, channels))

    files.write(root / "000.wav", noise(5_000), 8_000, {"title": "tag"})
    files.write(root / "001.flac", noise(9_000, 2), 16_000)
    files.write(root / "002.ogg", noise(8_000), 8_000)
    soundfile.write(root / "003.mp3", noise(16_000)[:, 0], 16_000)
    # Samples far beyond full scale, which are scaled down.
    soundfile.write(root / "004.wav", 32_768 * noise(3_000)[:, 0], 8_000, "FLOAT")
    files.write(root / "deep" / "005.wav", noise(2_000), 8_000)
    (root / "006.wav").write_bytes(b"no sound")
    (root / "000.txt").write_text("one\nanother\n")
    (root / "001.json").write_text(json.dumps({"caption": "of 001", "bpm": 120}))
    (root / "deep" / "005.txt").write_text("ä deep one")
    return root


def pack(path, folder, names):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name in names:
            tar.add(folder / name, name)


@pytest.fixture(scope="module")
def packed(folder):
    """The same files in two shards. The first shard has the later names."""
    root = folder.parent / "packed"
    pack(root / "a.tar", folder, ["deep/005.wav", "deep/005.txt", "003.mp3", "004.wav", "006.wav"])
    pack(root / "deep.tar", folder, ["000.txt", "000.wav", "001.flac", "001.json", "002.ogg"])
    return root


@pytest.fixture(scope="module")
def manifests(folder, packed):
    with pytest.warns(UserWarning, match="has samples up to"):
        return [index(root, root.parent / f"{root.name}.json", fields=("bpm",)) for root in (folder, packed)]


def stream(manifest, **settings):
    texts = []

    def tokenize(prompts):
        texts.append(prompts)
        tokens = np.zeros((len(prompts), 32), np.int64)
        for row, prompt in zip(tokens, prompts, strict=True):
            row[: len(prompt)] = [ord(letter) for letter in prompt]
        return tokens, tokens > 0

    def bpm(columns):
        return {"bpm": np.array([value or 0.0 for value in columns["bpm"]])}

    settings = {"batch_size": 8, "seed": 2, "tokenize": tokenize, "fields": ("bpm",), "encode_fields": bpm, **settings}
    return batches(manifest, CONFIG, **settings)


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys() == {"audio", "tokens", "token_mask", "bpm"}
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.filterwarnings("ignore:.*has samples up to")
def test_batches_are_those_of_the_same_files_in_a_folder(manifests):
    plain, shards = manifests
    assert [entry.path for entry in shards.entries] == [entry.path for entry in plain.entries]
    assert [entry.path for entry in plain.entries][-1] == "deep/005.wav"
    assert shards.digest == plain.digest
    assert [path for path, _ in shards.skipped] == [path for path, _ in plain.skipped] == ["006.wav"]
    assert "a.tar/006.wav cannot be read as sound" in shards.skipped[0][1]
    ours, theirs = stream(shards), stream(plain)
    for _ in range(8):
        assert_equal(next(ours), next(theirs))

    # Two processes continue from the state of one process.
    state = json.loads(json.dumps(theirs.get_state()))
    parts = [stream(shards, batch_size=4, shard_index=number, shard_count=2) for number in range(2)]
    for part in parts:
        part.set_state(state)
    whole, halves = next(theirs), [next(part) for part in parts]
    assert_equal(whole, {name: np.concatenate([half[name] for half in halves]) for name in whole})


def test_shards_are_read_once(packed, manifests, monkeypatch):
    path = packed.parent / "packed.json"
    opened = []
    monkeypatch.setattr(tarfile, "open", lambda *a, **k: opened.append(a) or 1 / 0)
    monkeypatch.setattr(files, "verify", lambda place: opened.append(place) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        index(packed, packed.parent / "other.json")
    opened.clear()
    # Unreadable members are tried again, like files in folders.
    monkeypatch.setattr(files, "verify", lambda place: opened.append(place.name) or _no_sound())
    assert index(packed, path, fields=("bpm",)).entries == manifests[1].entries
    assert opened == ["006.wav"]


def _no_sound():
    raise InputError("no sound")


def test_parts_of_a_member_are_items(folder, tmp_path):
    pack(tmp_path / "x" / "a.tar", folder, ["000.wav", "000.txt"])
    (tmp_path / "x" / "metadata.csv").write_text("file_name,start,end,text\n000,0.25,0.5,part\n")
    manifest = index(tmp_path / "x", tmp_path / "m.json")
    ((name, captions),) = [(entry.name, entry.captions) for entry in manifest.entries]
    assert (name, captions) == ("000.wav@2000-4000", ("part",))
    audio = next(batches(manifest, CONFIG, batch_size=2, seed=0))["audio"]
    sound = files.read(folder / "000.wav")
    for crop in audio:
        assert any(np.array_equal(crop, sound[start : start + 1_000]) for start in range(2_000, 3_001))


def test_the_same_name_in_two_shards(folder, tmp_path):
    pack(tmp_path / "x" / "a.tar", folder, ["000.wav", "000.txt"])
    pack(tmp_path / "x" / "b.tar", folder, ["000.wav", "002.ogg"])
    manifest = index(tmp_path / "x", tmp_path / "m.json")
    assert {entry.path: entry.captions for entry in manifest.entries} == {
        "002.ogg": (), "a.tar/000.wav": ("one", "another"), "b.tar/000.wav": (),
    }  # fmt: skip


def test_a_shard_that_is_cut_off_is_one_sentence(folder, tmp_path, capfd):
    pack(tmp_path / "x" / "a.tar", folder, ["000.wav", "000.txt", "001.flac"])
    whole = (tmp_path / "x" / "a.tar").read_bytes()
    places = {}
    with tarfile.open(tmp_path / "x" / "a.tar") as tar:
        places = {member.name: (member.offset, member.offset_data, member.size) for member in tar}
    header, data, size = places["001.flac"]
    for cut, message in (
        (data + size // 2, r"a\.tar is cut off"),
        (data + size - 1, r"a\.tar is cut off"),
        (header + 100, r"a\.tar is cut off"),
        (100, r"a\.tar is cut off, or is no tar file"),
        (0, r"a\.tar is cut off, or is no tar file"),
    ):
        (tmp_path / "x" / "a.tar").write_bytes(whole[:cut])
        with pytest.raises(InputError, match=message):
            index(tmp_path / "x", tmp_path / "m.json")
    (tmp_path / "x" / "a.tar").write_bytes(whole[:header] + b"x" * 512 + whole[header + 512 :])
    with pytest.raises(InputError, match=r"a\.tar is cut off or damaged behind"):
        index(tmp_path / "x", tmp_path / "m.json")
    # Some writers leave out the end mark.
    (tmp_path / "x" / "a.tar").write_bytes(whole[:header])
    (tmp_path / "x" / "b.tar.gz").write_bytes(b"")
    assert [entry.path for entry in index(tmp_path / "x", tmp_path / "m.json").entries] == ["000.wav"]
    said = capfd.readouterr().err
    assert "b.tar.gz is compressed" in said
    assert "1 tar shards" in said


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_members_are_read_through_ffmpeg(tmp_path):
    (tmp_path / "plain").mkdir()
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=1", str(tmp_path / "plain" / "x.m4a")]
    subprocess.run(command, check=True)
    pack(tmp_path / "x, y" / "a.tar", tmp_path / "plain", ["x.m4a"])
    packed = index(tmp_path / "x, y", tmp_path / "m.json")
    plain = index(tmp_path / "plain", tmp_path / "n.json")
    assert packed.digest == plain.digest
    ours, theirs = (next(batches(one, CONFIG, batch_size=4, seed=0))["audio"] for one in (packed, plain))
    assert np.abs(ours).max() > 0.05
    np.testing.assert_array_equal(ours, theirs)

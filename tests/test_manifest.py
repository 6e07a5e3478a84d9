import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from test_files import bad_files

from archijax.audio import files
from archijax.errors import InputError
from train import manifest
from train.manifest import index


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "music"
    (root / "b" / "deep").mkdir(parents=True)
    (root / ".hidden").mkdir()
    tone = np.full((4_000, 1), 0.1)
    files.write(root / "z.wav", tone, 8_000, {"title": "Last"})
    (root / "z.wav").rename(root / "z.WAV")
    files.write(root / "b" / "deep" / "ä.flac", tone, 16_000)
    files.write(root / "b" / "c.ogg", tone, 8_000)
    soundfile.write(root / "b" / "a.mp3", tone, 8_000)
    files.write(root / ".hidden" / "no.wav", tone, 8_000)
    files.write(root / "b" / "._z.wav", tone, 8_000)
    (root / "cover.jpg").write_bytes(b"jpg")
    return root


def test_index_lists_nested_files_in_order(folder, tmp_path):
    found = index(folder, tmp_path / "run" / "manifest.json")
    assert [entry.path for entry in found.entries] == ["b/a.mp3", "b/c.ogg", "b/deep/ä.flac", "z.WAV"]
    assert found.skipped == ()
    last = found.entries[-1]
    assert (last.frames, last.sample_rate, last.channels, last.tags) == (4_000, 8_000, 1, {"title": "Last"})
    assert found.seconds == pytest.approx(1.75)


def test_index_survives_links(folder, tmp_path):
    (folder / "b" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "broken.wav").symlink_to(folder / "absent.wav")
    os.mkfifo(folder / "pipe.wav")
    outside = tmp_path / "outside"
    outside.mkdir()
    files.write(outside / "x.wav", np.full((400, 1), 0.1), 8_000)
    (folder / "out").symlink_to(outside, target_is_directory=True)
    found = index(folder, tmp_path / "manifest.json")
    assert [entry.path for entry in found.entries] == ["b/a.mp3", "b/c.ogg", "b/deep/ä.flac", "out/x.wav", "z.WAV"]
    assert [path for path, _ in found.skipped] == ["broken.wav"]


def test_what_runs_write_is_no_data(folder, tmp_path):
    tone = np.full((4_000, 1), 0.1)
    expected = ["b/a.mp3", "b/c.ogg", "b/deep/ä.flac", "z.WAV"]

    def run_folder(place):
        for name in ("checkpoints", "samples"):
            (place / name).mkdir(parents=True)
        files.write(place / "samples" / "step_0000010_0.wav", tone, 8_000)
        (place / "config.json").write_text("{}")
        (place / "manifest.json").write_text("{}")

    # The run's own folder, which has only samples so far, and the folder of another run.
    own = folder / "b" / "run"
    (own / "samples").mkdir(parents=True)
    files.write(own / "samples" / "step_0000010_0.wav", tone, 8_000)
    run_folder(folder / "runs" / "other")
    found = index(folder, own / "manifest.json")
    assert [entry.path for entry in found.entries] == expected
    assert [entry.path for entry in index(folder, own / "manifest.json").entries] == expected
    # The data can even be in the folder of the run.
    shutil.rmtree(own)
    run_folder(folder)
    assert [entry.path for entry in index(folder, folder / "manifest.json").entries] == expected
    # A folder named "samples" outside of a run is an ordinary folder.
    (folder / "b" / "deep" / "samples").mkdir()
    files.write(folder / "b" / "deep" / "samples" / "a.wav", tone, 8_000)
    assert len(index(folder, tmp_path / "manifest.json").entries) == 5


def test_formats_that_need_ffmpeg_are_counted(folder, tmp_path, monkeypatch, capfd):
    for name in ("x.m4a", "y.M4A", "b/z.wma"):
        (folder / name).write_bytes(b"no matter what")
    monkeypatch.setattr("shutil.which", lambda name: None)
    found = index(folder, tmp_path / "manifest.json")
    assert len(found.entries) == 4
    assert found.skipped == ()
    assert "4 files, 0.00 hours, 0 files skipped, 2 .m4a, 1 .wma left out, which need ffmpeg" in capfd.readouterr().err


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_formats_are_read_through_ffmpeg(folder, tmp_path, capfd):
    source = ["-f", "lavfi", "-i", "sine=d=1"]
    for name in ("x.m4a", "b/z.wma"):
        subprocess.run(["ffmpeg", "-v", "error", *source, str(folder / name)], check=True)
    found = index(folder, tmp_path / "manifest.json")
    assert [entry.path for entry in found.entries if entry.path.endswith(("m4a", "wma"))] == ["b/z.wma", "x.m4a"]
    assert "6 files, 0.00 hours, 0 files skipped, 1 .m4a, 1 .wma read through ffmpeg" in capfd.readouterr().err


def test_bad_files_are_named_once_and_counted(folder, tmp_path, capfd):
    bad = bad_files(folder)
    found = index(folder, tmp_path / "manifest.json")
    assert len(found.entries) == 4
    assert sorted(path for path, _ in found.skipped) == sorted(name for name, _ in bad)
    lines = capfd.readouterr().err.splitlines()
    for name, _ in bad:
        assert sum(line.startswith(f"skipping {name}: ") for line in lines) == 1
    assert any("4 files" in line and f"{len(bad)} files skipped" in line for line in lines)


def test_only_changes_are_read_again(folder, tmp_path, monkeypatch):
    path, verify, opened = tmp_path / "manifest.json", files.verify, []
    monkeypatch.setattr(manifest.files, "verify", lambda p: opened.append(p.path.name) or verify(p))
    first = index(folder, path)
    assert len(opened) == 4
    written = path.stat().st_mtime_ns
    assert index(folder, path) == first
    assert len(opened) == 4
    assert path.stat().st_mtime_ns == written

    files.write(folder / "b" / "c.ogg", np.full((6_000, 1), 0.1), 8_000)
    files.write(folder / "new.wav", np.full((500, 1), 0.1), 8_000)
    (folder / "z.WAV").unlink()
    opened.clear()
    changed = index(folder, path)
    assert sorted(opened) == ["c.ogg", "new.wav"]
    assert [entry.path for entry in changed.entries] == ["b/a.mp3", "b/c.ogg", "b/deep/ä.flac", "new.wav"]
    assert changed.entries[1].frames == 6_000
    assert len(json.loads(path.read_text())["entries"]) == 4
    opened.clear()
    assert index(folder, path) == changed
    assert opened == []


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"root": "x", "entries": [{"path": 1}], "skipped": []}'])
def test_damaged_manifest_is_made_again(folder, tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_text(content)
    assert len(index(folder, path).entries) == 4
    assert len(json.loads(path.read_text())["entries"]) == 4


def test_no_usable_audio(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"holds no usable sound file \(0 skipped\)"):
        index(empty, tmp_path / "manifest.json")
    (empty / "text.wav").write_text("text")
    with pytest.raises(InputError, match=r"\(1 skipped\)"):
        index(empty, tmp_path / "manifest.json")
    with pytest.raises(InputError, match="does not exist"):
        index(tmp_path / "absent", tmp_path / "manifest.json")
    with pytest.raises(InputError, match="is a file"):
        index(empty / "text.wav", tmp_path / "manifest.json")
    assert not (tmp_path / "manifest.json").exists()


def test_unwritable_manifest(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        index(folder, tmp_path / "file" / "manifest.json")

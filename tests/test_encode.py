"""The program that computes latents: shared, stopped, and told what is wrong."""

import json
import os

import jax
import numpy as np
import pytest
from nets import AUTOENCODER
from test_initial import drawn

from archijax.audio import files
from archijax.errors import InputError
from archijax.pretrained import save_pretrained
from train.dataset import Sounds
from train.encode import main
from train.latents import latent_path

CONFIG = """
from nets import LATENT_MODEL
from train.config import TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=LATENT_MODEL,
    data=DataConfig(sample_rate=8000, channels=1, length=64, crop="fixed", workers=2),
    batch_size=8,
)
"""
NAMES = ("a.wav", "deep/b.wav", "c.wav")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A config, sounds of 1, 2 and 6 crops (the last half silent) with one file that is none, and an autoencoder."""
    folder = tmp_path_factory.mktemp("encode")
    (folder / "tiny.py").write_text(CONFIG)
    (folder / "audio" / "deep").mkdir(parents=True)
    for name, frames in zip(NAMES, (64, 128, 352), strict=True):
        sound = 0.3 * np.random.default_rng(frames).standard_normal((frames, 1)).clip(-1, 1)
        files.write(folder / "audio" / name, sound, 8000)
    save_pretrained(folder / "coder", AUTOENCODER, drawn(AUTOENCODER, 1))
    return folder


def run(folder, out, *more, coder="coder"):
    arguments = ["--data", str(folder / "audio"), "--out", str(folder / out), "--autoencoder", str(folder / coder)]
    return main([str(folder / "tiny.py"), *arguments, *more])


def record(folder, name):
    return json.loads((folder / name).read_text())


def test_every_crop_is_encoded_by_itself(folder):
    assert run(folder, "whole") == 0
    model, variables = AUTOENCODER.build(), drawn(AUTOENCODER, 1)
    for name, count in zip(NAMES, (1, 2, 6), strict=True):
        sound = files.read(folder / "audio" / name, frames=64 * count).reshape(count, 64, 1)
        latents = np.load(latent_path(folder / "whole", name))
        expected, _ = jax.jit(model.encode)(variables, sound)
        np.testing.assert_allclose(latents, np.reshape(expected, (-1, 3)), atol=1e-6)
    said = record(folder / "whole", "latents-0-of-1.json")
    assert (said["finished"], said["channels"], said["frames"]) == (True, 3, 16)
    assert [entry["path"] for entry in said["entries"]] == sorted(NAMES)


def test_processes_share_the_files_and_continue(folder, capsys):
    for shard in ("0", "1"):
        assert run(folder, "shared", "--shard", shard, "--of", "2") == 0
    first, second = (record(folder / "shared", f"latents-{i}-of-2.json") for i in (0, 1))
    assert [entry["path"] for entry in first["entries"]] == ["a.wav", "deep/b.wav"]
    assert [entry["path"] for entry in second["entries"]] == ["c.wav"]

    # As where the second process was killed while it wrote.
    lost = latent_path(folder / "shared", "c.wav")
    whole = lost.read_bytes()
    lost.rename(lost.with_name("c.wav.npy.part"))
    kept = latent_path(folder / "shared", "a.wav").stat().st_mtime_ns
    capsys.readouterr()
    assert run(folder, "shared") == 0
    assert "3 files, of which 2 are encoded already" in capsys.readouterr().err
    assert lost.read_bytes() == whole
    assert latent_path(folder / "shared", "a.wav").stat().st_mtime_ns == kept
    assert {path.name for path in (folder / "shared").iterdir()} == {
        "latents", "latents-0-of-1.json", "manifest.json",
    }  # fmt: skip


def test_changed_files_are_encoded_again_and_broken_ones_left_out(folder, capsys, monkeypatch):
    assert run(folder, "again") == 0
    before = latent_path(folder / "again", "a.wav").stat().st_mtime_ns
    # One that is newer now, and one that an older file has taken the place of.
    for name, later in zip(NAMES[:2], (1, -1), strict=True):
        time = (folder / "audio" / name).stat().st_mtime_ns + later * 10**9
        os.utime(folder / "audio" / name, ns=(time, time))
    read = Sounds.read

    def broken(sounds, entry, start):
        if entry.path == "deep/b.wav" and start > 0:
            raise InputError("it is cut off.")
        return read(sounds, entry, start)

    monkeypatch.setattr(Sounds, "read", broken)
    assert run(folder, "again") == 0
    assert "skipping deep/b.wav: it is cut off." in capsys.readouterr().err
    assert latent_path(folder / "again", "a.wav").stat().st_mtime_ns == before + 10**9
    said = record(folder / "again", "latents-0-of-1.json")
    assert [entry["path"] for entry in said["entries"]] == ["a.wav", "c.wav"]
    assert said["failed"] == [["deep/b.wav", "it is cut off."]]


def test_wrong_input_is_one_sentence(folder, capsys):
    assert run(folder, "other", "--data.normalize", "-20") == 0
    save_pretrained(folder / "second", AUTOENCODER, drawn(AUTOENCODER, 2))
    capsys.readouterr()
    for arguments, message in [
        (["other"], "holds latents of other settings: data.normalize is -20.0 there and None here"),
        (["other", "--data.normalize", "-20"], "holds latents of another autoencoder"),
        (["new", "--shard", "2", "--of", "2"], "--shard 2 --of 2 does not exist"),
        (["new", "--batch-size", "9"], "multiple of the 8 devices"),
        (["new", "--model.autoencoder.stft", "0.5"], "model.autoencoder.stft is 0.5"),
    ]:
        assert run(folder, *arguments, coder="second") == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
    assert main([str(folder / "tiny.py"), "--data", str(folder / "audio"), "--out", str(folder / "new")]) == 2
    assert "--autoencoder MODEL" in capsys.readouterr().err
    assert not (folder / "new").exists()

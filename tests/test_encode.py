"""The program that computes latents and texts: with several processes, interrupted, and with wrong input."""

import dataclasses
import json
import os
import shutil
import tarfile

import jax
import numpy as np
import pytest
from folders import traced_once  # noqa: F401
from nets import AUTOENCODER, LATENT_MODEL, variables_of, write_t5

import archijax as aj
from archijax.audio import files
from archijax.convert.t5 import load_t5
from archijax.errors import InputError
from archijax.pretrained import save_pretrained
from train.batches import batches
from train.config import TrainConfig
from train.dataset import DataConfig, Sounds
from train.encode import encode, main
from train.latents import Latents, embedding_path, latent_path
from train.manifest import index
from train.prompts import tokenizer

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
DATA = dict(sample_rate=8000, channels=1, length=64, prefetch=1)
NAMES = ("a.wav", "deep/b.wav", "c.wav")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A config, sounds of 1, 2 and 6 crops (the last half silent), an autoencoder and a text encoder."""
    folder = tmp_path_factory.mktemp("encode")
    (folder / "tiny.py").write_text(CONFIG)
    (folder / "audio" / "deep").mkdir(parents=True)
    for name, frames in zip(NAMES, (64, 128, 352), strict=True):
        sound = 0.3 * np.random.default_rng(frames).standard_normal((frames, 1)).clip(-1, 1)
        files.write(folder / "audio" / name, sound, 8000, {"artist": "someone"})
    save_pretrained(folder / "coder", AUTOENCODER, variables_of(AUTOENCODER, 1))
    write_t5(folder / "t5", 1)
    return folder


def run(folder, out, *more, coder="coder"):
    arguments = ["--data", str(folder / "audio"), "--out", str(folder / out), "--autoencoder", str(folder / coder)]
    return main([str(folder / "tiny.py"), *arguments, *more])


@pytest.fixture(scope="module")
def whole(folder):
    """The latents of all files."""
    assert run(folder, "whole") == 0
    return folder / "whole"


@pytest.fixture(scope="module")
def texts(folder, whole):
    """The same folder, with three texts per crop."""
    shutil.copytree(whole, folder / "texts")
    assert run_with_texts(folder, "texts") == 0
    return folder / "texts"


def run_with_texts(folder, out, *more):
    return run(folder, out, "--model.text.tokenizer", str(folder / "t5"), "--texts", "3", *more)


def record(folder, name):
    return json.loads((folder / name).read_text())


def test_every_crop_is_encoded_by_itself(folder, whole):
    model, variables = AUTOENCODER.build(), variables_of(AUTOENCODER, 1)
    for name, count in zip(NAMES, (1, 2, 6), strict=True):
        sound = files.read(folder / "audio" / name, frames=64 * count).reshape(count, 64, 1)
        latents = np.load(latent_path(whole, name))
        expected, _ = jax.jit(model.encode)(variables, sound)
        np.testing.assert_allclose(latents, np.reshape(expected, (-1, 3)), atol=1e-6)
    said = record(whole, "latents-0-of-1.json")
    assert (said["finished"], said["channels"], said["frames"]) == (True, 3, 16)
    assert [entry["path"] for entry in said["entries"]] == sorted(NAMES)


def test_processes_share_the_files_and_continue(folder, capsys):
    for shard in ("0", "1"):
        assert run(folder, "shared", "--shard", shard, "--of", "2") == 0
    first, second = (record(folder / "shared", f"latents-{i}-of-2.json") for i in (0, 1))
    assert [entry["path"] for entry in first["entries"]] == ["a.wav", "deep/b.wav"]
    assert [entry["path"] for entry in second["entries"]] == ["c.wav"]

    # The folder after a kill of the second process during a write.
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


def test_a_second_folder_is_refused(folder, capsys):
    assert run(folder, "twice", "--data", str(folder)) == 2
    assert "--data is given 2 times: run this program once per folder, with its own --out." in capsys.readouterr().err
    assert not (folder / "twice").exists()


def test_changed_files_are_encoded_again_and_broken_ones_left_out(folder, capsys, monkeypatch):
    assert run(folder, "again") == 0
    before = latent_path(folder / "again", "a.wav").stat().st_mtime_ns
    # One sound file is newer now, and one is replaced by an older file.
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
    save_pretrained(folder / "second", AUTOENCODER, variables_of(AUTOENCODER, 2))
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


def test_texts_are_prompts_that_training_draws(folder, whole, texts):
    # Every prompt of forty epochs of training, and its embedding.
    model = dataclasses.replace(LATENT_MODEL, text=aj.configs.TextConfig(tokenizer=str(folder / "t5"), max_length=24))
    data, tokenize, prompts = DataConfig(**DATA, crop="fixed"), tokenizer(model), set()

    def note(drawn):
        prompts.update(drawn)
        return tokenize(drawn)

    stream = batches(index(folder / "audio", folder / "m.json"), data, batch_size=90, seed=1, tokenize=note)
    for _ in range(4):
        next(stream)
    prompts = sorted(prompts)
    config, params = load_t5(folder / "t5")
    known = np.asarray(jax.jit(aj.nn.T5Encoder(config).apply)({"params": params}, *tokenize(prompts)))

    found = set()
    for name, count in zip(NAMES, (1, 2, 6), strict=True):
        assert latent_path(texts, name).read_bytes() == latent_path(whole, name).read_bytes()
        stored = np.load(embedding_path(texts, name))
        assert (stored.shape, stored.dtype) == ((count * 3, 24, 8), np.float16)
        for row, embedding in enumerate(stored):
            errors = np.abs(known - embedding).max(axis=(1, 2))
            nearest, second = np.sort(errors)[:2]
            assert nearest < 2e-3 < 1e-2 < second
            prompt = prompts[int(errors.argmin())]
            assert prompt.endswith(f"{row // 3 + 1} of {count}")
            found.add(prompt)
    assert len(found) > 12
    said = record(texts, "latents-0-of-1.json")["texts"]
    assert (said["count"], said["settings"]) == (3, {
        "model": {"text": {"tokenizer": str(folder / "t5"), "max_length": 24}},
        "data": {"crop": "fixed", "prompt": None, "template": None},
    })  # fmt: skip


def test_processes_encode_what_is_missing_of_latents_or_texts(folder, texts, capsys):
    again = shutil.copytree(texts, folder / "missing")
    paths = [path(again, name) for path in (latent_path, embedding_path) for name in NAMES]
    # A file that is written again has another inode.
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in paths}
    lost = {latent_path(again, "a.wav"), embedding_path(again, "deep/b.wav"), embedding_path(again, "c.wav")}
    for path in lost:
        path.rename(path.with_name(f"{path.name}.part"))
    capsys.readouterr()
    for shard, files_of_it in (("0", 2), ("1", 1)):
        assert run_with_texts(folder, "missing", "--shard", shard, "--of", "2") == 0
        assert f"{files_of_it} files, of which 0 are encoded already" in capsys.readouterr().err
    for path, (number, content) in before.items():
        assert path.read_bytes() == content
        assert path in lost or path.stat().st_ino == number


def test_texts_that_do_not_fit_are_one_sentence(folder, texts, capsys):
    text = ["--model.text.tokenizer", str(folder / "t5")]
    capsys.readouterr()
    for arguments, message in [
        ([*text], "holds 3 texts of every crop, but --texts is 0: give --texts 3"),
        ([*text, "--texts", "3", "--data.prompt", "a", "--model.text.max-length", "12"],
         "texts of other settings: data.prompt is None there and a here; model.text.max_length is 24 there and 12"),
        (["--texts", "-1"], "--texts is -1, but must be 0 or more"),
        (["--texts", "3"], 'model.text.tokenizer is "bytes" and model.text.placeholder_tokens (): use'),
        (
            [*text, "--texts", "3", "--model.text.placeholder-tokens", "<a>"],
            "model.text.placeholder_tokens ('<a>',): use",
        ),
    ]:  # fmt: skip
        assert run(folder, "texts", *arguments) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
    write_t5(folder / "t5", 2)
    assert run_with_texts(folder, "texts") == 2
    assert "holds texts of another encoder" in capsys.readouterr().err
    write_t5(folder / "t5", 1)
    silent = TrainConfig(
        dataclasses.replace(LATENT_MODEL, text=None), DataConfig(sample_rate=8000, channels=1, length=64),
        batch_size=8, autoencoder=str(folder / "coder"),
    )  # fmt: skip
    with pytest.raises(InputError, match="the model reads no text"):
        encode(silent, folder / "audio", folder / "new", texts=1)


def test_latents_keep_the_captions_and_follow_new_ones(folder, tmp_path, capsys):
    """Training on latents draws captions, and the stored texts include each caption. Parts of files have latents."""
    audio = shutil.copytree(folder / "audio", tmp_path / "audio")
    rows = [("a.wav", "", "", "one"), ("a.wav", "", "", "two"), ("c.wav", "0.008", "0.024", "part", "low")]
    table = "file_name,start,end,text,mood\n" + "".join(",".join(row) + "\n" for row in rows)
    (audio / "metadata.csv").write_text(table)

    def encoded(*texts):
        arguments = ["--data", str(audio), "--out", str(tmp_path / "out"), "--autoencoder", str(folder / "coder")]
        text = ["--model.text.tokenizer", str(folder / "t5"), "--data.crop", "random"] if texts else []
        assert main([str(folder / "tiny.py"), *arguments, *text, *texts]) == 0
        return {entry["path"]: entry for entry in record(tmp_path / "out", "latents-0-of-1.json")["entries"]}

    entries = encoded()
    assert {name: entry["captions"] for name, entry in entries.items()} == {
        "a.wav": ["one", "two"], "c.wav": ["part"], "deep/b.wav": [],
    }  # fmt: skip
    sound = files.read(audio / "c.wav", start=64, frames=128).reshape(2, 64, 1)
    expected, _ = jax.jit(AUTOENCODER.build().encode)(variables_of(AUTOENCODER, 1), sound)
    stored = np.load(latent_path(tmp_path / "out", "c.wav@64-192"))
    np.testing.assert_allclose(stored, np.reshape(expected, (-1, 3)), atol=1e-6)

    settings = TrainConfig(
        LATENT_MODEL, DataConfig(**DATA), batch_size=8,
        autoencoder=str(folder / "coder"),
    )  # fmt: skip
    latents, prompts, fields = Latents(tmp_path / "out", settings), [], []

    def note(drawn):
        prompts.extend(drawn)
        return np.zeros((len(drawn), 1)), np.ones((len(drawn), 1))

    def encode_fields(columns):
        fields.extend(zip(*columns.values(), strict=True))
        return {}

    names = ("mood", "artist", "seconds_start", "seconds_total")
    stream = batches(
        latents.manifest, settings.data, batch_size=40, seed=1, tokenize=note, source=latents, fields=names,
        encode_fields=encode_fields,
    )  # fmt: skip
    assert next(stream).keys() == {"latent", "tokens", "token_mask"}
    assert set(prompts) - {"someone", "", "b"} == {"one", "two", "part"}
    of_part = {start for mood, artist, start, total in fields if (mood, artist, total) == ("low", "someone", 0.016)}
    # Crops start at any frame of four samples, if they end within the part.
    assert of_part <= {frame * 4 / 8000 for frame in range(17)}
    assert len(of_part) > 5
    assert {(mood, total) for mood, _, _, total in fields} == {("low", 0.016), (None, 0.008), (None, 0.016)}

    # New captions need new texts. All other files stay.
    encoded("--texts", "2")
    paths = [
        latent_path(tmp_path / "out", "a.wav"),
        *(embedding_path(tmp_path / "out", n) for n in ("a.wav", NAMES[1])),
    ]
    first = np.load(paths[1])
    assert np.abs(first[0] - first[1]).max() > 1e-3
    before = [path.stat().st_ino for path in paths]
    (audio / "metadata.csv").write_text(table.replace("two", "another"))
    assert encoded("--texts", "2")["a.wav"]["captions"] == ["one", "another"]
    assert [path.stat().st_ino == number for path, number in zip(paths, before, strict=True)] == [True, False, True]
    again = np.load(paths[1])
    np.testing.assert_array_equal(again[0], first[0])
    assert np.abs(again[1] - first[1]).max() > 1e-3


def test_shards_are_encoded_like_files(folder, whole, tmp_path):
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "a.tar", "w") as tar:
        for name in NAMES:
            tar.add(folder / "audio" / name, name)
    arguments = ["--data", str(tmp_path / "packed"), "--out", str(tmp_path / "out")]
    assert main([str(folder / "tiny.py"), *arguments, "--autoencoder", str(folder / "coder")]) == 0
    for name in NAMES:
        assert latent_path(tmp_path / "out", name).read_bytes() == latent_path(whole, name).read_bytes()


def test_latents_refuse_changes_of_sounds(folder, whole):
    for change in ({"pitch_shift": 1.0}, {"random_gain": 3.0}, {"flip_polarity": True}):
        data = DataConfig(sample_rate=8000, channels=1, length=64, **change)
        with pytest.raises(InputError, match=f"data.{next(iter(change))} must be left out for latents"):
            Latents(whole, TrainConfig(LATENT_MODEL, data, batch_size=8))

"""Latents in place of sounds, and embeddings in place of prompts: the batches and the training stay the same."""

import dataclasses
import functools
import json
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest
from folders import traced_once  # noqa: F401
from nets import AUTOENCODER, LATENT_MODEL, variables_of, write_t5

import archijax as aj
from archijax.audio import files
from archijax.configs import KINDS
from archijax.convert.t5 import load_t5
from archijax.errors import InputError
from archijax.pretrained.folder import save_pretrained
from archijax.training.checkpoints import restore_weights
from train.__main__ import main
from train.batches import batches
from train.config import TrainConfig
from train.dataset import DataConfig
from train.encode import encode
from train.latents import Latents, embedding_path, latent_path
from train.loop import train
from train.manifest import index
from train.prompts import tokenizer
from train.sources import Sources

DATA = DataConfig(sample_rate=8000, channels=1, length=64, crop="fixed", workers=2, prefetch=1)
TOY = """
import dataclasses
from typing import Any

import jax.numpy as jnp
from nets import AUTOENCODER

from archijax.configs import KINDS
from archijax.configs.base import ModelConfig
from train.config import DataConfig, TrainConfig


@dataclasses.dataclass(frozen=True)
class ToyConfig(ModelConfig):
    sample_rate: int = 8000
    channels: int = 1
    length: int = 64
    autoencoder: Any = AUTOENCODER

    def build(self):
        return Toy(self.autoencoder.build())


KINDS["toy"] = ToyConfig


@dataclasses.dataclass
class Toy:
    autoencoder: Any

    def init(self, key, batch, frozen=None):
        frozen = frozen or {"autoencoder": self.autoencoder.init(key, {"audio": batch["audio"]})}
        return {"params": {"mean": jnp.zeros(batch["latent"].shape[-1])}, "frozen": frozen}

    def loss(self, variables, keys, batch):
        return jnp.mean((batch["latent"] - variables["params"]["mean"]) ** 2), ({}, {})


config = TrainConfig(
    model=ToyConfig(),
    data=DataConfig(sample_rate=8000, channels=1, length=64, crop="fixed", workers=1),
    batch_size=8,
    steps=1,
    sample_prompts=(),
)
"""


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, time, *, embedding, embedding_mask=None):
        return nn.Dense(x.shape[-1], name="own")(x) + nn.Dense(x.shape[-1], name="text")(embedding).mean(1)[:, None]


class Quick(aj.configs.LatentConfig):
    """A latent model that compiles fast."""

    @functools.cache  # noqa: B019  there is only one instance
    def build(self):
        model = super().build()
        return dataclasses.replace(model, model=dataclasses.replace(model.model, net=Net()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sounds of 1, 2 and 6 crops, an autoencoder and their latents."""
    folder = tmp_path_factory.mktemp("latents")
    (folder / "audio").mkdir()
    for frames in (64, 128, 352):
        sound = 0.3 * np.random.default_rng(frames).standard_normal((frames, 1)).clip(-1, 1)
        files.write(folder / "audio" / f"{frames}.wav", sound, 8000, {"artist": "someone"})
    save_pretrained(folder / "coder", AUTOENCODER, variables_of(AUTOENCODER, 1))
    encode(config(folder), folder / "audio", folder / "stored")
    return folder


@pytest.fixture(scope="module")
def texts(folder):
    """A folder with the same latents and three equal texts per random crop."""
    write_t5(folder / "t5", 1)
    shutil.copytree(folder / "stored", folder / "texts")
    encode(text_config(folder), folder / "audio", folder / "texts", texts=3)
    return folder / "texts"


def text_config(folder, **changes):
    text = aj.configs.TextConfig(str(folder / "t5"), max_length=24, cond_drop_prob=0.5)
    settings = config(folder, crop="random", prompt="a pad")
    return dataclasses.replace(settings, model=Quick(**{**vars(LATENT_MODEL), "text": text}), **changes)


def config(folder, **data):
    return TrainConfig(
        LATENT_MODEL, data=dataclasses.replace(DATA, **data), batch_size=8, autoencoder=str(folder / "coder")
    )


def stream(latents, **settings):
    settings = {"batch_size": 4, "seed": 3, "tokenize": tokenize, **settings}
    return batches(latents.manifest, latents.config, source=latents, **settings)


def tokenize(texts):
    tokens = np.zeros((len(texts), 24), np.int32)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = np.frombuffer(text.encode(), np.uint8)
    return tokens, tokens != 0


def test_training_on_latents_is_training_on_their_sounds(folder):
    latents = Latents(folder / "stored", config(folder))
    sounds = index(folder / "audio", folder / "manifest.json")
    variables = variables_of(LATENT_MODEL, 2)
    variables["frozen"]["autoencoder"] = variables_of(AUTOENCODER, 1)
    loss = jax.jit(LATENT_MODEL.build().loss)
    ours, theirs = stream(latents), batches(sounds, DATA, batch_size=4, seed=3, tokenize=tokenize)
    for step in range(4):
        stored, heard = next(ours), next(theirs)
        assert stored["latent"].shape == (4, 16, 3)
        np.testing.assert_array_equal(stored["tokens"], heard["tokens"])
        keys = jax.random.split(jax.random.key(step), 4)
        (one, _), (two, _) = loss(variables, keys, stored), loss(variables, keys, heard)
        np.testing.assert_allclose(one, two, rtol=1e-5)


def test_the_order_continues_and_is_shared_like_that_of_sounds(folder):
    latents = Latents(folder / "stored", config(folder))
    iterator = stream(latents)
    for _ in range(3):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    parts = [stream(latents, batch_size=2, shard_index=i, shard_count=2) for i in (0, 1)]
    for part in parts:
        part.set_state(state)
    whole, halves = next(iterator), [next(part) for part in parts]
    for name in whole:
        np.testing.assert_array_equal(whole[name], np.concatenate([half[name] for half in halves]))


def test_one_prompt_for_all(folder):
    for crop, ends in (("fixed", {f"{i} of {n}" for n in (1, 2, 6) for i in range(1, n + 1)}), ("random", {""})):
        latents = Latents(folder / "stored", config(folder, crop=crop, prompt="a <mine>"))
        found = {bytes(row[row > 0].astype(np.uint8)).decode() for row in next(stream(latents, batch_size=9))["tokens"]}
        assert {text.removeprefix("a <mine>").strip(", ") for text in found} == ends


def test_random_crops_start_at_any_frame_of_the_sound(folder):
    latents = Latents(folder / "stored", config(folder, crop="random"))
    assert [latents.frames(entry) for entry in latents.manifest.entries] == [32, 88, 16]
    stored = np.load(latent_path(folder / "stored", "352.wav"))
    starts = set()
    random = stream(latents, batch_size=30)
    for _ in range(8):
        for crop in next(random)["latent"]:
            starts |= {start for start in range(81) if np.array_equal(crop, stored[start : start + 16])}
    # The last half of the sixth crop is silence. No crop starts there.
    assert starts <= set(range(73))
    assert len(starts) > 50


def test_the_program_trains_on_latents_of_its_own_autoencoder_alone(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(KINDS, "toy", None)
    (tmp_path / "toy.py").write_text(TOY)
    save_pretrained(tmp_path / "other", AUTOENCODER, variables_of(AUTOENCODER, 2))

    def run(coder):
        arguments = ["--data", str(folder / "stored"), "--out", str(tmp_path / "run"), "--autoencoder", str(coder)]
        return main([str(tmp_path / "toy.py"), *arguments])

    assert run(tmp_path / "other") == 2
    assert "are of another autoencoder" in capsys.readouterr().err.splitlines()[-1]
    assert run(folder / "coder") == 0
    _, trees = restore_weights(tmp_path / "run")
    assert np.abs(trees["params"]["mean"]).min() > 0


def test_latents_that_do_not_fit_are_refused(folder, tmp_path):
    def refused(message, made):
        with pytest.raises(InputError, match=message):
            Latents(folder / "stored", made)

    refused(r"data\.length is 64 there and 128 here", TrainConfig(
        dataclasses.replace(LATENT_MODEL, length=128), data=dataclasses.replace(DATA, length=128)))  # fmt: skip
    refused("only a latent model trains on", TrainConfig(AUTOENCODER, data=DATA, sample_prompts=()))

    encode(config(folder, normalize=-20.0), folder / "audio", tmp_path, shard=1, of=2)
    with pytest.raises(InputError, match="not complete"):
        Latents(tmp_path, config(folder, normalize=-20.0))
    encode(config(folder, normalize=-20.0), folder / "audio", tmp_path, shard=0, of=2)
    latents = Latents(tmp_path, config(folder, normalize=-20.0))
    with pytest.raises(InputError, match=r"set data\.crop to fixed"):
        Latents(tmp_path, config(folder, normalize=-20.0, crop="random"))

    for path in tmp_path.glob("latents/*.npy"):
        path.unlink()
    with pytest.raises(InputError, match="None of the 3"):
        next(stream(latents))


def test_training_on_texts_is_training_on_their_prompts(folder, texts):
    settings = text_config(folder)
    variables = variables_of(settings.model, 2)
    variables["frozen"] = {"autoencoder": variables_of(AUTOENCODER, 1), "embedder": load_t5(folder / "t5")[1]}
    loss = jax.jit(settings.model.build().loss)
    ours, theirs = (
        stream(Latents(folder / name, settings), tokenize=tokenizer(settings.model)) for name in ("texts", "stored")
    )
    for step in range(3):
        stored, read = next(ours), next(theirs)
        assert {name: (leaf.shape, leaf.dtype) for name, leaf in stored.items()} == {
            "latent": ((4, 16, 3), np.float32), "embedding": ((4, 24, 8), np.float32),
        }  # fmt: skip
        np.testing.assert_array_equal(stored["latent"], read["latent"])
        keys = jax.random.split(jax.random.key(step), 4)
        (one, _), (two, _) = loss(variables, keys, stored), loss(variables, keys, read)
        np.testing.assert_allclose(one, two, rtol=1e-4)


def test_one_of_the_texts_of_the_crop_is_drawn(folder, texts, tmp_path):
    shutil.copytree(texts, tmp_path / "numbered")
    for count, name in ((1, "64.wav"), (2, "128.wav"), (6, "352.wav")):
        # Each embedding contains its number.
        rows = np.arange(count * 3, dtype=np.float16)[:, None, None] * np.ones((24, 8), np.float16)
        np.save(embedding_path(tmp_path / "numbered", name), rows)
    latents = Latents(tmp_path / "numbered", text_config(folder))
    stored = np.load(latent_path(texts, "352.wav"))
    iterator, found = stream(latents, batch_size=30), set()
    for _ in range(8):
        state, batch = iterator.get_state(), next(iterator)
        for latent, embedding in zip(batch["latent"], batch["embedding"], strict=True):
            starts = [start for start in range(81) if np.array_equal(latent, stored[start : start + 16])]
            if starts:
                assert starts[0] // 16 == embedding[0, 0] // 3
                found.add(int(embedding[0, 0]))
    assert found >= set(range(15))
    iterator.set_state(json.loads(json.dumps(state)))
    again = next(iterator)
    for name in batch:
        np.testing.assert_array_equal(again[name], batch[name])

    embedding_path(tmp_path / "numbered", "352.wav").unlink()
    np.save(embedding_path(tmp_path / "numbered", "128.wav"), rows[:6, :12])
    replaced = next(stream(latents, batch_size=9))
    assert replaced["embedding"].max() <= 2


def test_texts_that_do_not_fit_are_refused(folder, texts):
    settings = text_config(folder)
    text, other = settings.model.text, dataclasses.replace(settings, data=DATA)
    short = dataclasses.replace(text, max_length=12)
    for changed, given, message in [
        (short, settings, r"holds texts of other settings: model\.text\.max_length is 24 there and 12 here"),
        (text, other, r"data\.crop is random there and fixed here; data\.prompt is a pad there and None here"),
    ]:
        model = dataclasses.replace(settings.model, text=changed)
        with pytest.raises(InputError, match=message):
            Latents(texts, dataclasses.replace(given, model=model))
    # Models that cannot use embeddings use only the latents.
    for changed in (dataclasses.replace(text, placeholder_tokens=("<a>",)), LATENT_MODEL.text):
        model = dataclasses.replace(settings.model, text=changed)
        assert Latents(texts, dataclasses.replace(settings, model=model)).texts == 0


def test_latents_of_several_folders(folder, tmp_path):
    (tmp_path / "audio").mkdir()
    files.write(tmp_path / "audio" / "64.wav", np.full((64, 1), 0.5), 8000)
    encode(config(folder), tmp_path / "audio", tmp_path / "more")
    both = Sources(config(folder), [f"{folder / 'stored'}:3", str(tmp_path / "more")], index)
    batch = next(batches(both.manifest, DATA, batch_size=40, seed=0, source=both))["latent"]
    own = np.load(latent_path(tmp_path / "more", "64.wav"))
    assert sum(np.array_equal(latent, own) for latent in batch) == 10
    with pytest.raises(InputError, match=r"are of another autoencoder"):
        both.check({"autoencoder": variables_of(AUTOENCODER, 2)})
    with pytest.raises(InputError, match="hold latents and others sounds: all must be of one kind"):
        Sources(config(folder), [str(folder / "stored"), str(tmp_path / "audio")], index)


def test_latents_with_texts_and_without_do_not_mix(folder, texts):
    with pytest.raises(InputError, match="have texts and others have none: encode all with the same --texts"):
        Sources(text_config(folder), [str(texts), str(folder / "stored")], index)


@pytest.mark.slow
def test_a_training_on_texts_continues_bit_for_bit(folder, texts, tmp_path, monkeypatch, unchecked):
    monkeypatch.setitem(KINDS, "quick", Quick)
    settings = text_config(
        folder, batch_size=2, steps=4, log_every=1, checkpoint_every=2, validation=0.4, sample_prompts=()
    )
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert train(settings, texts, whole, devices=jax.devices()[:1]) == 0
    # The folder of a run that was killed after its first checkpoint.
    shutil.copytree(whole, stopped)
    shutil.rmtree(stopped / "checkpoints" / "4")
    again = dataclasses.replace(settings, sample_prompts=("a pad",), sample_steps=1)
    assert train(again, texts, stopped, devices=jax.devices()[:1]) == 0
    assert [path.name for path in (stopped / "samples").glob("*.wav")] == ["step_0000004_0.wav"]
    assert (stopped / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    parts = ("step", "params", "ema", "opt_state", "frozen")
    (_, ours), (_, theirs) = (restore_weights(run, parts=parts) for run in (stopped, whole))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert int(ours["step"]) == 4

    other = jax.tree.map(np.negative, ours["frozen"]["embedder"])
    with pytest.raises(InputError, match="were encoded by another encoder"):
        Latents(texts, settings).check({**ours["frozen"], "embedder": other})

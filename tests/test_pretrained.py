"""Folders to share: reading returns the written model, and wrong folders are rejected."""

import dataclasses
import json
import pickle
import re
import shutil

import huggingface_hub.constants
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from folders import traced_once  # noqa: F401
from nets import OOBLECK, STABLE_AUDIO, TEXT_MODEL, UNET, variables_of
from safetensors.numpy import load_file, save_file

import archijax as aj
from archijax.audio import files
from archijax.audio.loudness import level, loudness
from archijax.configs import KINDS
from archijax.convert.t5 import to_torch
from archijax.pipeline import Pipeline
from archijax.pipeline.facts import Facts
from archijax.pretrained import from_pretrained, save_pretrained

BY = ("rms", "lufs")
FACTS = Facts(loudness=-14.0, loudness_by="lufs", step=7, metrics={"loss": 0.25})
CODER = aj.configs.CoderConfig(channels=4, multipliers=(1, 2), factors=(2,), num_blocks=(1,), resnet_groups=2)
AUTOENCODER = aj.configs.AutoEncoderConfig(
    coder=CODER,
    bottleneck=(aj.configs.QuantizerConfig(num_codes=8),),
    latent_channels=4,
    sample_rate=8000,
    length=64,
)
SOUND = dict(sample_rate=8000, length=64, unet=dataclasses.replace(UNET, attentions=(), cross_attentions=()))
CONFIGS = {
    "diffusion": TEXT_MODEL,
    "upsampler": aj.configs.UpsamplerConfig(**SOUND, factor=4),
    "vocoder": aj.configs.VocoderConfig(**SOUND, n_fft=16, hop_length=4, mel_channels=5),
    "diffusion_autoencoder": aj.configs.DiffusionAEConfig(
        **SOUND, encoder=aj.configs.EncoderConfig(CODER, "waveform", latent_channels=3), autoencoder=AUTOENCODER
    ),
    "latent": aj.configs.LatentConfig(**SOUND, autoencoder=AUTOENCODER),
    "autoregressive": aj.configs.AutoregressiveConfig(**SOUND),
    "autoencoder": AUTOENCODER,
    "oobleck": OOBLECK,
    "stable_audio": STABLE_AUDIO,
    "magnitude_autoencoder": aj.configs.MagnitudeAutoEncoderConfig(coder=CODER, length=64, n_fft=15, hop_length=4),
}


@pytest.fixture(scope="module")
def variables():
    return variables_of(TEXT_MODEL)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, variables):
    folder = tmp_path_factory.mktemp("saved") / "pads"
    save_pretrained(folder, TEXT_MODEL, variables, FACTS)
    return folder


@pytest.fixture
def folder(tmp_path, saved):
    return shutil.copytree(saved, tmp_path / "pads")


def assert_same(loaded, variables):
    ours, theirs = (flatten_dict(v, sep=".") for v in (loaded, variables))
    assert ours.keys() == theirs.keys()
    for name, leaf in theirs.items():
        np.testing.assert_array_equal(ours[name], leaf)


def changed(folder, change):
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    change(settings)
    path.write_text(json.dumps(settings))


def refused(name, words, **options):
    with pytest.raises(aj.InputError, match=words) as error:
        from_pretrained(name, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_saved_comes_back(folder, variables):
    pipeline = from_pretrained(folder)
    assert (pipeline.config, pipeline.facts) == (TEXT_MODEL, FACTS)
    assert isinstance(pipeline.model, aj.DiffusionModel)
    assert_same(pipeline.variables, variables)
    assert {path.name for path in folder.parent.iterdir()} == {"pads"}
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert (folder / "model.safetensors").stat().st_mode == (folder / "README.md").stat().st_mode


def test_sounds_get_the_loudness_of_the_training_by_its_measure(variables):
    # Hardly any of this hum is heard, so that its RMS is far above its loudness.
    hum = np.sin(2 * np.pi * 20 * np.arange(8_000) / 8_000).astype(np.float32)[:, None] * 0.01
    of = {by: Pipeline(TEXT_MODEL, TEXT_MODEL.build(), variables, Facts(loudness=-30.0, loudness_by=by)) for by in BY}
    gains = {by: pipeline.gain(hum) for by, pipeline in of.items()}
    assert loudness(hum * gains["lufs"], 8_000) == pytest.approx(-30, abs=0.1)
    assert level(hum * gains["rms"]) == pytest.approx(-30, abs=0.1)
    assert gains["lufs"] > 2 * gains["rms"]
    # An upsampler measures the sound at the low sample rate.
    louder = 5 * hum
    assert loudness(louder * of["lufs"].gain(louder, 4_000), 4_000) == pytest.approx(-30, abs=0.1)
    with pytest.raises(aj.InputError, match="the sound has 2000 Hz and 1 channels"):
        of["lufs"].gain(hum, 2_000)


def test_transposed_arrays_are_saved_as_they_look(tmp_path, variables):
    turned = jax.tree.map(np.asfortranarray, variables)
    save_pretrained(tmp_path / "pads", TEXT_MODEL, turned)
    assert_same(from_pretrained(tmp_path / "pads").variables, variables)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back(tmp_path, kind):
    variables = variables_of(CONFIGS[kind])
    save_pretrained(tmp_path / "model", CONFIGS[kind], variables)
    loaded = from_pretrained(tmp_path / "model")
    assert loaded.config == CONFIGS[kind]
    assert_same(loaded.variables, variables)
    assert bool(jax.tree.leaves(loaded.variables["state"])) == (kind in ("autoencoder", "oobleck"))


def test_a_text_encoder_that_is_named_stays_where_it_is(tmp_path):
    sizes = {"vocab_size": 11, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    encoder = aj.nn.T5Config(**sizes)
    tokens = np.ones((1, 6), np.int32)
    params = jax.eval_shape(aj.nn.T5Encoder(encoder).init, jax.random.key(1), tokens, tokens > 0)["params"]
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype), params)
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "config.json").write_text(json.dumps(sizes))
    save_file(to_torch(params, encoder), tmp_path / "t5" / "model.safetensors")
    text = dataclasses.replace(TEXT_MODEL.text, tokenizer=str(tmp_path / "t5"))
    config = dataclasses.replace(TEXT_MODEL, text=text)
    variables = {**variables_of(config), "frozen": {"embedder": params}}
    save_pretrained(tmp_path / "pads", config, variables)
    assert all(name.startswith("params.net.") for name in load_file(tmp_path / "pads" / "model.safetensors"))
    assert f"`{tmp_path / 't5'}`" in (tmp_path / "pads" / "README.md").read_text()
    assert_same(from_pretrained(tmp_path / "pads").variables, variables)


def test_large_weights_are_split(tmp_path, variables):
    save_pretrained(tmp_path / "pads", TEXT_MODEL, variables, shard_bytes=4000)
    shards = sorted(tmp_path.glob("pads/*.safetensors"))
    assert len(shards) > 2
    assert shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
    # A file is larger only if it has a single tensor.
    assert all(sum(a.nbytes for a in t.values()) <= 4000 or len(t) == 1 for t in map(load_file, shards))
    index = json.loads((tmp_path / "pads" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    assert_same(from_pretrained(tmp_path / "pads").variables, variables)
    shards[1].unlink()
    refused(tmp_path / "pads", f"get {shards[1].name}")


@pytest.mark.parametrize("config", [TEXT_MODEL, AUTOENCODER], ids=["diffusion", "autoencoder"])
def test_the_model_cards_lines_run(tmp_path, monkeypatch, config):
    save_pretrained(tmp_path / 'my "pads"', config, variables_of(config), FACTS)
    card = (tmp_path / 'my "pads"' / "README.md").read_text()
    assert "| step | 7 |" in card
    assert "| loss | 0.25 |" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    files.write("sound.wav", np.zeros((64, 2), np.float32), config.sample_rate)
    names = {}
    exec(code, names)
    assert names["sounds"].shape == (1, 64, 2)
    assert names["sample_rate"] == config.sample_rate
    assert np.isfinite(names["sounds"]).all()
    described = json.loads(re.search(r"```json\n(.*?)```", card, re.DOTALL)[1])
    assert aj.configs.from_dict(described) == config


def test_a_folder_that_holds_something_is_left_alone(folder, variables):
    with pytest.raises(aj.InputError, match="exists and is not empty"):
        save_pretrained(folder, TEXT_MODEL, variables)
    with pytest.raises(aj.InputError, match="exists and is not empty"):
        save_pretrained(folder / "README.md", TEXT_MODEL, variables)


def test_a_failed_save_leaves_nothing(tmp_path, variables, monkeypatch):
    (tmp_path / "pads").mkdir()
    with pytest.raises(aj.InputError, match=r"the variables do not fit the configuration: missing params\.embedder"):
        save_pretrained(tmp_path / "pads", TEXT_MODEL, {"params": {"net": variables["params"]["net"]}})
    with pytest.raises(aj.InputError, match="not finite numbers"):
        save_pretrained(tmp_path / "pads", TEXT_MODEL, variables, Facts(metrics={"loss": float("nan")}))
    monkeypatch.setattr("archijax.pretrained.folder.card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_pretrained(tmp_path / "pads", TEXT_MODEL, variables)
    assert [path.name for path in tmp_path.rglob("*")] == ["pads"]


def test_the_hubs_cache_serves_without_a_network(tmp_path, variables, monkeypatch):
    cache, commit = tmp_path / "cache" / "models--someone--pads", "0123456789abcdef" * 2 + "01234567"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    save_pretrained(cache / "snapshots" / commit, TEXT_MODEL, variables)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    assert_same(from_pretrained("someone/pads").variables, variables)
    assert_same(from_pretrained("someone/pads", revision=commit).variables, variables)
    refused("someone/pads", "not complete in the local cache", revision="v2")
    refused("someone/pads", "is not the name of a branch", revision="../main")
    refused("runs/pads", "there is no folder 'runs/pads', and model 'runs/pads' is not complete")
    refused("pads", "there is no folder 'pads' and no bundled model of this name, only codec-16k, notes, upsampler-48k")
    # The settings of a downloaded model must not read folders of this machine.
    (tmp_path / "t5").mkdir()
    for place in (str(tmp_path / "t5"), "../t5"):
        changed(cache / "snapshots" / commit, lambda s, place=place: s["model"]["text"].update(tokenizer=place))
        assert "is not the name of a model on the hub" in refused("someone/pads", "text encoder")


@pytest.mark.parametrize("name", ["../pads", "a/../pads", "no/such/folder", "someone/pads\n", ""])
def test_names_that_are_none(name):
    refused(name.replace("\n", "\x00"), "neither an existing folder nor a name")


@pytest.mark.parametrize("damage", ["truncated", "pickle", "empty", "header"])
def test_damaged_weights(folder, damage, tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("executed").touch, ())

    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(
        {"truncated": whole[:-10], "pickle": pickle.dumps(Evil()), "empty": b"", "header": b"\xff" * 8 + whole[8:]}[
            damage
        ]
    )
    refused(folder, "is not a complete safetensors file")
    assert not (tmp_path / "executed").exists()


def test_eight_bit_floats(folder):
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    refused(folder, "of a type that numpy lacks")


def test_tensors_that_do_not_fit_are_named(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    first, second, third, *_ = sorted(tensors)
    del tensors[first]
    tensors["stranger"] = np.zeros(3, np.float32)
    tensors[second] = tensors[second][..., None]
    tensors[third] = tensors[third].astype(np.float64)
    save_file(tensors, path)
    said = refused(folder, "do not fit its config.json")
    for words in (f"missing {first};", "unknown stranger;", f"{second} is float32 [", f"{third} is float64 ["):
        assert words in said


def test_tensors_under_names_of_other_collections(folder):
    path = folder / "model.safetensors"
    save_file({**load_file(path), "params": np.zeros(1, np.float32), "../x": np.zeros(1, np.float32)}, path)
    refused(folder, r"unknown \.\./x, params")


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "a.bin"])
def test_an_index_stays_in_its_folder(tmp_path, variables, shard):
    save_pretrained(tmp_path / "pads", TEXT_MODEL, variables, shard_bytes=10000)
    path = tmp_path / "pads" / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"][min(index["weight_map"])] = shard
    path.write_text(json.dumps(index))
    refused(tmp_path / "pads", r"must be a \.safetensors file in the same folder")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update(auto_map="x.py"), "the unknown setting 'auto_map'"),
        (lambda s: s.pop("model"), "it lacks 'model'"),
        (lambda s: s.update(model=3), "kind is 3"),
        (lambda s: s.update(model=[]), r"kind is \[\]"),
        (lambda s: s.update(loudness="loud"), "the loudness 'loud'"),
        (lambda s: s.update(loudness=True), "the loudness True"),
        (lambda s: s.update(loudness_by="ears"), "the loudness_by 'ears'"),
        (lambda s: s.update(step=-1), "the step -1"),
        (lambda s: s.update(metrics=[1]), "metrics that are not finite numbers"),
        (lambda s: s.update(metrics={"loss": "low"}), "metrics that are not finite numbers"),
        (lambda s: s["model"].update(kind="__import__"), "kind is '__import__'"),
        (lambda s: s["model"].update(kind=["diffusion"]), r"kind is|cannot be built"),
        (lambda s: s["model"].update(target="os.system"), "unknown setting 'target'"),
        (lambda s: s["model"].update(length="64"), "length is '64'"),
        (lambda s: s["model"].update(sigma_data=10**400), "cannot be built"),
        (lambda s: s["model"].update(channels=1), "do not fit its config.json"),
        (lambda s: s["model"].update(length=2**70), "config.json"),
        (lambda s: s["model"]["unet"].update(channels=[8, -16]), "config.json"),
        (lambda s: s["model"]["unet"].update(factors=[0, 0]), "config.json"),
        (lambda s: s["model"]["unet"].update(channels=[]), "config.json"),
        (lambda s: s["model"]["unet"].update(items=[True, True]), "True"),
        (lambda s: s["model"]["text"].update(tokenizer="../../secret"), "neither an existing folder nor a name"),
    ],
)
def test_settings_that_are_wrong(folder, change, words):
    changed(folder, change)
    refused(folder, words)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, "\xff", '{"model": NaN}', ""])
def test_a_config_that_is_no_object(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin1"))
    refused(folder, r"config\.json")


def test_a_folder_without_its_files(folder):
    (folder / "model.safetensors").unlink()
    assert "pytorch" not in refused(folder, r"get config\.json, model\*\.safetensors")
    (folder / "config.json").unlink()
    refused(folder, r"get config\.json, model\*\.safetensors")


def test_half_the_size_and_nearly_the_weights(tmp_path, variables):
    save_pretrained(tmp_path / "pads", TEXT_MODEL, variables, half=True)
    stored = load_file(tmp_path / "pads" / "model.safetensors")
    assert {str(leaf.dtype) for leaf in stored.values()} == {"float16"}
    loaded, ours = (flatten_dict(tree, sep=".") for tree in (from_pretrained(tmp_path / "pads").variables, variables))
    for name, leaf in ours.items():
        assert loaded[name].dtype == leaf.dtype
        np.testing.assert_allclose(loaded[name], leaf, rtol=2**-11, atol=2**-24)


def test_what_is_too_large_for_half_is_not_written(tmp_path, variables):
    large = jax.tree.map(lambda leaf: leaf + 1e5, variables)
    with pytest.raises(aj.errors.InputError, match="too large for float16: save it without half"):
        save_pretrained(tmp_path / "pads", TEXT_MODEL, large, half=True)
    assert not (tmp_path / "pads").exists()


def test_a_latent_model_names_its_autoencoder(tmp_path):
    config, codec = CONFIGS["latent"], tmp_path / "codec"
    own = variables_of(config)
    save_pretrained(codec, AUTOENCODER, own["frozen"]["autoencoder"])
    save_pretrained(tmp_path / "model", config, own, dataclasses.replace(FACTS, autoencoder=str(codec)))
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert not [name for name in stored if name.startswith("frozen")]
    assert_same(from_pretrained(tmp_path / "model").variables, own)

    other = dataclasses.replace(AUTOENCODER, waveform=2.0)
    shutil.rmtree(codec)
    save_pretrained(codec, other, own["frozen"]["autoencoder"])
    with pytest.raises(aj.errors.InputError, match="names an autoencoder whose settings differ"):
        from_pretrained(tmp_path / "model")

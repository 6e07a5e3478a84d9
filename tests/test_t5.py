import json
import math
import os
import pickle
from pathlib import Path

import huggingface_hub.constants
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import NamedSharding, PartitionSpec
from nets import drawn
from safetensors.numpy import load_file, save_file

from archijax.convert.t5 import from_torch, load_t5, to_torch
from archijax.errors import InputError
from archijax.nn.t5 import T5Config, T5Encoder, relative_buckets

GOLDEN = Path(os.environ.get("ARCHIJAX_GOLDEN", Path(__file__).parent / "golden"))
CASES = sorted(path.name for path in GOLDEN.glob("t5_*"))

T5_BASE = {
    "model_type": "t5", "vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12,
    "num_heads": 12, "relative_attention_num_buckets": 32, "layer_norm_epsilon": 1e-06, "n_positions": 512,
    "dropout_rate": 0.1, "architectures": ["T5ForConditionalGeneration"], "pad_token_id": 0,
}  # fmt: skip
T5_V1_1_BASE = {
    "model_type": "t5", "vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12,
    "num_decoder_layers": 12, "num_heads": 12, "relative_attention_num_buckets": 32, "layer_norm_epsilon": 1e-06,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
}  # fmt: skip
BYT5_SMALL = {
    "model_type": "t5", "vocab_size": 384, "d_model": 1472, "d_kv": 64, "d_ff": 3584, "num_layers": 12,
    "num_decoder_layers": 4, "num_heads": 6, "relative_attention_num_buckets": 32, "layer_norm_epsilon": 1e-06,
    "feed_forward_proj": "gated-gelu", "tokenizer_class": "ByT5Tokenizer", "tie_word_embeddings": False,
}  # fmt: skip
TINY = T5Config(vocab_size=40, d_model=16, d_kv=5, d_ff=24, num_layers=2, num_heads=3, gated=True)


def distance(ours, reference):
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)


def batch(key=0, n=9):
    tokens = jax.random.randint(jax.random.key(key), (2, n), 0, TINY.vocab_size)
    return tokens, jnp.arange(n)[None] < jnp.array([[n], [n - 4]])


# Several tests use one compiled program.
apply_tiny = jax.jit(T5Encoder(TINY).apply)


@pytest.fixture(scope="module")
def params():
    return jax.jit(T5Encoder(TINY).init)(jax.random.key(1), *batch())["params"]


@pytest.fixture(scope="module")
def state(params):
    return to_torch(params, TINY)


@pytest.fixture(params=CASES)
def golden(request):
    folder = GOLDEN / request.param
    return (
        json.loads((folder / "case.json").read_text()),
        load_file(folder / "weights.safetensors"),
    )


def test_weights_round_trip(golden):
    case, weights = golden
    config = T5Config.from_hf(case["args"])
    back = to_torch(from_torch(weights, config), config)
    assert back.keys() == weights.keys()
    for name, tensor in weights.items():
        np.testing.assert_array_equal(back[name], tensor)
        assert back[name].flags.c_contiguous


def test_initial_parameters_convert_to_and_fro(params, state):
    back = flatten_dict(from_torch(state, TINY))
    flat = flatten_dict(params)
    assert back.keys() == flat.keys()
    assert all(np.array_equal(back[path], flat[path]) for path in flat)


def test_initial_output_is_of_unit_scale_and_depends_on_the_text(params):
    a, b = (apply_tiny({"params": params}, *batch(key)) for key in (2, 3))
    np.testing.assert_allclose(np.mean(np.square(a), axis=-1), 1, rtol=1e-3)
    assert distance(a, b) > 0.5


@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (8, 20), (64, 256), (6, 5)])
def test_relative_buckets(buckets, furthest):
    half, exact = buckets // 2, buckets // 4

    def expected(distance):
        after, size = (half, distance) if distance > 0 else (0, -distance)
        if size < exact:
            return after + size
        steps = math.log(size / exact) / math.log(furthest / exact) * (half - exact)
        return after + min(exact + int(steps), half - 1)

    distances = np.arange(-300, 301)
    ours = relative_buckets(distances, buckets, furthest)
    assert ours.tolist() == [expected(d) for d in distances.tolist()]


@pytest.mark.parametrize("gated", [False, True])
def test_padding_does_not_reach_the_valid_positions(gated):
    config = T5Config(vocab_size=40, d_model=16, d_kv=5, d_ff=24, num_layers=2, num_heads=3, gated=gated)
    tokens, mask = batch()
    tokens, mask = np.asarray(tokens), np.asarray(mask)
    variables = drawn(T5Encoder(config).init, tokens, mask, scale=0.3)
    jitted = jax.jit(T5Encoder(config).apply)

    def apply(tokens, mask):
        return np.asarray(jitted(variables, tokens, mask))

    y = apply(tokens, mask)
    other = apply(np.where(mask, tokens, 7), mask)
    longer = apply(np.pad(tokens, ((0, 0), (0, 5))), np.pad(mask, ((0, 0), (0, 5))))
    assert distance(other[mask], y[mask]) < 1e-6
    assert distance(longer[:, :9][mask], y[mask]) < 1e-6
    assert distance(apply(tokens, np.ones_like(mask))[1], y[1]) > 1e-3


def test_a_text_of_padding_alone_is_finite(params):
    tokens, mask = batch()
    assert np.isfinite(apply_tiny({"params": params}, tokens, np.zeros(mask.shape, bool))).all()


def test_bfloat16_is_close_to_float32(params):
    model = T5Encoder(TINY, jnp.bfloat16)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *batch()))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes))
    y, z = (apply({"params": params}, *batch()) for apply in (apply_tiny, jax.jit(model.apply)))
    assert (y.dtype, z.dtype) == (jnp.float32, jnp.bfloat16)
    assert 0 < distance(z, y) < 0.02


def test_sharded_over_eight_devices_equals_one(params):
    mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))

    def place(path, leaf):
        inner = path[-2].key in ("wi_0", "wi_1")
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(None, "model") if inner else PartitionSpec()))

    y = apply_tiny({"params": params}, *batch())
    sharded = jax.tree_util.tree_map_with_path(place, params)
    assert distance(apply_tiny({"params": sharded}, *batch()), y) < 1e-6


@pytest.mark.parametrize("published", [T5_BASE, T5_V1_1_BASE])
def test_base_encoders_have_109_6_million_parameters(published):
    model = T5Encoder(T5Config.from_hf(published))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *batch()))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == pytest.approx(109.6e6, rel=1e-3)


def test_configs_as_published():
    assert not T5Config.from_hf(T5_BASE).gated
    assert T5Config.from_hf(T5_V1_1_BASE) == T5Config(32128, 768, 64, 2048, 12, 12, gated=True)
    assert T5Config.from_hf(BYT5_SMALL) == T5Config(384, 1472, 64, 3584, 12, 6, gated=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feed_forward_proj": "gated-silu"}, "gated-silu"),
        ({"model_type": "umt5"}, "umt5"),
        ({"d_model": "768"}, "d_model is '768'"),
        ({"num_heads": True}, "num_heads is True"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"relative_attention_num_buckets": 31}, "31 buckets"),
        ({"relative_attention_max_distance": 8}, "up to 8"),
        ({"layer_norm_epsilon": None}, "layer_norm_epsilon is None"),
    ],
)
def test_refuses_other_configs(change, message, unchecked):
    with pytest.raises(InputError, match=message):
        T5Config.from_hf(T5_BASE | change)


def test_a_config_without_sizes_names_them():
    with pytest.raises(InputError, match="lacks d_model, d_kv"):
        T5Config.from_hf({"vocab_size": 3, "d_ff": 4, "num_layers": 1, "num_heads": 1})


def test_refuses_tokens_that_are_not_a_batch(params, unchecked):
    tokens, mask = batch()
    apply = T5Encoder(TINY).apply
    for bad in [(tokens[0], mask[0]), (tokens, mask[:, 1:])]:
        with pytest.raises(InputError, match=r"T5 needs \[batch, length\] for both"):
            apply({"params": params}, *bad)
    for bad in [(tokens.astype(jnp.float32), mask), (tokens, mask.astype(jnp.int32))]:
        with pytest.raises(InputError, match="T5 needs int32 and bool"):
            apply({"params": params}, *bad)


def test_a_whole_t5_with_one_of_the_embeddings_names_is_enough(state):
    whole = {**state, "lm_head.weight": np.zeros((40, 16)), "decoder.block.0.layer.0.x": np.zeros(3)}
    for name in ("shared.weight", "encoder.embed_tokens.weight"):
        part = {key: value for key, value in whole.items() if key != name}
        assert np.array_equal(from_torch(part, TINY)["embed"]["embedding"], state[name])


def test_missing_extra_and_misshapen_tensors_are_named(state):
    bad = dict(state)
    del bad["encoder.block.1.layer.1.DenseReluDense.wi_1.weight"], bad["encoder.final_layer_norm.weight"]
    bad["encoder.block.2.layer.0.SelfAttention.q.weight"] = np.zeros((15, 16), np.float32)
    bad["encoder.block.0.layer.0.SelfAttention.o.weight"] = np.zeros((15, 16), np.float32)
    bad["encoder.block.0.layer.0.SelfAttention.k.weight"] = np.zeros((15, 16), np.int8)
    bad["encoder.embed_tokens.weight"] = bad["shared.weight"] + 1
    with pytest.raises(InputError) as error:
        from_torch(bad, TINY)
    message = str(error.value)
    assert "missing encoder.block.1.layer.1.DenseReluDense.wi_1.weight, encoder.final_layer_norm.weight" in message
    assert "not part of this net encoder.block.2.layer.0.SelfAttention.q.weight" in message
    assert "SelfAttention.o.weight is float32 of shape [15, 16], but the net needs floats of shape [16, 15]" in message
    assert "SelfAttention.k.weight is int8" in message
    assert "encoder.embed_tokens.weight differs from shared.weight" in message


# --- Folders ---


def write_config(folder):
    names = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
    sizes = {name: getattr(TINY, name) for name in names}
    (folder / "config.json").write_text(json.dumps({**sizes, "feed_forward_proj": "gated-gelu"}))


@pytest.fixture
def single(tmp_path, state):
    write_config(tmp_path)
    save_file(state, tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def sharded(tmp_path, state):
    write_config(tmp_path)
    names = sorted(state)
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for i, file in enumerate(files):
        save_file({name: state[name] for name in names[i::2]}, tmp_path / file)
    index = {"weight_map": {name: files[i % 2] for i, name in enumerate(names)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path


def assert_same(loaded, params):
    flat = flatten_dict(params)
    assert flatten_dict(loaded).keys() == flat.keys()
    assert all(np.array_equal(leaf, flat[path]) for path, leaf in flatten_dict(loaded).items())


def test_loads_one_file(single, params):
    config, loaded = load_t5(single)
    assert config == TINY
    assert_same(loaded, params)


def test_loads_shards(sharded, params):
    assert_same(load_t5(str(sharded))[1], params)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_loads_half_precision_as_float32(single, state, params, dtype):
    save_file({name: tensor.astype(dtype) for name, tensor in state.items()}, single / "model.safetensors")
    _, loaded = load_t5(single)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(loaded))
    assert_same(loaded, jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype).astype(np.float32), params))


@pytest.mark.parametrize("damage", ["truncated", "pickle", "empty"])
def test_damaged_weights_are_one_sentence(single, damage):
    path = single / "model.safetensors"
    whole = path.read_bytes()
    evil = pickle.dumps({"shared.weight": [1.0]})
    path.write_bytes({"truncated": whole[:-10], "pickle": evil, "empty": b""}[damage])
    with pytest.raises(InputError, match="is not a complete safetensors file") as error:
        load_t5(single)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shard", ["../model.safetensors", "sub/a.safetensors", "..", "/a.safetensors", "a.bin", 3])
def test_an_index_may_only_name_safetensors_beside_it(sharded, shard):
    index = sharded / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["shared.weight"] = shard
    index.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"must be a \.safetensors file in the same folder"):
        load_t5(sharded)


def test_a_missing_shard_is_named(sharded):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"get model-00002-of-00002\.safetensors"):
        load_t5(sharded)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, "\xff"])
def test_a_damaged_config_is_named(single, text):
    (single / "config.json").write_bytes(text.encode("latin1"))
    with pytest.raises(InputError, match=r"config\.json"):
        load_t5(single)


def test_a_folder_without_weights_says_what_to_get(tmp_path):
    with pytest.raises(InputError, match=r"get config\.json, model\*\.safetensors"):
        load_t5(tmp_path)
    write_config(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"pytorch_model\.bin is not read"):
        load_t5(tmp_path)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_missing_model_says_what_to_download_and_where_to_put_it(offline):
    with pytest.raises(InputError) as error:
        load_t5("google/t5-none")
    for part in ("config.json, model*.safetensors", "https://huggingface.co/google/t5-none", "one folder"):
        assert part in str(error.value)


def test_loads_from_the_cache_without_a_network(offline, state, params):
    commit = "0123456789abcdef" * 2 + "01234567"
    snapshot = offline / "models--someone--tiny" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    write_config(snapshot)
    save_file(state, snapshot / "model.safetensors")
    (offline / "models--someone--tiny" / "refs").mkdir()
    (offline / "models--someone--tiny" / "refs" / "main").write_text(commit)
    assert_same(load_t5("someone/tiny")[1], params)
    assert_same(load_t5("someone/tiny", revision=commit)[1], params)


@pytest.mark.parametrize("name", ["../secret", "/no/such/folder", "a/../b", "a/b/c", "a b", "", "a..b"])
def test_refuses_names_that_are_none(offline, name):
    with pytest.raises(InputError, match="neither an existing folder nor a name on the Hugging Face hub"):
        load_t5(name)


def test_refuses_revisions_that_are_none(offline):
    with pytest.raises(InputError, match=r"revision '\.\./\.\./x'"):
        load_t5("t5-base", revision="../../x")

"""The model of Stable Audio: its sizes, its training, its conditioning, and its folders in both layouts."""

import dataclasses
import functools
import json
import pickle
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from folders import traced_once  # noqa: F401
from nets import OOBLECK as CODEC
from nets import STABLE_AUDIO as SMALL
from nets import drawn, write_t5
from safetensors.numpy import load_file, save_file

import archijax as aj
from archijax.configs import (
    StableAudioConfig,
    TextConfig,
    example_batch,
    from_dict,
    to_dict,
)
from archijax.convert import diffusers, stable_audio_tools
from archijax.convert.__main__ import main
from archijax.models.moments import no_moments
from archijax.training.mesh import MeshParallel

HUB = Path(__file__).parent / "golden" / "stable_audio_pipeline" / "pipeline"


@pytest.fixture(scope="module", autouse=True)
def shapes_once():
    """Computes the shapes of each config once."""
    once = functools.cache(diffusers.shapes)
    with pytest.MonkeyPatch.context() as patch:
        for layout in (diffusers, stable_audio_tools):
            patch.setattr(layout, "shapes", once)
        yield


def millions(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e6


def test_full_sizes():
    found = diffusers.shapes(StableAudioConfig())
    net = found["params"]["net"]
    assert millions(net["net"]) == pytest.approx(1056.9, rel=0.001)
    assert millions({name: inner for name, inner in net.items() if name != "net"}) == pytest.approx(0.40, rel=0.01)
    assert millions(found["frozen"]["autoencoder"]) == pytest.approx(156.1, rel=0.001)
    model = StableAudioConfig().build()
    assert (model.downsample_factor, model.latent_channels, model.autoencoder.net.overlap) == (2048, 64, 10)


def test_shapes_are_those_of_initialising():
    config = dataclasses.replace(SMALL, transformer=dataclasses.replace(SMALL.transformer, num_layers=2))
    batch = {name: jnp.asarray(array) for name, array in example_batch(config).items()}
    traced = jax.eval_shape(config.build().init, jax.random.key(0), batch)
    found = diffusers.shapes(config)
    assert found["params"]["net"] == traced["params"]["net"]
    assert found["frozen"]["autoencoder"]["params"] == traced["frozen"]["autoencoder"]["params"]


def test_a_configuration_survives_json():
    assert from_dict(json.loads(json.dumps(to_dict(SMALL)))) == SMALL
    assert from_dict(json.loads(json.dumps(to_dict(CODEC)))) == CODEC


@pytest.fixture(scope="module")
def trained():
    model = SMALL.build()
    batch = {
        "latent": jax.random.normal(jax.random.key(1), (8, 16, 4)),
        "tokens": jax.random.randint(jax.random.key(2), (8, 5), 3, 259),
        "token_mask": jnp.arange(5) < 1 + jnp.arange(8)[:, None] % 5,
        "seconds_start": jnp.arange(8.0),
        "seconds_total": 10 + jnp.arange(8.0),
    }
    return model, drawn(model.init, {**batch, "audio": jnp.zeros((1, 256, 2))}, scale=0.2), batch


def gradient(model, variables, batch):
    def loss(params):
        return model.loss({**variables, "params": params}, jax.random.key(5), batch)[0]

    return jax.value_and_grad(loss)(variables["params"])


def close(found, expected):
    """Compares leaf by leaf with a tolerance, because sums over devices have another order."""
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(np.subtract(ours, theirs)) <= 1e-5 * np.linalg.norm(theirs)


@pytest.mark.slow
def test_gradients_with_and_without_remat_and_on_a_mesh_are_equal(trained, unchecked):
    model, variables, batch = trained
    spared = dataclasses.replace(SMALL, remat=True).build()
    (loss, expected), found = jax.jit(lambda v, b: (gradient(model, v, b), gradient(spared, v, b)))(variables, batch)
    # Every trained array has a gradient.
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(expected["net"]))
    close(found, (loss, expected))
    devices = MeshParallel(8, 8, small=0)
    spread = devices.put_state(jax.device_get(variables))
    kernel = spread["params"]["net"]["net"]["layers_0"]["feed_forward"]["expand"]["kernel"]
    assert {shard.data.size for shard in kernel.addressable_shards} == {kernel.size // 8}
    on_mesh = jax.jit(lambda v, b: gradient(model, v, b))(spread, devices.put_batch(jax.device_get(batch)))
    close(on_mesh, (loss, expected))


def test_the_net_of_a_method_and_a_transform():
    """The transformer works with another diffusion method and with a learned transform."""
    net = aj.LearnedTransform(aj.DiffusionTransformer(1, 2, 8), num_filters=4, window_length=4, stride=2)
    model = aj.DiffusionModel(net, process=aj.edm())
    batch = {"audio": jnp.ones((2, 16, 2))}
    variables = drawn(model.init, batch)
    loss, _ = jax.jit(model.loss)(variables, jax.random.key(1), batch)
    assert jnp.isfinite(loss)


def test_what_is_dropped_and_what_stays(trained):
    """Without a prompt, the whole embedding is replaced by zeros. The seconds still change the prediction."""
    model, variables, batch = trained
    net, params = model.model.net, {"params": variables["params"]["net"]}
    x, time = batch["latent"][:2], jnp.array([0.3, 0.6])
    items = {name: array[:2] for name, array in jax.device_get(batch).items() if name != "latent"}
    conditioning = jax.device_get(jax.jit(model.model.conditioning)(variables, items))
    kept, dropped = np.zeros(2, bool), np.ones(2, bool)

    @jax.jit
    def apply(conditioning, mask):
        return net.apply(params, x, time, **conditioning, embedding_mask=mask)

    def call(conditioning, mask):
        return np.asarray(apply(conditioning, mask))

    with_prompt, without = call(conditioning, kept), call(conditioning, dropped)
    other = {**conditioning, "embedding": 3 * conditioning["embedding"]}
    np.testing.assert_array_equal(call(other, dropped), without)
    assert np.abs(call(other, kept) - with_prompt).max() > 1e-3
    longer = {**conditioning, "seconds_total": 2 * conditioning["seconds_total"]}
    assert np.abs(call(longer, dropped) - without).max() > 1e-4
    # Values outside of the range are clipped to the range.
    ends = [{**conditioning, "seconds_total": np.full(2, end, np.float32)} for end in (32.0, 99.0)]
    np.testing.assert_array_equal(*(call(end, kept) for end in ends))
    padding = ~items["token_mask"]
    assert not np.any(conditioning["embedding"][padding])
    assert np.all(np.any(conditioning["embedding"][~padding] != 0, axis=-1))


def test_the_texts_mean_joins_the_state_and_is_dropped_with_the_text():
    config = dataclasses.replace(SMALL, text=dataclasses.replace(SMALL.text, pooled=True))
    net, x, time = config.build().model.net, jnp.ones((2, 16, 4)), jnp.array([0.3, 0.6])
    embedding = jax.random.normal(jax.random.key(1), (2, 5, 8))
    params = drawn(lambda key: net.init(key, x, time, embedding=embedding), scale=0.2)["params"]

    @jax.jit
    def call(params, embedding, mask):
        return net.apply({"params": params}, x, time, embedding=embedding, embedding_mask=mask)

    kept, dropped = jnp.zeros(2, bool), jnp.ones(2, bool)
    np.testing.assert_array_equal(call(params, embedding, dropped), call(params, 3 * embedding, dropped))
    without = {
        **params,
        "net": {**params["net"], "to_features": jax.tree.map(np.zeros_like, params["net"]["to_features"])},
    }
    assert jnp.abs(call(params, embedding, kept) - call(without, embedding, kept)).max() > 1e-3
    np.testing.assert_array_equal(call(params, embedding, dropped), call(without, embedding, dropped))


def test_missing_numbers_are_those_of_the_training(trained):
    model, variables, batch = trained
    given = {"seconds_start": jnp.zeros(8), "seconds_total": jnp.full(8, 0.032)}
    without = {name: array for name, array in batch.items() if name not in given}
    loss = jax.jit(lambda b: model.loss(variables, jax.random.key(0), b)[0])
    np.testing.assert_allclose(loss(without), loss({**batch, **given}), rtol=1e-6)


def test_the_authors_sampler_makes_sound(trained):
    model, variables, batch = trained
    sigmas = np.array([500, 150**0.5, 0.3, 0])
    np.testing.assert_allclose(model.model.process.timesteps(3), 2 / np.pi * np.arctan(sigmas), rtol=1e-6)
    sampler = aj.DPMSolverPP(stochastic=True)
    conditioning = {name: array[:1] for name, array in batch.items() if name != "latent"}
    sound = jax.jit(
        lambda key, c: model.sample(variables, key, shape=(1, 60, 2), num_steps=3, sampler=sampler, guidance=7.0, **c)
    )(jax.random.key(0), conditioning)
    assert sound.shape == (1, 60, 2)
    assert jnp.all(jnp.isfinite(sound))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A configuration whose text encoder is a folder, and its variables."""
    folder = tmp_path_factory.mktemp("t5")
    write_t5(folder, 0)
    config = dataclasses.replace(
        SMALL,
        transformer=dataclasses.replace(SMALL.transformer, num_heads=4, time_features=256),
        conditioning_features=64,
        text=TextConfig(tokenizer=str(folder), max_length=5),
    )
    variables = drawn(lambda key: diffusers.shapes(config))
    variables["frozen"]["autoencoder"]["state"] = {"latents": no_moments(4)}
    return config, {**variables, "frozen": {**variables["frozen"], **config.load_frozen()}}


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_hubs_layout_there_and_back(pretrained, tmp_path):
    config, variables = pretrained
    diffusers.write(tmp_path, config, variables)
    found, back = diffusers.read(tmp_path)
    same(back, variables)
    assert dataclasses.replace(found, text=config.text, autoencoder=config.autoencoder) == config
    assert found.text.load_tokenizer() is not None
    assert set(json.loads((tmp_path / "model_index.json").read_text())) == {"_class_name", *diffusers.CLASSES}


def test_the_single_file_there_and_back(pretrained, tmp_path):
    config, variables = pretrained
    stable_audio_tools.write(tmp_path, config, variables)
    found, back = stable_audio_tools.read(tmp_path, text_encoder=config.text.tokenizer)
    same(back, variables)
    assert dataclasses.replace(found, text=config.text, autoencoder=config.autoencoder) == config
    state = load_file(tmp_path / "model.safetensors")
    layer = "model.model.transformer.layers.0"
    assert state[f"{layer}.self_attn.to_qkv.weight"].shape == (3 * 256, 256)
    assert state[f"{layer}.cross_attn.to_kv.weight"].shape == (2 * 64, 64)
    # Newer files lack the frequencies of the positions, and have other names for the parts of weight norm.
    state.pop("model.model.transformer.rotary_pos_emb.inv_freq")
    for name in [name.removesuffix("weight_g") for name in state if name.endswith("weight_g")]:
        for part, index in (("g", 0), ("v", 1)):
            state[f"{name}parametrizations.weight.original{index}"] = state.pop(f"{name}weight_{part}")
    save_file(state, tmp_path / "model.safetensors")
    same(stable_audio_tools.read(tmp_path, text_encoder=config.text.tokenizer)[1], variables)


def test_the_smaller_model_has_a_single_file_alone(pretrained, tmp_path):
    """The design of Stable Audio Open Small: normalized queries and keys, one number, projected tokens, rectified
    flow."""
    config, variables = pretrained
    transformer = dataclasses.replace(config.transformer, qk_norm=True, embedding_width=256)
    config = dataclasses.replace(config, method="flow", numbers=config.numbers[1:], transformer=transformer)
    variables = {"params": drawn(lambda key: diffusers.shapes(config))["params"], "frozen": variables["frozen"]}
    with pytest.raises(aj.InputError, match="diffusers has no transformer with qk_norm"):
        diffusers.hub_tables(config, variables)
    stable_audio_tools.write(tmp_path, config, variables)
    found, back = stable_audio_tools.read(tmp_path, text_encoder=config.text.tokenizer)
    same(back, variables)
    assert dataclasses.replace(found, text=config.text, autoencoder=config.autoencoder) == config
    assert back["params"]["net"]["net"]["layers_0"]["attention"]["q_norm"]["scale"].shape == (64,)


def test_loading_in_half_precision_and_onto_a_mesh():
    devices = MeshParallel(8, 8, small=0)
    _, variables = diffusers.read(HUB, dtype="bfloat16", sharding=devices.sharding)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("bfloat16")}
    kernel = variables["params"]["net"]["net"]["layers_0"]["feed_forward"]["expand"]["kernel"]
    assert {shard.data.size for shard in kernel.addressable_shards} == {kernel.size // 8}
    whole = diffusers.read(HUB)[1]["params"]["net"]["net"]["layers_0"]["feed_forward"]["expand"]["kernel"]
    np.testing.assert_allclose(np.asarray(kernel, np.float32), whole, rtol=5e-3)


def edited(folder, tmp_path, part, **changes):
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    path = copy / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return copy


def test_bad_folders_are_one_sentence(tmp_path):
    def refused(folder, match):
        with pytest.raises(aj.InputError, match=match) as caught:
            diffusers.read(folder)
        assert "\n" not in str(caught.value)

    for part, changes, match in (
        ("vae", {"decoder_input_channels": 6}, "in_channels of the transformer .* is 4, but the other parts need 6"),
        ("transformer", {"num_layers": 3}, "transformer: the weights do not fit .* missing transformer_blocks.2"),
        ("vae", {"decoder_channels": 16}, r"vae: .*decoder.* is float32 of shape .* needs floats of shape"),
        ("transformer", {"_class_name": "DiTModel"}, "is of 'DiTModel': 'StableAudioDiTModel' is needed"),
    ):
        refused(edited(HUB, tmp_path, part, **changes), match)
    folder = edited(HUB, tmp_path, "vae")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(pickle.dumps({"weight": np.zeros(2)}))
    refused(folder, "vae/diffusion_pytorch_model.safetensors is not a complete safetensors file")
    weights.rename(weights.with_suffix(".bin"))
    refused(folder, r"diffusion_pytorch_model.bin is not read")
    for part in diffusers.PARTS:
        folder = edited(HUB, tmp_path, part)
        (folder / part / "config.json").unlink()
        refused(folder, f"lacks {part}/config.json: the parts transformer, vae")
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    refused(folder, "is of 'FluxPipeline': only 'StableAudioPipeline' is known")
    (folder / "model_index.json").unlink()
    refused(folder, "is not complete")
    # The tokenizer is needed only for a prompt.
    with pytest.raises(aj.InputError, match=r"is not complete in .*: get tokenizer.json"):
        aj.from_pretrained(HUB).generate(["a"])


def test_a_gated_repository_says_how_to_get_in(monkeypatch):
    class GatedRepoError(Exception):
        pass

    def gated(*_, **__):
        raise GatedRepoError("403 Client Error. Access to model is restricted.")

    monkeypatch.setattr("huggingface_hub.snapshot_download", gated)
    with pytest.raises(
        aj.InputError, match=r"needs its licence to be accepted: do so at .*open-1.0 and log in by 'hf auth login'"
    ):
        aj.from_pretrained("stabilityai/stable-audio-open-1.0")


def test_bad_settings_are_one_sentence(pretrained, tmp_path):
    config, variables = pretrained
    stable_audio_tools.write(tmp_path, config, variables)
    settings = (tmp_path / "model_config.json").read_text()
    for old, new, match in (
        ('"dit"', '"adp_1d"', "model.diffusion.type is 'adp_1d': only 'dit' is known"),
        ('"depth": 1', '"depth": 2', "missing model.model.transformer.layers.1"),
        ('"depth": 1', '"num_memory_tokens": 4, "depth": 1', "the setting 'num_memory_tokens', which is unknown"),
        ('"cond_dim"', '"dim"', "lacks the setting 'cond_dim'"),
        ('"embed_dim": 256', '"embed_dim": "wide"', "of another type"),
    ):
        assert old in settings
        (tmp_path / "model_config.json").write_text(settings.replace(old, new))
        with pytest.raises(aj.InputError, match=match):
            stable_audio_tools.read(tmp_path, text_encoder=config.text.tokenizer)
    (tmp_path / "model_config.json").write_text(settings)
    with pytest.raises(aj.InputError, match="is not the name of a model on the hub"):
        stable_audio_tools.read(tmp_path)
    with pytest.raises(aj.InputError, match="has its own text encoder"):
        stable_audio_tools.write(tmp_path, SMALL, variables)


def test_bad_sizes_and_inputs_are_one_sentence(trained):
    for settings, match in (
        ({"rotary_features": 5}, "rotary_features is 5"),
        ({"embedding_features": 8, "embedding_width": 32}, "embedding_heads is 4: a divisor of the 2 heads"),
    ):
        with pytest.raises(aj.InputError, match=match):
            aj.DiffusionTransformer(1, 2, 8, **settings)
    with pytest.raises(aj.InputError, match=r"length 250 is not a multiple of 8 .* use 256"):
        dataclasses.replace(SMALL, length=250).build()
    with pytest.raises(aj.InputError, match="sample_rate is 44100, but the autoencoder's is 8000"):
        dataclasses.replace(SMALL, sample_rate=44100)
    model, variables, batch = trained
    with pytest.raises(aj.InputError, match=r"seconds_total has shape \(1,\): one number per item \[8\]"):
        jax.eval_shape(model.loss, variables, jax.random.key(0), {**batch, "seconds_total": jnp.ones(1)})
    net = aj.DiffusionTransformer(1, 2, 8, global_features=4)
    with pytest.raises(aj.InputError, match=r"the transformer needs features of shape \(1, 4\), but there is none"):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 3, 2)), jnp.zeros(1))


def test_a_folder_is_loaded_by_name_and_written_in_every_layout(pretrained, tmp_path, capsys):
    config, variables = pretrained
    hub, ours, tools, again = (tmp_path / name for name in ("hub", "ours", "tools", "again"))
    hub.mkdir()
    diffusers.write(hub, config, variables)
    for arguments in (
        (hub, ours),
        (ours, tools, "--layout", "stable-audio-tools"),
        (ours, again, "--layout", "diffusers"),
    ):
        assert main([str(argument) for argument in arguments]) == 0, capsys.readouterr().err
    for part in ("transformer", "vae", "projection_model", "text_encoder"):
        (path,) = (hub / part).glob("*.safetensors")
        found = load_file(again / part / path.name)
        same(found, load_file(path))
    pipeline = aj.from_pretrained(hub)
    assert pipeline.config.autoencoder.strides == CODEC.strides
    same(pipeline.variables["params"], variables["params"])
    sounds, rate = pipeline.generate(["a"], seconds=0.01, num_steps=1, guidance_scale=7.0)
    assert (sounds.shape, rate) == ((1, 80, 2), 8000)
    assert np.isfinite(sounds).all()
    assert main([str(tmp_path / "no"), str(tmp_path / "x"), "--layout", "diffusers"]) == 2

"""Autoencoders as models: their losses, their use, and their training by the step and by the program."""

import dataclasses
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import soundfile
from nets import drawn_with_state, killed_run

import archijax as aj
from archijax.audio.stft import to_polar
from archijax.codecs.losses import log_mel_loss, multi_resolution_stft_loss
from archijax.configs import from_dict, to_dict
from archijax.keys import item_keys
from archijax.models import reconstruct
from archijax.training.checkpoints import restore_weights
from archijax.training.optimizer import EmaConfig, OptimizerConfig, adamw
from archijax.training.pmap import Pmap
from archijax.training.state import TrainState
from archijax.training.step import make_train_step
from train.__main__ import main

CODER = aj.configs.CoderConfig(
    channels=8, multipliers=(1, 1), factors=(2,), num_blocks=(0,), patch_size=2, resnet_groups=4
)
WAVE = aj.configs.AutoEncoderConfig(
    coder=CODER,
    latent_channels=3,
    sample_rate=8000,
    channels=1,
    length=64,
    stft=0.5,
    mel=0.25,
    windows=(32, 16),
)
QUANTIZED = dataclasses.replace(
    WAVE,
    bottleneck=(aj.configs.QuantizerConfig(num_codes=8),),
    stft=0.0,
    mel=0.0,
)
ADVERSARIAL = dataclasses.replace(QUANTIZED, discriminator=CODER, adversarial=0.3)
MAGNITUDE = aj.configs.MagnitudeAutoEncoderConfig(
    coder=dataclasses.replace(CODER, patch_size=1),
    latent_channels=3,
    sample_rate=8000,
    channels=1,
    length=64,
    n_fft=14,
    hop_length=4,
)


def sounds(count=8, length=64, seed=0):
    return {"audio": 0.3 * jax.random.normal(jax.random.key(seed), (count, length, 1))}


@pytest.fixture(scope="module")
def models():
    """Each model with its variables."""
    configs = {"wave": WAVE, "quantized": QUANTIZED, "adversarial": ADVERSARIAL, "magnitude": MAGNITUDE}
    return {
        name: (model := config.build(), drawn_with_state(model.init, sounds(1))) for name, config in configs.items()
    }


def equal(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(np.testing.assert_array_equal, one, two)


def close(one, two, tolerance=1e-5):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), one, two)


@pytest.mark.parametrize("config", [WAVE, ADVERSARIAL, MAGNITUDE])
def test_configurations_survive_json(config):
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (WAVE, {"length": 62}, r"length 62 is not a multiple of 4 \(samples per frame of the latent\): use 64"),
        (WAVE, {"windows": (256,)}, "length 64 is too short for n_fft 256"),
        (WAVE, {"coder": dataclasses.replace(CODER, patch_size=16)}, "8 channels do not divide into patches of 16"),
        (WAVE, {"coder": dataclasses.replace(CODER, factors=(2, 2))}, "factors has 2 entries"),
        (ADVERSARIAL, {"discriminator": dataclasses.replace(CODER, patch_size=16)}, "divide into patches of 16"),
        (MAGNITUDE, {"length": 60}, "length 60 is not a multiple of 8"),
        (MAGNITUDE, {"hop_length": 16}, "0 < hop_length <= window_length"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_when_the_model_is_built(config, changes, message):
    with pytest.raises(aj.InputError, match=message):
        dataclasses.replace(config, **changes).build()


@pytest.mark.parametrize("name", ["wave", "magnitude"])
@pytest.mark.parametrize("length", [9, 65])
def test_any_length_is_reconstructed(models, name, length):
    model, variables = models[name]
    audio = sounds(2, length)["audio"]

    @jax.jit
    def parts(variables, audio):
        latent, _ = model.encode(variables, audio)
        return latent, model.decode(variables, latent), reconstruct(model, variables, audio)

    latent, decoded, made = parts(variables, audio)
    assert latent.shape == (2, -(-length // model.downsample_factor), 3)
    assert np.abs(latent).max() <= 1
    assert made.shape == audio.shape
    assert np.isfinite(made).all()
    if name == "wave":
        np.testing.assert_allclose(made, decoded[:, :length], atol=1e-6)


def test_the_loss_is_the_weighted_sum_of_its_parts(models):
    model, variables = models["wave"]
    batch = sounds()

    @jax.jit
    def parts(variables, audio):
        made = reconstruct(model, variables, audio)
        parts = {
            "waveform": jnp.mean(jnp.abs(made - audio)),
            "stft": multi_resolution_stft_loss(made, audio, (32, 16)),
            "mel": log_mel_loss(made, audio, 8000, (32, 16)),
        }
        return model.loss(variables, jax.random.key(0), {"audio": audio}), parts, model.encode(variables, audio)[0]

    (loss, (metrics, state)), expected, latent = jax.device_get(parts(variables, batch["audio"]))
    close(metrics, {**expected, "saturated": np.float32(0)})
    mean, deviation = model.latent_scale({"state": state})
    close(mean, latent.mean((0, 1)))
    close(deviation, latent.std((0, 1)), 1e-3)
    close(loss, expected["waveform"] + 0.5 * expected["stft"] + 0.25 * expected["mel"])


def test_the_quantizer_adds_its_loss_and_moves_its_codebook_in_training_alone(models):
    model, variables = models["quantized"]
    batch = sounds()
    loss, (metrics, state) = jax.jit(model.loss)(variables, jax.random.key(0), batch)
    close(loss, metrics["waveform"] + 0.25 * metrics["commitment"])
    assert metrics["perplexity"].shape == ()
    assert jax.tree.structure(state) == jax.tree.structure(variables["state"])
    book, before = state["net"]["encoder"], variables["state"]["net"]["encoder"]
    assert not np.array_equal(*(jax.tree.leaves(tree)[0] for tree in (book, before)))
    _, info = jax.eval_shape(model.encode, variables, batch["audio"])
    assert info["codes"].shape == (8, 16, 1)


def test_magnitudes_are_those_of_the_sound(models):
    model, variables = models["magnitude"]
    batch = sounds()

    @jax.jit
    def parts(variables, audio):
        true, _ = to_polar(model.net.stft.encode(audio))
        made = model.decode_magnitude(variables, model.encode(variables, audio)[0])
        return true, made, model.loss(variables, jax.random.key(0), {"audio": audio})

    true, made, (loss, (metrics, _)) = jax.device_get(parts(variables, batch["audio"]))
    assert made.shape == true.shape
    np.testing.assert_allclose(loss, np.mean(np.abs(np.log(made) - np.log(np.maximum(true, 1e-5)))), rtol=1e-4)
    np.testing.assert_array_equal(loss, metrics["log_magnitude"])


@pytest.mark.parametrize("name", ["adversarial", "magnitude"])
def test_silence_gives_finite_gradients(models, name):
    model, variables = models[name]
    batch = {"audio": jnp.zeros((2, 64, 1))}
    for loss, names in model.losses:

        def of(trained, loss=loss):
            params = {**variables["params"], **trained}
            return loss({**variables, "params": params}, jax.random.key(0), batch)[0]

        value, gradient = jax.jit(jax.value_and_grad(of))({name: variables["params"][name] for name in names})
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))


# Without eps, Adam would amplify rounding errors of the smallest gradients.
OPTIMIZER = OptimizerConfig(learning_rate=1e-2, eps=1e-2)


def begin(model, variables, axis=None):
    optimizer, ema = adamw(OPTIMIZER), EmaConfig(start=0, every=1)
    state = TrainState.create(model, variables, optimizer)
    return state, make_train_step(model, optimizer, ema, axis=axis)


@pytest.fixture(scope="module")
def adversarial():
    """The adversarial model, its variables, and its training on one device."""
    model = ADVERSARIAL.build()
    variables = drawn_with_state(model.init, sounds(1))
    state, step = begin(model, variables)
    return model, variables, state, jax.jit(step)


@pytest.mark.slow
def test_autoencoder_and_discriminator_are_trained_in_turn_each_by_its_own_loss(adversarial, unchecked):
    model, variables, state, step = adversarial
    batch, root = sounds(16), jax.random.key(3)
    after, metrics = step(state, batch, root)

    keys, optimizer = item_keys(root, jnp.int32(0), 0, 16), adamw(OPTIMIZER)

    @partial(jax.jit, static_argnums=(2, 3))
    def moved(params, collections, name, other):
        def of(trained):
            value, (_, new) = getattr(model, other)({"params": {**params, name: trained}, **collections}, keys, batch)
            return value, new

        (value, new), gradient = jax.value_and_grad(of, has_aux=True)(params[name])
        norms = {"finite": jnp.bool_(True), "grad_norm": optax.tree.norm(gradient)}
        update, _ = optimizer.update(gradient, optimizer.init(params[name]), params[name], **norms)
        return value, optax.apply_updates(params[name], update), new

    params, collections = variables["params"], {"state": variables["state"]}
    loss, net, new_state = moved(params, collections, "net", "loss")
    judged, discriminator, same = moved(
        {**params, "net": net}, {"state": new_state}, "discriminator", "discriminator_loss"
    )
    close(after.params, {"net": net, "discriminator": discriminator})
    close(after.state, new_state)
    equal(same, new_state)
    close({"g": metrics["loss"], "d": metrics["loss_discriminator"]}, {"g": loss, "d": judged})
    assert {"grad_norm", "grad_norm_discriminator", "scores_true", "scores_fake", "adversarial"} <= set(metrics)
    for name in ("net", "discriminator"):
        pair = zip(jax.tree.leaves(after.params[name]), jax.tree.leaves(params[name]), strict=True)
        assert any(not np.array_equal(a, b) for a, b in pair)


@pytest.mark.slow
def test_eight_devices_equal_one(adversarial, unchecked):
    model, variables, state, single = adversarial
    _, mapped = begin(model, variables, axis=Pmap.axis)
    devices, root = Pmap(batch_size=16), jax.random.key(5)
    mapped, spread = devices.compile(mapped), devices.put_state(state)
    for index in range(4):
        batch = sounds(16, seed=index)
        state, metrics = single(state, batch, root)
        spread, spread_metrics = mapped(spread, devices.put_batch(batch), root)
        close(metrics, devices.get(spread_metrics), 1e-4)
    close(state, devices.get(spread), 1e-4)
    for leaf in jax.tree.leaves(spread.state):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert all(np.array_equal(copies[0], copy) for copy in copies)


CONFIG = """
import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

sizes = dict(channels=8, multipliers=(1, 1), factors=(2,), num_blocks=(0,), patch_size=2, resnet_groups=4)
coder = aj.configs.CoderConfig(**sizes)
config = TrainConfig(
    model=aj.configs.AutoEncoderConfig(
        coder=coder,
        bottleneck=(aj.configs.NoiseConfig(), aj.configs.QuantizerConfig(num_codes=8)),
        latent_channels=3,
        sample_rate=8000,
        channels=1,
        length=64,
        discriminator=aj.configs.AdversaryConfig(periods=(2,), windows=(64,), channels=2),
        adversary_start=2,
    ),
    data=DataConfig(sample_rate=8000, channels=1, length=64, workers=1),
    ema=EmaConfig(start=1, every=2),
    batch_size=8,
    steps=6,
    log_every=1,
    checkpoint_every=3,
    sample_prompts=("", ""),
)
"""


@pytest.mark.slow
def test_a_run_that_was_stopped_continues_bit_for_bit_and_writes_reconstructions(tmp_path, capsys, unchecked):
    (tmp_path / "tiny.py").write_text(CONFIG)
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 4000), 8000)

    def run(out, *overrides):
        return main(
            [str(tmp_path / "tiny.py"), "--data", str(tmp_path / "audio"), "--out", str(tmp_path / out), *overrides]
        )

    assert run("whole") == 0
    killed_run(tmp_path / "whole", tmp_path / "parts", 3)
    shutil.rmtree(tmp_path / "parts" / "samples")
    assert run("parts") == 0
    parts = ("step", "skipped", "params", "ema", "opt_state", "state")
    (record, ours), (whole_record, whole) = (restore_weights(tmp_path / f, parts=parts) for f in ("parts", "whole"))
    assert record["arrays"] == whole_record["arrays"]
    equal(ours, whole)
    assert len(ours["opt_state"]) == 2
    assert ours["state"]["net"]["encoder"]
    assert (tmp_path / "parts" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()

    written = {"whole": ("original", "step_0000003", "step_0000006"), "parts": ("original", "step_0000006")}
    for folder, what in written.items():
        names = {path.stem for path in (tmp_path / folder / "samples").glob("*.wav")}
        assert names == {f"{each}_{i}" for each in what for i in range(2)}
    for name in sorted(names):
        (one, _), (other, _) = (soundfile.read(tmp_path / f / "samples" / f"{name}.wav") for f in ("parts", "whole"))
        assert one.shape == (64,)
        np.testing.assert_array_equal(one, other)
    assert run("parts", "--sample-prompts", *[""] * 9, "--steps", "7") == 2
    assert "9 samples are asked for, but a batch has only 8 crops" in capsys.readouterr().err

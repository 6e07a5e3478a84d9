"""Numbers and categories as conditions: their arrays, how nets read them, and how they are left out."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from nets import LATENT_MODEL, STABLE_AUDIO, UNET, drawn, killed_run

import archijax as aj
from archijax.configs import CategoryConfig, NumberConfig, example_batch, from_dict, to_dict
from archijax.configs.conditioners import encode_fields, with_values
from archijax.keys import per_item
from archijax.models.conditioning import draw_masks, drop, opposites
from archijax.pipeline import Pipeline
from archijax.pretrained import from_pretrained, save_pretrained
from archijax.training.checkpoints import restore_weights
from sample.__main__ import main as sample
from train.__main__ import main as train

CONDITIONERS = (
    NumberConfig("bpm", 40, 240, drop_prob=0.25),
    CategoryConfig("strength", ("loud", "soft"), drop_prob=0.5),
    NumberConfig("pitch", 36, 84, into="embedding", drop_prob=0.0),
    CategoryConfig("key", ("A minor", "C major", "4"), into="embedding"),
)
MODEL = aj.configs.DiffusionConfig(
    unet=UNET,
    sample_rate=8000,
    channels=1,
    length=32,
    text=aj.configs.TextConfig(max_length=8, features=8, num_layers=1, num_heads=2),
    conditioners=CONDITIONERS,
    cond_drop_prob=0.5,
)
FIELDS = {
    "bpm": [140, None, "90"],
    "strength": ["soft", "loud", None],
    "pitch": [36, 84.0, None],
    "key": ["C major", 4.0, None],
}


def test_fields_become_arrays():
    arrays = encode_fields(CONDITIONERS, FIELDS)
    wanted = {
        "condition_bpm": np.float32([0.5, -1, 0.25]),
        "condition_strength": np.int32([1, 0, -1]),
        "condition_pitch": np.float32([0, 1, -1]),
        "condition_key": np.int32([1, 2, -1]),
    }
    assert arrays.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("number", "value", "message"),
    [
        (0, "fast", "bpm is 'fast', which is not a number: it must be from 40 to 240"),
        (0, float("nan"), "bpm is nan, which is not a number"),
        (0, 300, "bpm is 300, which is out of range: it must be from 40 to 240"),
        (3, "A minr", "key is 'A minr', a category that the model does not know: did you mean 'A minor'?"),
        (3, "zzz", "does not know: known are A minor, C major, 4"),
    ],
)
def test_values_that_are_none_of_the_conditioner(number, value, message):
    with pytest.raises(aj.InputError, match=message.replace("?", r"\?")):
        CONDITIONERS[number].encode([None, value])


def test_settings_that_make_no_sense():
    for make, message in [
        (lambda: NumberConfig("bpm", 5, 5), "low 5 and high 5"),
        (lambda: NumberConfig("b pm", 4, 5), "'b pm'"),
        (lambda: CategoryConfig("key", ("a", "a")), "each must be there once"),
        (lambda: CategoryConfig("key", drop_prob=1.0), "below 1"),
        (lambda: dataclasses.replace(MODEL, conditioners=CONDITIONERS[:1] * 2), "each name must be there once"),
        (
            lambda: dataclasses.replace(MODEL, conditioners=(CategoryConfig("key"),)).build(),
            "training finds them in the data",
        ),
        (
            lambda: dataclasses.replace(
                MODEL, text=None, unet=dataclasses.replace(UNET, cross_attentions=()), conditioners=CONDITIONERS[2:]
            ).build(),
            "no part of the net reads the embedding",
        ),
    ]:
        with pytest.raises(aj.InputError, match=message):
            make()


def test_categories_are_found_in_the_data():
    unknown = (CONDITIONERS[0], CategoryConfig("key"))
    filled = with_values(unknown, {"bpm": [], "key": ["b", None, " a", 4.0, "b"]})
    assert filled == (CONDITIONERS[0], CategoryConfig("key", ("4", "a", "b")))
    assert with_values(CONDITIONERS, {}) == CONDITIONERS
    with pytest.raises(aj.InputError, match="no item of the data has a field"):
        with_values(unknown, {"key": [None]})


def test_a_model_folder_keeps_the_vocabulary():
    assert from_dict(json.loads(json.dumps(to_dict(MODEL)))) == MODEL


@pytest.fixture(scope="module")
def built():
    model = MODEL.build()
    return model, drawn(model.init, example_batch(MODEL), scale=0.3)


def test_every_condition_matters_where_it_is_there_and_nowhere_else(built):
    model, variables = built
    batch = {
        "audio": jnp.zeros((3, 32, 1)),
        "tokens": jnp.full((3, 8), 5),
        "token_mask": jnp.ones((3, 8), bool),
        **encode_fields(CONDITIONERS, FIELDS),
    }
    x, t = jax.random.normal(jax.random.key(1), (3, 32, 1)), jnp.array([0.2, 0.5, 0.8])

    @jax.jit
    def net(batch, mask):
        conditioning = model.conditioning(variables, batch)
        return model._net(variables)(x, t, **{**conditioning, "embedding_mask": mask})

    none = jnp.zeros(3, bool)
    whole = np.asarray(net(batch, none))
    for name, changed in [("bpm", (0.9,)), ("strength", (0,)), ("pitch", (0.5,)), ("key", (0,))]:
        other = np.asarray(
            net({**batch, f"condition_{name}": batch[f"condition_{name}"].copy() * 0 + changed[0]}, none)
        )
        # Items with other values differ. The last item lacks most values.
        assert not np.allclose(other[0], whole[0], atol=1e-4), name
    # The replacement of a condition that is left out does not depend on the condition.
    gone = {name: jnp.full_like(array, -1) for name, array in batch.items() if name.startswith("condition_")}
    masked = net({**batch, **gone}, ~none)
    dropped = drop({**batch, "embedding": jnp.zeros((3, 8, 8))}, jnp.ones(3, bool))
    for name, array in gone.items():
        np.testing.assert_array_equal(dropped[name], array)
    others = encode_fields(CONDITIONERS, {name: values[::-1] for name, values in FIELDS.items()})
    np.testing.assert_array_equal(net({**batch, **drop(others, jnp.ones(3, bool))}, ~none), masked)


def test_each_is_dropped_alone_and_all_together():
    conditioning = {"embedding": jnp.zeros((2, 3, 4)), "condition_a": jnp.ones(2), "condition_b": jnp.int32([3, 4])}
    all_, alone = jnp.array([True, False]), {"condition_b": jnp.array([False, True])}
    left = drop(conditioning, all_, alone)
    np.testing.assert_array_equal(left["embedding_mask"], [True, False])
    np.testing.assert_array_equal(left["condition_a"], [-1, 1])
    np.testing.assert_array_equal(left["condition_b"], [-1, -1])
    towards, away = opposites(conditioning, {})
    assert not towards["embedding_mask"].any()
    assert away["embedding_mask"].all()
    assert (away["condition_b"] == -1).all()
    towards, away = opposites({"condition_a": jnp.ones(2)}, {})
    assert (away["condition_a"] == -1).all()


def test_the_draws_have_their_probabilities(built):
    masks = draw_masks(per_item(jax.random.key(0), 4000), built[0].drop_probs)
    shares = {name: float(mask.mean()) for name, mask in masks.items()}
    wanted = {"condition_bpm": 0.25, "condition_strength": 0.5, "condition_key": 0.1, "embedding": 0.1}
    assert shares == pytest.approx(wanted, abs=0.03)
    # Each condition is left out independently of the others.
    both = float((masks["condition_bpm"] & masks["condition_strength"]).mean())
    assert both == pytest.approx(0.125, abs=0.03)


def test_an_items_loss_is_its_own(built):
    # The draws must not depend on the number of devices that share a batch.
    model, variables = built
    fields = {"bpm": [60, None], "strength": ["loud", "soft"], "pitch": [40, 50], "key": ["C major", None]}
    batch = {
        "audio": 0.3 * jax.random.normal(jax.random.key(4), (2, 32, 1)),
        "tokens": jnp.full((2, 8), 5),
        "token_mask": jnp.ones((2, 8), bool),
        **encode_fields(CONDITIONERS, fields),
    }
    loss = jax.jit(lambda keys, batch: model.loss(variables, keys, batch)[0])
    keys = per_item(jax.random.key(5), 2)
    each = [loss(*jax.tree.map(lambda array, i=i: array[np.array([i, i])], (keys, batch))) for i in range(2)]
    assert each[0] != each[1]
    assert float(loss(keys, batch)) == pytest.approx(float(np.mean(each)), rel=1e-4)


def test_the_pipeline_is_told_conditions(built):
    pipeline = Pipeline(MODEL, *built)
    settings = {"num_steps": 2, "guidance_scale": 2.0}
    one, _ = pipeline.generate("a", conditions={"bpm": 120, "key": "A minor"}, **settings)
    two, _ = pipeline.generate("a", conditions={"bpm": "120", "key": "C major"}, **settings)
    none, _ = pipeline.generate("a", **settings)
    assert one.shape == (1, 32, 1)
    assert not np.allclose(one, two, atol=1e-3)
    assert not np.allclose(one, none, atol=1e-3)
    for conditions, message in [
        ({"bmp": 120}, "no condition bmp: did you mean bpm"),
        ({"q": 1}, "it has bpm, key, pitch, strength"),
        ({"bpm": 500}, "out of range"),
        ({"key": "H"}, "does not know"),
    ]:
        with pytest.raises(aj.InputError, match=message):
            pipeline.generate("a", conditions=conditions)


def test_stable_audio_has_its_numbers_as_conditions():
    pipeline = Pipeline(STABLE_AUDIO, STABLE_AUDIO.build(), {})
    arrays = pipeline.conditions({"seconds_total": 3}, 2)
    assert {name: list(array) for name, array in arrays.items()} == {
        "seconds_start": [0, 0],
        "seconds_total": [3, 3],
    }
    with pytest.raises(aj.InputError, match="out of range"):
        pipeline.conditions({"seconds_total": 100}, 1)
    # If files are longer than the range of the model, the nearest value in the range is used.
    np.testing.assert_array_equal(
        encode_fields(STABLE_AUDIO.numbers[1:], {"seconds_total": [100.0]})["seconds_total"], 100
    )


def test_a_latent_model_reads_them_too():
    config = dataclasses.replace(LATENT_MODEL, conditioners=(CONDITIONERS[1], CONDITIONERS[2]))
    model = config.build()
    shapes = jax.eval_shape(model.init, jax.random.key(0), example_batch(config))
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1, leaf.dtype), shapes)
    sounds, _ = Pipeline(config, model, variables).generate("x", conditions={"pitch": 40}, num_steps=1)
    assert sounds.shape == (1, 64, 1)


CONFIG = """
import archijax as aj
from nets import LATENT_MODEL
from train.config import EmaConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.configs.DiffusionConfig(
        unet=LATENT_MODEL.unet, sample_rate=8000, channels=1, length=64,
        conditioners=(aj.configs.NumberConfig("bpm", 40, 240), aj.configs.CategoryConfig("key", into="embedding")),
    ),
    data=DataConfig(sample_rate=8000, channels=1, length=64, workers=1),
    ema=EmaConfig(start=0, every=1), batch_size=8, steps=4, log_every=1, checkpoint_every=2, sample_prompts=("",),
    sample_steps=1, sample_set=("bpm=60",),
)
"""


@pytest.mark.slow
def test_a_training_finds_them_resumes_and_is_sampled(tmp_path, capsys, unchecked):
    (tmp_path / "config.py").write_text(CONFIG)
    data = tmp_path / "data"
    data.mkdir()
    for name, fields in {"a": {"bpm": 60, "key": "C"}, "b": {"key": "D"}, "c": {"bpm": 90.5}}.items():
        soundfile.write(data / f"{name}.wav", 0.3 * np.sin(np.arange(400) * 0.1), 8000)
        (data / f"{name}.json").write_text(json.dumps(fields))

    def run(out, *more):
        return train([str(tmp_path / "config.py"), "--data", str(data), "--out", str(tmp_path / out), *more])

    assert run("whole") == 0
    killed_run(tmp_path / "whole", tmp_path / "parts", 2)
    assert run("parts", "--sample-prompts") == 0
    assert (tmp_path / "whole" / "metrics.jsonl").read_bytes() == (tmp_path / "parts" / "metrics.jsonl").read_bytes()
    ours, whole = (restore_weights(tmp_path / name, parts=("step", "params", "ema"))[1] for name in ("parts", "whole"))
    jax.tree.map(np.testing.assert_array_equal, ours, whole)
    config = from_pretrained(tmp_path / "parts").config
    assert config.conditioners[1].values == ("C", "D")
    pipeline = from_pretrained(tmp_path / "whole")
    save_pretrained(tmp_path / "saved", config, pipeline.variables)
    verb = ["generate", "--model", str(tmp_path / "saved"), "--out", str(tmp_path / "sounds"), "--num-steps", "1"]
    assert sample([*verb, "--set", "bpm=120", "--set", "key=C"]) == 0
    capsys.readouterr()
    for bad, message in {
        "bpm": "has another form than NAME=VALUE",
        "bpm=fast": "which is not a number",
        "key=E": "does not know: known are C, D",
        "keys=C": "did you mean key?",
    }.items():
        assert sample([*verb, "--set", bad]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
    # An unknown category in new data is reported before the training.
    (data / "b.json").write_text(json.dumps({"key": "E"}))
    assert run("whole", "--steps", "6") == 2
    assert "key is 'E', a category that the model does not know" in capsys.readouterr().err

"""The start of new runs: weights of other models, and the autoencoder of a latent model."""

import dataclasses
import shutil
import types

import jax
import numpy as np
import optax
import pytest
from folders import traced_once  # noqa: F401
from nets import AUTOENCODER, LATENT_MODEL, TEXT_MODEL, variables_of
from test_train import CONFIG as TOY

import archijax as aj
from archijax.audio import files
from archijax.configs import KINDS
from archijax.errors import InputError
from archijax.pretrained import from_pretrained, save_pretrained
from archijax.text import tokenize
from archijax.training.checkpoints import restore_weights
from archijax.training.losses import losses
from archijax.training.state import TrainState
from train.__main__ import main
from train.config import TrainConfig
from train.dataset import DataConfig
from train.initial import initial, match

DATA = DataConfig(sample_rate=8000, channels=1, length=64, workers=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of saved models: a trained autoencoder `coder`, and a latent model `latent`."""
    folder = tmp_path_factory.mktemp("models")
    save_pretrained(folder / "coder", AUTOENCODER, variables_of(AUTOENCODER, 1))
    save_pretrained(folder / "latent", LATENT_MODEL, variables_of(LATENT_MODEL, 2))
    return folder


def around(variables):
    """A function like `init` that returns these variables with pretrained parts."""
    return lambda frozen: {**variables, "frozen": {**variables["frozen"], **frozen}}


def equal(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_what_two_trees_have_in_common():
    ours = {"params": {"net": {"a": np.zeros(2), "b": np.zeros((3, 1)), "c": np.zeros(1)}}, "state": {}}
    theirs = {"params": {"net": {"a": np.ones(2), "b": np.ones((3, 2)), "d": np.ones(1)}}, "frozen": {}}
    found = match(ours, theirs)
    equal(found.variables, {**ours, "params": {"net": {**ours["params"]["net"], "a": np.ones(2)}}})
    assert (found.matched, found.missing, found.left_over) == (["params/net/a"], ["params/net/c"], ["params/net/d"])
    assert found.reshaped == ["params/net/b is [3, 2] there and [3, 1] here"]


def test_names_in_wrapped_nets():
    one, two, three = np.full(1, 1.0), np.full(1, 2.0), np.full(1, 3.0)
    bare = {"params": {"net": {"a": one, "b": {"c": two}}}}
    wrapped = {"params": {"net": {"net": {"a": 0 * one, "b": {"c": 0 * two}}, "new": three}}}
    found = match(wrapped, bare)
    equal(found.variables, {"params": {"net": {"net": bare["params"]["net"], "new": three}}})
    assert (found.missing, found.left_over) == (["params/net/new"], [])
    back = match(bare, wrapped)
    equal(back.variables, {"params": {"net": wrapped["params"]["net"]["net"]}})
    assert (back.missing, back.left_over) == ([], ["params/net/new"])
    # Without the parts "net", two names of the second tree are equal: neither is taken.
    twice = {"params": {"net": {"net": {"a": one}}, "a": two}}
    unclear = match({"params": {"net": {"a": three}}}, twice)
    equal(unclear.variables, {"params": {"net": {"a": three}}})
    assert (unclear.missing, sorted(unclear.left_over)) == (["params/net/a"], ["params/a", "params/net/net/a"])


def test_a_new_conditioner_keeps_the_net_that_it_wraps(models, capsys):
    """A net of the model without the conditioner is one "net" deeper in the model with it."""
    tempo = dataclasses.replace(LATENT_MODEL, conditioners=(aj.configs.NumberConfig("bpm", 60, 180),))
    variables = variables_of(tempo, 3)
    new = initial(
        TrainConfig(tempo, data=DATA, init_from=str(models / "latent")), around(variables), variables["frozen"]
    )
    added, wrapped = variables["params"]["net"], variables_of(LATENT_MODEL, 2)["params"]["net"]
    equal(new["params"]["net"], {**added, "net": wrapped})
    said = capsys.readouterr().err
    assert all("features_bpm" in name for name in said.split("and new: ")[1].split("; "))
    assert "left over" not in said


def test_a_run_from_weights_no_longer_needs_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(KINDS, "toy", None)
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "audio").mkdir()
    files.write(tmp_path / "audio" / "a.wav", 0.1 * np.ones((500, 1)), 8000)

    def run(out, *more):
        return main([str(tmp_path / "toy.py"), "--data", str(tmp_path / "audio"), "--out", str(tmp_path / out), *more])

    assert run("first", "--steps", "2") == 0
    # With this learning rate, the steps do not change the weights.
    given = ["--init-from", str(tmp_path / "first"), "--optimizer.learning-rate", "1e-30", "--seed", "1"]
    assert run("second", *given, "--steps", "1") == 0
    assert "3 of 3 arrays are taken, 1 of params/kernel, 1 of params/out, 1 of state/count" in capsys.readouterr().err
    (_, before), (_, after) = (restore_weights(tmp_path / name) for name in ("first", "second"))
    equal(after["params"], before["ema"])
    equal(after["ema"], before["ema"])
    assert int(after["state"]["count"]) == 3

    shutil.rmtree(tmp_path / "first")
    assert run("second", *given, "--steps", "2") == 0
    assert int(restore_weights(tmp_path / "second")[1]["state"]["count"]) == 4


FINE = """
from test_initial import SMALL
from train.config import EmaConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=SMALL,
    data=DataConfig(sample_rate=8000, channels=1, length=64, workers=1),
    ema=EmaConfig(start=0, every=1),
    batch_size=8,
    steps=2,
    sample_prompts=(),
)
"""
SMALL = aj.configs.DiffusionConfig(
    aj.configs.UNetConfig(
        channels=(8,), factors=(1,), items=(1,), cross_attentions=(1,), attention_heads=2, attention_features=4,
        resnet_groups=4, modulation_features=8,
    ),
    sample_rate=8000,
    channels=1,
    length=64,
    text=aj.configs.TextConfig(max_length=10, features=8, num_layers=1, num_heads=2, cond_drop_prob=0.0),
)  # fmt: skip


@pytest.mark.slow
def test_a_new_word_is_learned_by_a_model_that_stays_as_it_is(tmp_path, capsys, unchecked):
    (tmp_path / "fine.py").write_text(FINE)
    (tmp_path / "audio").mkdir()
    files.write(tmp_path / "audio" / "a.wav", 0.1 * np.ones((500, 1)), 8000)
    before = variables_of(SMALL, 4)
    save_pretrained(tmp_path / "base", SMALL, before)
    given = [
        "--init-from",
        str(tmp_path / "base"),
        "--trainable",
        "placeholders",
        "--model.text.placeholder-tokens",
        "<mine>",
    ]
    command = [str(tmp_path / "fine.py"), "--data", str(tmp_path / "audio"), "--out", str(tmp_path / "run")]
    assert main([*command, *given, "--data.prompt", "a <mine>"]) == 0
    assert "not in it, and new: params/placeholders/<mine>\n" in capsys.readouterr().err
    _, trees = restore_weights(tmp_path / "run", parts=("params", "ema", "opt_state"))
    words = [tree.pop("placeholders") for tree in (trees["params"], trees["ema"])]
    equal(trees["params"], before["params"])
    equal(trees["ema"], before["params"])
    # Two means of the gradient of the token's embedding, a count and the learning rate.
    assert sorted(leaf.shape for leaf in jax.tree.leaves(trees["opt_state"])) == [(), (), (1, 8), (1, 8)]
    assert all(np.abs(leaf).min() > 0 for leaf in jax.tree.leaves(trees["opt_state"]))
    assert np.abs(words[0] - words[1]).max() > 0

    trained = from_pretrained(tmp_path / "run")
    save_pretrained(tmp_path / "saved", trained.config, trained.variables)
    saved = from_pretrained(tmp_path / "saved")
    config, model, variables = saved.config, saved.model, saved.variables
    np.testing.assert_array_equal(variables["params"]["placeholders"], words[1])
    tokens, mask = tokenize(config.text.load_tokenizer(), ["a <mine>", "a mine"], config.text.max_length)
    sample = jax.jit(lambda v: model.sample(
        v, jax.random.key(0), shape=(2, 64, 1), num_steps=1, tokens=tokens, token_mask=mask))  # fmt: skip
    other = {**variables, "params": {**variables["params"], "placeholders": -variables["params"]["placeholders"]}}
    changed = np.abs(sample(variables) - sample(other)).max(axis=(1, 2))
    assert changed[0] > 1e-5
    assert changed[1] == 0


def test_of_several_losses_those_stay_that_train_something():
    class Two:
        init = loss = len
        losses = ((max, ("net", "placeholders")), (min, ("judge",)))

    assert losses(Two()) == Two.losses
    assert losses(Two(), ("placeholders",)) == ((max, ("placeholders",)),)
    variables = {"params": {name: np.zeros(2) for name in ("net", "placeholders", "judge")}}
    state = TrainState.create(Two(), variables, optax.trace(0.9), ("placeholders",))
    assert state.opt_state[0].trace.keys() == {"placeholders"}
    assert len(state.opt_state) == 1
    with pytest.raises(
        InputError, match="trainable has 'nett', which does not exist: the model has net, placeholders, judge"
    ):
        TrainState.create(Two(), variables, optax.identity(), ("nett",))


def test_learned_words_keep_their_embeddings(monkeypatch):
    def variables(*rows):
        return {"params": {"net": np.ones(1), "placeholders": np.array(rows, np.float32)}, "frozen": {}, "state": {}}

    def config(*words):
        model = dataclasses.replace(TEXT_MODEL, text=dataclasses.replace(TEXT_MODEL.text, placeholder_tokens=words))
        return TrainConfig(model, data=dataclasses.replace(DATA, channels=2), init_from="there")

    trained = types.SimpleNamespace(config=config("<a>", "<b/c>").model, variables=variables([1, 2], [3, 4]))
    monkeypatch.setattr("train.initial.from_pretrained", lambda name, **given: trained)
    new = initial(config("<b/c>", "<new>", "<a>"), lambda frozen: variables([0, 0], [9, 9], [0, 0]), {})
    np.testing.assert_array_equal(new["params"]["placeholders"], [[3, 4], [9, 9], [1, 2]])


def test_weights_of_other_models(models, capsys):
    narrow = dataclasses.replace(LATENT_MODEL, unet=dataclasses.replace(LATENT_MODEL.unet, modulation_features=8))
    variables = variables_of(narrow, 3)
    # The autoencoder is in the other model's weights.
    new = initial(
        TrainConfig(narrow, data=DATA, init_from=str(models / "latent")), around(variables), variables["frozen"]
    )
    said = capsys.readouterr().err
    assert "of another shape, and new: " in said
    assert "params/net/net/net/up_0/skip/to_scale/kernel is [16, 3] there and [8, 3] here" in said
    assert "left over" not in said
    theirs = variables_of(LATENT_MODEL, 2)
    equal(new["frozen"], theirs["frozen"])
    equal(new["params"]["embedder"], theirs["params"]["embedder"])
    assert jax.tree.structure(new) == jax.tree.structure(variables)
    assert jax.tree.map(np.shape, new) == jax.tree.map(np.shape, variables)


def test_other_autoencoders_are_refused(models):
    variables = variables_of(LATENT_MODEL, 3)
    louder = dataclasses.replace(LATENT_MODEL, autoencoder=dataclasses.replace(AUTOENCODER, stft=0.5))
    for config, names, message in [
        (louder, {"autoencoder": "latent"}, r"model\.autoencoder\.stft is 0\.5, but 0\.0 in .*latent"),
        (louder, {"autoencoder": "coder"}, r"model\.autoencoder\.stft is 0\.5, but 0\.0 in .*coder"),
        (louder, {"init_from": "latent"}, "use --autoencoder MODEL"),
        (LATENT_MODEL, {"autoencoder": "none"}, "none' is neither an existing folder"),
        (LATENT_MODEL, {"init_from": "coder"}, "use --autoencoder MODEL"),
        (LATENT_MODEL, {"init_from": "coder", "autoencoder": "coder"}, "no array with the name and the shape"),
    ]:
        settings = {setting: str(models / name) for setting, name in names.items()}
        with pytest.raises(InputError, match=message):
            initial(TrainConfig(config, data=DATA, **settings), around(variables), variables["frozen"])
    with pytest.raises(InputError, match="only a latent model has one"):
        TrainConfig(AUTOENCODER, data=DATA, sample_prompts=(), autoencoder="coder")

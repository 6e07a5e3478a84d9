"""The sampling programs, on tiny models with random weights."""

import re

import jax
import numpy as np
import pytest
import soundfile

from archijax import DiffusionConfig, InputError, LearnedTransformConfig, TextConfig, UNetConfig
from archijax.audio import files
from archijax.checkpoints import Checkpoints
from archijax.config import to_dict
from archijax.text import tokenize
from sample.__main__ import main
from sample.generation import _begin, _step, generate
from sample.model import load
from sample.output import Output, slugs

LENGTH, RATE = 256, 4000


def save(folder, text):
    """A run's folder as training leaves it, with random weights; the trained ones differ from their average."""
    config = DiffusionConfig(
        UNetConfig(
            channels=(8,),
            factors=(2,),
            items=(1,),
            cross_attentions=(1,) if text else (),
            attention_heads=2,
            attention_features=4,
            resnet_groups=4,
            modulation_features=8,
        ),
        sample_rate=RATE,
        channels=2,
        length=LENGTH,
        transform=LearnedTransformConfig(num_filters=4, window_length=16, stride=8),
        text=TextConfig(max_length=8, features=8, num_layers=1, num_heads=2) if text else None,
    )
    batch = {"audio": np.zeros((1, LENGTH, 2), np.float32)}
    if text:
        batch |= {"tokens": np.zeros((1, 8), np.int32), "token_mask": np.ones((1, 8), bool)}
    params = jax.device_get(config.build().init(jax.random.key(1), batch)["params"])
    checkpoints = Checkpoints(folder / "checkpoints")
    state = {"params": jax.tree.map(np.zeros_like, params), "ema": params, "frozen": {}, "state": {}}
    checkpoints.save(7, state, {"step": 7, "config": {"model": to_dict(config)}})
    checkpoints.close()
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return save(tmp_path_factory.mktemp("text"), text=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return save(tmp_path_factory.mktemp("plain"), text=False)


@pytest.fixture(scope="module")
def loaded(text):
    return load(text)


def run(model, out, *options):
    return main(["generate", "--model", str(model), "--out", str(out), "--num-steps", "5", *options])


def test_an_item_alone_is_the_same_sound_as_in_a_batch(text, tmp_path, capsys):
    prompts = ("--prompt", "warm pad", "drums")
    assert run(text, tmp_path / "all", *prompts, "--count", "4", "--batch-size", "3") == 0
    said = capsys.readouterr()
    assert run(text, tmp_path / "one", "--prompt", "drums", "--first", "3") == 0
    (alone,) = (tmp_path / "one").glob("*.wav")
    together = files.read(tmp_path / "all" / alone.name)
    assert together.shape == (LENGTH, 2)
    np.testing.assert_allclose(files.read(alone), together, atol=1e-5)
    assert np.abs(together - files.read(tmp_path / "all" / "warm-pad_seed0_003.wav")).max() > 1e-3

    names = {f"{prompt}_seed0_00{item}" for prompt in ("warm-pad", "drums") for item in range(4)}
    assert {path.name for path in (tmp_path / "all").iterdir()} == {
        name + suffix for name in names for suffix in (".wav", ".png")
    }
    assert said.out.split() == [
        str(tmp_path / "all" / f"{prompt}_seed0_00{item}.wav") for prompt in ("warm-pad", "drums") for item in range(4)
    ]
    assert "compiling" in said.err
    assert "15/15" in said.err
    assert re.search(r"made 0\.5 s of sound in .* times as fast as real time, after .* s of compilation", said.err)
    header = files.info(tmp_path / "all" / "drums_seed0_003.wav")
    assert (header.sample_rate, header.channels) == (RATE, 2)
    assert header.tags["title"] == "drums"
    assert header.tags["comment"] == "seed 0, item 3, 5 steps, guidance 3"


def test_generate_equals_the_models_own_sampling(loaded):
    steps = []
    ours = generate(
        loaded,
        ["bell", " "],
        count=3,
        seed=5,
        num_steps=4,
        guidance=2.0,
        batch_size=4,
        progress=lambda: steps.append(1),
    )
    # An empty prompt is what training put for a dropped one, which guidance by 0 leaves alone.
    tokens, mask = tokenize(loaded.tokenizer, ["bell"] * 3 + ["anything"] * 3, 8)
    noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(jax.random.key(5), i), (LENGTH, 2)))(np.arange(3))

    @jax.jit
    def sample(variables):
        return loaded.model.sample(
            variables,
            jax.random.key(0),
            shape=(6, LENGTH, 2),
            num_steps=4,
            guidance=np.repeat(np.float32([2, 0]), 3),
            noise=jax.numpy.concatenate([noise, noise]),
            tokens=tokens,
            token_mask=mask,
        )

    assert len(steps) == 2 * 4
    np.testing.assert_allclose(ours, sample(loaded.variables), atol=1e-5)


def test_an_empty_prompt_without_guidance_is_one_that_training_dropped(loaded):
    empty, bell = np.split(generate(loaded, ["", "bell"], count=3, num_steps=1, guidance=1.0, batch_size=3), 2)
    dropped = generate(loaded, "anything", count=3, num_steps=1, guidance=0.0)
    np.testing.assert_allclose(empty, dropped, atol=1e-5)
    assert np.abs(bell - empty).max() > 1e-3


@pytest.mark.parametrize("seconds", [1 / RATE, 0.03175])
def test_any_length_and_no_prompt(plain, tmp_path, seconds):
    assert run(plain, tmp_path, "--length-seconds", str(seconds)) == 0
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["sound_seed0_000.png", "sound_seed0_000.wav"]
    assert soundfile.info(tmp_path / "sound_seed0_000.wav").frames == round(seconds * RATE)


def test_one_compilation_serves_every_batch_prompt_and_number_of_steps(loaded):
    generate(loaded, ["a", "b", ""], count=2, num_steps=1, batch_size=4)
    compiled = _begin._cache_size(), _step._cache_size()
    generate(loaded, ["c"], count=7, first=2, seed=9, num_steps=3, guidance=5.0, batch_size=3)
    assert (_begin._cache_size(), _step._cache_size()) == compiled


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num-steps", "-3"], "num_steps is -3"),
        (["--length-seconds", "0"], "length_seconds is 0.0"),
        (["--length-seconds", "-1"], "length_seconds is -1.0"),
        (["--length-seconds", "nan"], "length_seconds is nan"),
        (["--length-seconds", "1e9"], "length_seconds is 1000000000.0"),
        (["--count", "0"], "count is 0"),
        (["--first", "-1"], "first is -1"),
        (["--seed", "-1"], "seed is -1"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--guidance", "inf"], "guidance is inf"),
        (["--guidance", "3"], "not trained to be guided"),
        (["--prompt", "warm pad"], "The prompt 'warm pad' means nothing"),
        (["--num-stepz", "5"], "did you mean --num-steps?"),
        (["--out", "/dev/null/sounds"], "/dev/null"),
        (["--out", "/proc/sounds"], "/proc/sounds cannot be written to"),
        (["--model", "no/such"], "is not a model folder"),
        (["--model", __file__], "is not a model folder"),
    ],
)
def test_wrong_input_is_one_sentence(plain, tmp_path, capsys, options, words):
    assert run(plain, tmp_path / "out", *options) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))


def test_a_model_with_text_needs_a_prompt(text, tmp_path, capsys):
    assert run(text, tmp_path) == 2
    assert "none is given" in capsys.readouterr().err


def test_checkpoints_that_are_of_no_model_are_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"ema": {"a": np.ones(3)}}, {"config": {}})
    checkpoints.close()
    with pytest.raises(InputError, match="do not say what model"):
        load(tmp_path)


def test_verbs(capsys):
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert "generate" in capsys.readouterr().out
    assert main(["generat", "--model", "x"]) == 2
    assert "did you mean generate?" in capsys.readouterr().err


def test_loud_sounds_are_clipped_and_told(tmp_path, capsys):
    output = Output(tmp_path, RATE)
    loud = np.zeros((1000, 1), np.float32)
    output.write("soft", loud, "a $ sign", {})
    output.tell_clipped()
    assert "louder" not in capsys.readouterr().err
    loud[:20] = 1.5
    output.write("loud", loud, "音 $x_ \\frac$" + " long" * 50, {"title": "音\n$"})
    output.tell_clipped()
    assert "1 of 2 sounds were louder than full scale and clipped there, up to 2.0%" in capsys.readouterr().err
    assert files.read(tmp_path / "loud.wav").max() <= 1
    assert (tmp_path / "loud.png").stat().st_size > 1000


def test_slugs_are_distinct_names():
    texts = ["Warm pad, 80s!", "warm PAD 80s", "../../etc", "", "…", "音楽", "x" * 300, "sound-2"]
    found = slugs(texts)
    assert found[:6] == ["warm-pad-80s", "warm-pad-80s-2", "etc", "sound", "sound-2", "音楽"]
    assert len(set(found)) == len(texts)
    assert max(map(len, found)) <= 43

"""Saved and exported models make the same sounds as their run, in another environment."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from flax.traverse_util import flatten_dict
from folders import traced_once  # noqa: F401
from nets import TEXT_MODEL, UNET, drawn, text_batch

from archijax import InputError
from archijax.configs import to_dict
from archijax.pipeline import SampleSettings
from archijax.pipeline.facts import Facts
from archijax.pretrained import from_pretrained
from archijax.text import tokenize
from archijax.training.checkpoints import Checkpoints
from sample import exported
from sample.__main__ import main
from sample.export import sampler, write
from sample.save import last_metrics

PROMPTS = ["warm pad", " ", "é ☃"]
UNET = replace(UNET, channels=(8,), factors=(2,), items=(1,), attentions=(), cross_attentions=(1,))
TEXT_MODEL = replace(TEXT_MODEL, unet=UNET)
PLAIN_MODEL = replace(TEXT_MODEL, text=None, unet=replace(UNET, cross_attentions=()))


def run_folder(folder, config):
    """The folder of a finished run, with random weights. The trained weights differ from their average."""
    batch = text_batch(1) if config.text else {"audio": text_batch(1)["audio"]}
    params = drawn(config.build().init, batch)["params"]
    checkpoints = Checkpoints(folder / "checkpoints")
    state = {"params": jax.tree.map(np.zeros_like, params), "ema": params, "frozen": {}, "state": {}}
    settings = {"model": to_dict(config), "data": {"normalize": -14.0}}
    checkpoints.save(7, state, {"step": 7, "config": settings})
    checkpoints.close()
    lines = [{"step": 5, "loss": 2.0}, {"step": 7, "loss": 0.5, "bad": float("nan")}, {"step": 9, "loss": 0.1}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_folder(tmp_path_factory.mktemp("text"), TEXT_MODEL)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return from_pretrained(run_folder(tmp_path_factory.mktemp("plain"), PLAIN_MODEL))


@pytest.fixture(scope="module")
def pipeline(run):
    return from_pretrained(run)


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "pads"
    assert main(["save", "--model", str(run), "--out", str(folder)]) == 0
    return folder


def elsewhere(folder, code, cwd):
    """Runs Python code with only the exported folder, JAX, numpy and their dependencies."""
    place = cwd / "site"
    place.mkdir()
    for name in ("jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy"):
        installed = Path(find_spec(name).origin).parent
        (place / name).symlink_to(installed)
        if (libs := installed.with_name(f"{name}.libs")).exists():
            (place / libs.name).symlink_to(libs)
    head = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(place)!r}]\n"
    check = "\nassert not {'archijax', 'flax', 'sample', 'safetensors'} & set(sys.modules)"
    # These options hide the packages of this environment.
    command = [sys.executable, "-I", "-S", "-c", head + code + check]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={"JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stderr


def test_a_saved_run_makes_the_same_sounds(pipeline, saved, capsys):
    again = from_pretrained(saved)
    assert again.facts == Facts(loudness=-14.0, step=7, metrics={"loss": 0.5})
    assert pipeline.facts == Facts(loudness=-14.0, step=7)
    assert again.config == pipeline.config
    # Both calls use one of the two equal models, so that it is compiled once.
    ours, theirs = (
        each.generate(PROMPTS, num_steps=3, seed=1).sounds for each in (replace(again, model=pipeline.model), pipeline)
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert main(["save", "--model", str(saved), "--out", str(saved)]) == 2
    assert "exists and is not empty" in capsys.readouterr().err


def test_metrics_that_are_not_there(tmp_path):
    assert last_metrics(tmp_path / "none.jsonl", 3) == {}
    (tmp_path / "metrics.jsonl").write_text('{"step": 9, "loss": 1}\n')
    assert last_metrics(tmp_path / "metrics.jsonl", 3) == {}
    (tmp_path / "metrics.jsonl").write_text('{"step": 1\n')
    assert last_metrics(tmp_path / "metrics.jsonl", 3) == {}


@pytest.mark.parametrize("name", ["bytes", "words"])
def test_the_exported_script_tokenizes_as_the_library_does(name, pipeline):
    text = replace(pipeline.config.text, tokenizer=name, placeholder_tokens=("<a>", "<ab>"), max_length=12)
    prompts = ["", "x <ab> é", "<a><a>", "longer than twelve bytes, and of more than twelve words: A B C D E F"]
    about = {"tokenizer": name, "placeholder_tokens": text.placeholder_tokens, "max_length": 12}
    for ours, theirs in zip(
        exported.tokenize(prompts, about), tokenize(text.load_tokenizer(), prompts, 12), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_an_exported_sampler_makes_the_same_sounds_with_jax_and_numpy_alone(pipeline, saved, tmp_path, unchecked):
    folder = tmp_path / "sampler"
    command = ["export", "--model", str(saved), "--out", str(folder), "--num-steps", "4", "--seed", "2"]
    assert main(command) == 0
    code = (
        "import run, numpy as np\n"
        f"np.save('three', run.sample({PROMPTS}, seed=2, item=5))\n"
        f"np.save('one', run.sample({PROMPTS[:1]}, seed=4294967295, item=5, guidance=1.5))\n"
    )
    elsewhere(folder, code, tmp_path)
    live, _ = pipeline.generate(PROMPTS, num_steps=4, seed=2, first=5)
    np.testing.assert_allclose(np.load(tmp_path / "three.npy"), live, rtol=0, atol=1e-6)
    live, _ = pipeline.generate(PROMPTS, num_steps=4, seed=4294967295, first=5, guidance_scale=1.5)
    np.testing.assert_allclose(np.load(tmp_path / "one.npy"), live[:1], rtol=0, atol=1e-6)
    about = json.loads((folder / "sampler.json").read_text())
    assert about["inputs"].keys() == {"seed", "items", "tokens", "token_mask", "empty", "guidance"}
    assert about["inputs"]["tokens"]["shape"] == ["b", TEXT_MODEL.text.max_length]
    assert (about["output"]["shape"], about["sample_rate"], about["guidance"]) == (["b", 64, 2], 8000, 3.0)


@pytest.mark.slow
def test_its_script_writes_sounds(plain, tmp_path, unchecked):
    write(tmp_path / "sampler", plain, SampleSettings(num_steps=2, eta=0.5), 50)
    script = str(tmp_path / "sampler" / "run.py")
    code = f"import runpy; sys.argv = ['run.py', '3']; runpy.run_path({script!r}, None, '__main__')"
    elsewhere(tmp_path / "sampler", code, tmp_path)
    sound, rate = soundfile.read(tmp_path / "0.wav")
    assert rate == 8000
    live = plain.generate(num_steps=2, eta=0.5, seed=3, seconds=50 / 8000).sounds[0]
    np.testing.assert_allclose(sound, np.clip(live, -1, 1), atol=1e-4)


@pytest.mark.slow
def test_every_setting_is_that_of_the_live_sampler(pipeline, unchecked):
    settings = {
        "num_steps": 3,
        "sampler": "dpm++sde",
        "timestep_spacing": "karras",
        "guidance_scale": 2.0,
        "guidance_rescale": 0.5,
        "guidance_interval": (0.2, 0.8),
        "negative_prompt": "drums",
        "sequential": True,
        "clamp": 0.8,
        "threshold": 0.9,
        "window_seconds": 0.002,
    }
    sample, inputs = sampler(pipeline, SampleSettings(**settings), 60)
    arrays = {
        "seed": np.uint32(9),
        "items": np.array([1], np.uint32),
        **pipeline.tokens(PROMPTS[:1]),
        "empty": np.array([False]),
        "guidance": np.array([2.0], np.float32),
    }
    assert inputs.keys() == arrays.keys()
    ours = jax.jit(sample)(flatten_dict(pipeline.variables, sep="."), arrays)
    live, _ = pipeline.generate(PROMPTS[:1], seed=9, first=1, seconds=60 / 8000, **settings)
    np.testing.assert_allclose(ours, live, rtol=0, atol=1e-5)


def test_what_goes_in_depends_on_model_and_settings(pipeline, plain):
    assert "guidance" not in sampler(pipeline, SampleSettings(guidance_scale=1.0), 64)[1]
    assert sampler(plain, SampleSettings(), 64)[1].keys() == {"seed", "items"}
    with pytest.raises(InputError, match="not trained for guidance"):
        sampler(plain, SampleSettings(guidance_scale=2.0), 64)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num-steps", "0"], "num_steps must be at least 1"),
        (["--seconds", "-1"], "seconds must be above 0"),
        (["--model", "../nowhere"], "is neither an existing folder nor a name"),
        (["--model", "."], "is not complete in ."),
    ],
)
def test_wrong_input_is_one_sentence(saved, tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--model", str(saved), "--out", "out", *options]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_alone(plain, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InputError, match="exists and is not empty"):
        write(tmp_path / "out", plain, SampleSettings(), 64)

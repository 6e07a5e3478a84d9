"""The programs with a tiny model: train on a folder of audio, resume, sample. Also every wrong input."""

import dataclasses
from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest
import soundfile
from nets import LATENT_MODEL, TEXT_MODEL, text_batch

from archijax.audio import files
from archijax.training.checkpoints import restore_weights
from sample.__main__ import main as sample
from train.__main__ import load_config
from train.__main__ import main as train

pytestmark = pytest.mark.slow

# The shared model with a net of one depth.
MODEL = dataclasses.replace(TEXT_MODEL, unet=LATENT_MODEL.unet)
CONFIG = """
from test_programs import MODEL
from train.config import EmaConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=MODEL,
    data=DataConfig(sample_rate=8000, channels=2, length=64, workers=1),
    ema=EmaConfig(start=0, every=1),
    batch_size=8,
    steps=4,
    log_every=2,
    checkpoint_every=2,
    sample_prompts=("warm $pad", ""),
    sample_steps=2,
    sample_guidance_scale=2.0,
)
"""


@pytest.fixture(scope="module", autouse=True)
def _unchecked():
    """Turns the checks of annotations off, also in fixtures."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A config, a folder of audio, and a run of four steps."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "tiny.py").write_text(CONFIG)
    (folder / "audio" / "album").mkdir(parents=True)
    for number, rate in enumerate((11025, 48000)):
        sound = 0.3 * np.random.default_rng(number).standard_normal((rate, 1 + number))
        files.write(folder / "audio" / "album" / f"{number}.flac", sound, rate, {"title": f"Song {number}"})
    assert train(arguments(folder)) == 0
    return folder


def arguments(folder, *more, out="run", data="audio"):
    return [str(folder / "tiny.py"), "--data", str(folder / data), "--out", str(folder / out), *more]


def test_training_writes_a_run_that_sampling_reads(folder):
    run = folder / "run"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    assert {path.name for path in (run / "samples").glob("*.wav")} == {
        f"step_{step:07d}_{i}.wav" for step in (2, 4) for i in (0, 1)
    }
    out = folder / "sounds"
    command = ["generate", "--model", str(run), "--prompt", "warm pad", "--num-steps", "2", "--guidance-scale", "2"]
    assert sample([*command, "--count", "8", "--seconds", "0.01", "--out", str(out)]) == 0
    alone = [*command, "--first", "3", "--seconds", "0.01", "--out", str(folder / "alone")]
    assert sample(alone) == 0
    (name,) = (path.name for path in (folder / "alone").glob("*.wav"))
    sound, rate = soundfile.read(out / name, always_2d=True)
    assert (sound.shape, rate) == ((80, 2), 8000)
    np.testing.assert_allclose(soundfile.read(folder / "alone" / name, always_2d=True)[0], sound, atol=1e-5)
    assert len(list(out.glob("*.wav"))) == len(list(out.glob("*.png"))) == 8


def test_a_run_in_two_parts_equals_one(folder):
    for steps in ("2", "4"):
        assert train(arguments(folder, "--steps", steps, "--sample-prompts", out="parts")) == 0
    parts = ("params", "ema", "opt_state")
    ours, whole = (restore_weights(folder / name, parts=parts)[1] for name in ("parts", "run"))
    jax.tree.map(np.testing.assert_array_equal, ours, whole)
    assert (folder / "parts" / "metrics.jsonl").read_text() == (folder / "run" / "metrics.jsonl").read_text()


def test_the_quickstart_builds_and_its_loss_has_a_gradient_of_every_parameter():
    config = load_config(Path(__file__).parent.parent / "configs" / "quickstart.py")
    model, length = config.model.build(), config.model.text.max_length
    batch = text_batch(2, config.model.length)
    batch = {
        "audio": batch["audio"][:, :, : config.model.channels],
        "tokens": np.full((2, length), 70, np.int32),
        "token_mask": np.ones((2, length), bool),
    }

    def gradients():
        variables = model.init(jax.random.key(0), batch)
        loss = lambda p: model.loss({**variables, "params": p}, jax.random.key(1), batch)[0]  # noqa: E731
        return variables["params"], jax.grad(loss)(variables["params"])

    params, gradient = jax.eval_shape(gradients)
    assert jax.tree.map(lambda leaf: leaf.shape, params) == jax.tree.map(lambda leaf: leaf.shape, gradient)
    assert config.data.length == config.model.length


def write_wav(path, rate=8000):
    files.write(path, np.zeros((100, 1)), rate)
    return path


def wrong_folder(folder, case):
    """Makes a folder of audio with one error and returns its name."""
    path = folder / case
    path.mkdir(exist_ok=True)
    if case == "text":
        (path / "a.wav").write_text("this is no sound")
    elif case == "zero":
        (path / "a.wav").write_bytes(b"")
    elif case == "rate":
        data = bytearray(write_wav(path / "a.wav").read_bytes())
        data[24:28] = bytes(4)
        (path / "a.wav").write_bytes(bytes(data))
    return case


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: (train, arguments(f, data="nowhere", out="x")), "nowhere"),
        (lambda f: (train, arguments(f, data=wrong_folder(f, "empty"), out="x")), "no usable sound file"),
        (lambda f: (train, arguments(f, data=wrong_folder(f, "text"), out="x")), "a.wav"),
        (lambda f: (train, arguments(f, data=wrong_folder(f, "zero"), out="x")), "a.wav"),
        (lambda f: (train, arguments(f, data=wrong_folder(f, "rate"), out="x")), "a.wav"),
        (lambda f: (train, arguments(f, "--data.sample-rate", "0", out="x")), "sample_rate is 0"),
        (lambda f: (train, arguments(f, "--optimizer.learning-rat", "1", out="x")), "--optimizer.learning-rate?"),
        (lambda f: (train, arguments(f, "--model.unet.channels", "18", out="x")), "18 do not divide"),
        (lambda f: (train, arguments(f, "--model.unet.resnet-groups", "0", out="x")), "resnet_groups is 0"),
        (lambda f: (train, arguments(f, "--model.text.num-heads", "0", out="x")), "num_heads is 0"),
        (lambda f: (train, arguments(f, "--model.transform.stride", "0", out="x")), "stride is 0"),
        (lambda f: (train, arguments(f, "--model.text.cond-drop-prob", "2", out="x")), "cond_drop_prob is 2"),
        (lambda f: (train, arguments(f, "--model.unet.channels", "24")), "other settings"),
        (lambda f: (train, arguments(f, out="/proc/x")), "/proc/x"),
        (lambda f: (sample, ["generate", "--model", str(f / "empty"), "--out", str(f / "y")]), "is not complete in"),
        (
            lambda f: (sample, ["generate", "--model", str(f / "run"), "--prompt", "a", "--num-steps", "-1",
                                "--out", str(f / "y")]),
            "num_steps must be at least 1, not -1",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_wrong_input_is_one_sentence_and_no_traceback(folder, make, words, capfd):
    (folder / "empty").mkdir(exist_ok=True)
    program, argv = make(folder)
    capfd.readouterr()
    assert program(argv) == 2
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    # Skipped files and the indexing bar can come first. The reason is in the last line.
    assert words in errors
    assert errors.strip().splitlines()[-1].strip()


def test_the_tiny_model_is_the_shared_one(folder):
    assert load_config(folder / "tiny.py").model == MODEL

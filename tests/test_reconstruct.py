"""The verb reconstruct, on a tiny model with random weights."""

import functools
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from folders import traced_once  # noqa: F401
from nets import drawn

import archijax as aj
from archijax.audio import files, metrics
from archijax.configs import to_dict
from archijax.models import reconstruct
from archijax.pipeline.sounds import converted, load_sound
from archijax.pretrained import from_pretrained
from archijax.training.checkpoints import Checkpoints
from sample.__main__ import main
from sample.work import measured, sound_files

CASES = Path(__file__).parent / "cases"
LENGTH, RATE = 128, 8000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("model")
    config = aj.configs.AutoEncoderConfig(
        coder=aj.configs.CoderConfig(
            channels=8, multipliers=(1, 1), factors=(2,), num_blocks=(1,), patch_size=2, resnet_groups=4
        ),
        bottleneck=(aj.configs.TanhConfig(), aj.configs.QuantizerConfig(num_codes=8)),
        latent_channels=3,
        sample_rate=RATE,
        channels=1,
        length=LENGTH,
    )
    batch = {"audio": np.zeros((1, LENGTH, 1), np.float32)}
    variables = drawn(config.build().init, batch)
    checkpoints = Checkpoints(folder / "checkpoints")
    state = {"params": variables["params"], "ema": variables["params"], "frozen": {}, "state": variables["state"]}
    record = {"step": 7, "config": {"model": to_dict(config), "data": {"normalize": -3.0}}}
    checkpoints.save(7, state, record)
    checkpoints.close()
    return folder


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Lets the verbs share a loaded model, so that it is compiled once."""
    once = functools.cache(from_pretrained)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sample.model.from_pretrained", lambda name, **changes: once(str(name)))
        yield


def write(path, seconds, rate=RATE, channels=1, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = np.random.default_rng(seed).uniform(-0.1, 0.1, (int(seconds * rate), channels))
    soundfile.write(path, sound, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def run(model, out, *places):
    return main(["reconstruct", *map(str, places), "--model", str(model), "--out", str(out)])


def test_files_folders_and_patterns_are_reconstructed_and_measured(model, tmp_path, capsys):
    one = write(tmp_path / "one.wav", 0.05)
    write(tmp_path / "more" / "one.flac", 0.3, rate=16000, channels=2, seed=1)
    write(tmp_path / "more" / "deep" / "two.wav", 0.001, seed=2)
    (tmp_path / "more" / "notes.txt").write_text("no sound")
    assert run(model, tmp_path / "out", one, tmp_path / "more", tmp_path / "*.wav") == 0
    said = capsys.readouterr().out
    lengths = {path.name: files.info(path).frames for path in (tmp_path / "out").glob("*.wav")}
    assert lengths == {"one.wav": 400, "one-2.wav": 2400, "two.wav": 8}
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    assert all(files.info(path).sample_rate == RATE for path in (tmp_path / "out").glob("*.wav"))

    made, sound = files.read(tmp_path / "out" / "one.wav"), files.read(one)
    assert np.abs(made).max() < 1  # Otherwise, the file would be clipped, but the figures would not.
    assert f"SI-SDR {metrics.si_sdr(made[None], sound[None])[0]:.2f} dB" in said
    assert "mean of 3 sounds: SI-SDR" in said


def test_silence_has_no_ratio_and_leaves_the_mean_a_number(model, tmp_path, capsys):
    shutil.copy(CASES / "silent.wav", tmp_path / "silent.wav")
    loud = [write(tmp_path / f"{seed}.wav", 0.05, seed=seed) for seed in (1, 2)]
    assert run(model, tmp_path / "out", *loud, tmp_path / "silent.wav") == 0
    said = capsys.readouterr().out
    assert "nan" not in said.lower()
    record = json.loads(files.info(tmp_path / "out" / "silent.wav").tags["comment"], parse_constant=pytest.fail)
    assert record["figures"].keys() == {"log-spectral distance", "STFT distance"}
    ratios = [json.loads(files.info(tmp_path / "out" / f"{seed}.wav").tags["comment"])["figures"] for seed in (1, 2)]
    mean = np.mean([each["SI-SDR"] for each in ratios])
    assert f"mean of 3 sounds: SI-SDR {mean:.2f} dB" in said
    # Existing results are recognized.
    assert run(model, tmp_path / "out", tmp_path / "silent.wav") == 0
    assert "skipped" in capsys.readouterr().err


def test_results_are_not_read_again(model, tmp_path, capsys):
    write(tmp_path / "songs" / "one.wav", 0.05)
    for _ in range(2):
        assert run(model, tmp_path / "songs" / "out", tmp_path / "songs") == 0
    assert [path.name for path in (tmp_path / "songs" / "out").glob("*.wav")] == ["one.wav"]
    # A named file is read in any folder.
    assert sound_files((tmp_path / "songs" / "out" / "one.wav",), out=tmp_path / "songs" / "out")


@pytest.mark.parametrize("letter", ["a", "ж", "字"])
def test_names_of_any_length_and_bytes(model, tmp_path, letter):
    longest = letter * (244 // len(letter.encode()))
    for name in (longest + ".wav", longest[:-1] + "b.wav"):
        write(tmp_path / "songs" / name, 0.02)
    odd = os.fsdecode(b"odd \xff name.wav")
    write(tmp_path / "songs" / "x.wav", 0.02).rename(tmp_path / "songs" / odd)
    assert run(model, tmp_path / "out", tmp_path / "songs") == 0
    names = sorted(path.name for path in (tmp_path / "out").glob("*.wav"))
    assert len(names) == 3
    assert odd in names
    assert all(name.startswith(letter * 20) and len(name.encode()) < 200 for name in names if name != odd)


def test_surround_sound_is_mixed_by_the_standard(model, tmp_path):
    recording = load_sound(CASES / "only_centre_5_1.wav")
    assert recording.layout == ("FL", "FR", "FC", "LFE", "BL", "BR")
    np.testing.assert_allclose(converted(recording, RATE, 1)[:, 0], recording.sound[:, 2] * 0.5**0.5, atol=1e-6)
    np.testing.assert_allclose(
        converted(recording, RATE // 2, 2),
        files.read(CASES / "only_centre_5_1.wav", channels=2, sample_rate=RATE // 2),
        atol=1e-5,
    )


def test_a_sound_of_one_part_is_what_the_model_makes_of_it(model):
    pipeline = from_pretrained(model)
    # The sound has the loudness of the training sounds, so that it is not scaled.
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (LENGTH, 1)).astype(np.float32)
    sound *= pipeline.gain(sound)
    expected = jax.jit(lambda variables, audio: reconstruct(pipeline.model, variables, audio))(
        pipeline.variables, jnp.asarray(sound)[None]
    )
    made, rate = pipeline.reconstruct(sound, sample_rate=RATE)
    assert rate == RATE
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_long_sounds_are_measured_by_pieces(monkeypatch):
    sound = np.random.default_rng(0).normal(0, 0.1, (40000, 2)).astype(np.float32)
    made = sound + np.random.default_rng(1).normal(0, 0.01, sound.shape).astype(np.float32)
    whole = measured(made, sound)
    monkeypatch.setattr("sample.work.PIECE", 2**14)
    pieces = measured(made, sound)
    assert pieces["SI-SDR"] == pytest.approx(metrics.si_sdr(made[None], sound[None])[0], abs=1e-6)
    for name, value in whole.items():
        assert pieces[name] == pytest.approx(value, rel=0.15)


def test_bad_input_is_told_in_one_sentence(model, tmp_path, capsys):
    def fails(message, *places, model=model):
        assert run(model, tmp_path / "out", *places) == 2
        said = capsys.readouterr().err
        assert message in said
        assert "Traceback" not in said

    fails("There is no sound file", tmp_path / "absent.wav")
    fails("There is no sound file", tmp_path)
    (tmp_path / "empty.wav").touch()
    fails("it has 0 bytes", tmp_path / "empty.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), RATE, subtype="FLOAT")
    good = write(tmp_path / "good.wav", 0.02)
    fails("1 of 2 files could not be read", tmp_path / "nan.wav", good)
    fails("There is no input")
    assert (tmp_path / "out" / "good.wav").exists()
    assert main(["generate", "--model", str(model), "--out", str(tmp_path / "out")]) == 2
    assert "this needs a model that generates sound, but this model is of kind 'autoencoder'" in capsys.readouterr().err


def test_a_file_named_twice_is_one(tmp_path):
    one = write(tmp_path / "a.wav", 0.01)
    assert sound_files((one, tmp_path, tmp_path / "*")) == [one]

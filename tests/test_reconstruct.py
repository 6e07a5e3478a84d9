"""The verb reconstruct, on a tiny model with random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

import archijax as aj
from archijax import metrics
from archijax.audio import files
from archijax.checkpoints import Checkpoints
from archijax.config import to_dict
from sample.__main__ import main
from sample.model import Loaded, load
from sample.reconstruct import coder, sound_files

LENGTH, RATE = 128, 8000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run's folder as training leaves it."""
    folder = tmp_path_factory.mktemp("model")
    config = aj.AutoEncoderConfig(
        aj.CoderConfig(channels=8, multipliers=(1, 1), factors=(2,), num_blocks=(1,), patch_size=2, resnet_groups=4),
        aj.BottleneckConfig(("tanh", "quantizer"), channels=3, num_codes=8),
        sample_rate=RATE,
        channels=1,
        length=LENGTH,
    )
    batch = {"audio": np.zeros((1, LENGTH, 1), np.float32)}
    variables = jax.device_get(config.build().init(jax.random.key(1), batch))
    checkpoints = Checkpoints(folder / "checkpoints")
    state = {"params": variables["params"], "ema": variables["params"], "frozen": {}, "state": variables["state"]}
    record = {"step": 7, "config": {"model": to_dict(config), "data": {"normalize": -20.0}}}
    checkpoints.save(7, state, record)
    checkpoints.close()
    return folder


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
    assert np.abs(made).max() < 1  # Else it would be clipped in the file, and be measured unclipped.
    assert f"SI-SDR {metrics.si_sdr(made[None], sound[None])[0]:.2f} dB" in said
    assert "mean of 3 sounds: SI-SDR" in said


def test_long_sounds_are_coded_by_parts_that_fade_into_each_other(model):
    loaded = load(model, ("autoencoder",))

    class Same:
        def reconstruct(self, variables, audio):
            assert audio.shape == (4, LENGTH, 1)
            return audio

    same = coder(Loaded(loaded.config, Same(), {}, None, loaded.facts), batch_size=4)
    for length in (1, LENGTH - 1, LENGTH, LENGTH + 1, 7 * LENGTH + 3):
        sound = np.random.default_rng(length).uniform(-0.5, 0.5, (length, 1)).astype(np.float32)
        np.testing.assert_allclose(same(sound), sound, atol=1e-6)

    # A sound of one part is what the model makes of it, at the loudness it was trained for.
    plain = Loaded(loaded.config, loaded.model, loaded.variables, None)
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (LENGTH, 1)).astype(np.float32)
    expected = jax.jit(loaded.model.reconstruct)(loaded.variables, jnp.asarray(sound)[None])[0]
    np.testing.assert_allclose(coder(plain, batch_size=1)(sound), expected, atol=1e-5)
    code = coder(loaded, batch_size=1)
    np.testing.assert_allclose(code(sound), code(sound * 2) / 2, atol=1e-5)


def test_there_is_no_seam_where_parts_meet(model):
    """A part that comes out scaled by its number changes over slowly, not at a seam."""
    loaded = load(model, ("autoencoder",))

    class Stairs:
        def reconstruct(self, variables, audio):
            return audio * jnp.arange(1.0, 5.0)[:, None, None]

    made = coder(Loaded(loaded.config, Stairs(), {}, None), batch_size=4)(np.ones((4 * LENGTH, 1), np.float32) * 0.1)
    assert np.abs(np.diff(made[: 3 * LENGTH, 0])).max() < 0.1 / (LENGTH // 8)


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
    assert (tmp_path / "out" / "good.wav").exists()
    assert main(["generate", "--model", str(model), "--out", str(tmp_path / "out")]) == 2
    assert "holds a model of kind 'autoencoder': 'diffusion' is needed" in capsys.readouterr().err


def test_a_file_named_twice_is_one(tmp_path):
    one = write(tmp_path / "a.wav", 0.01)
    assert sound_files((one, tmp_path, tmp_path / "*")) == [one]

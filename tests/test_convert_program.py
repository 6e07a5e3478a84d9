"""python -m archijax.convert with weights of the originals."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from folders import traced_once  # noqa: F401
from safetensors.numpy import load_file, save_file

import archijax as aj
from archijax.configs import to_dict
from archijax.convert.__main__ import main
from archijax.convert.state import find, read_state
from archijax.convert.table import Entry
from archijax.pretrained import from_pretrained

GOLDEN = Path(__file__).parent / "golden"
UNET = aj.configs.UNetConfig(
    channels=(8, 16), factors=(1, 4), items=(1, 1), attentions=(0, 1),
    attention_heads=2, attention_features=8, modulation_features=32,
)  # fmt: skip
DIFFUSION = aj.configs.DiffusionConfig(UNET, length=64)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model": to_dict(DIFFUSION)}))
    return path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_the_originals_weights_become_a_model_folder_and_a_state_dict_again(config, tmp_path, capsys):
    weights = GOLDEN / "v_diffusion" / "weights.safetensors"
    assert run(weights, tmp_path / "model", "--config", config) == 0
    said = capsys.readouterr().err
    assert "recognised a model of kind diffusion: 0.02024 million parameters in 219 tensors" in said
    tensors, case = (load_file(GOLDEN / "v_diffusion" / f"{name}.safetensors") for name in ("weights", "io"))
    loaded = from_pretrained(tmp_path / "model")
    noise = np.moveaxis(case["noise"], 1, -1)

    @jax.jit
    def sample(variables, noise):
        return loaded.model.sample(variables, jax.random.key(0), shape=noise.shape, noise=noise, num_steps=10)

    sound = sample(loaded.variables, noise)
    wanted = np.moveaxis(case["sample10"], 1, -1)
    assert np.linalg.norm(sound - wanted) / np.linalg.norm(wanted) < 1e-5
    assert run(tmp_path / "model", tmp_path / "back.safetensors") == 0
    equal(load_file(tmp_path / "back.safetensors"), tensors)


@pytest.mark.parametrize("kind", ["trainer", "net alone", "one copy", "text plugin"])
def test_names_are_found_behind_what_stands_around_them(config, tmp_path, capsys, kind):
    weights = load_file(GOLDEN / "v_diffusion" / "weights.safetensors")
    net = {name.removeprefix("net."): array for name, array in weights.items() if name.startswith("net.")}
    worse = {f"model.{name}": array + 1 for name, array in weights.items()}
    state = {
        "trainer": {**worse, **{f"model_ema.ema_model.{name}": array for name, array in weights.items()},
                    "model_ema.step": np.ones(1, np.float32)},
        "net alone": net,
        "one copy": {f"net.{name}": array for name, array in net.items()},
        "text plugin": {
            **{f"net.blocks.1.{name}": array for name, array in net.items()},
            "net.blocks.0.transformer.encoder.final_layer_norm.weight": np.ones(4, np.float32),
        },
    }[kind]  # fmt: skip
    save_file(state, tmp_path / "state.safetensors")
    assert run(tmp_path / "state.safetensors", tmp_path / "model", "--config", config) == 0
    said = capsys.readouterr().err
    assert {
        "trainer": "the prefix 'model_ema.ema_model.', the moving average",
        "net alone": "recognised",
        "one copy": "in 73 tensors",
        "text plugin": "its T5 (1 tensors)",
    }[kind] in said
    assert run(tmp_path / "model", tmp_path / "back.safetensors") == 0
    equal(load_file(tmp_path / "back.safetensors"), weights)


def archisound(folder, **changes):
    """A folder in the layout of archisound's autoencoders."""
    case = json.loads((GOLDEN / "autoencoder_tanh" / "case.json").read_text())["args"]
    folder.mkdir()
    settings = {name: value for name, value in case.items() if name not in ("bottleneck_args", "out_channels")}
    settings |= {"model_type": "archinetai/autoencoder1d-AT-v1", "architectures": ["AutoEncoder1d"], **changes}
    (folder / "config.json").write_text(json.dumps(settings))
    weights = load_file(GOLDEN / "autoencoder_tanh" / "weights.safetensors")
    save_file({f"autoencoder.{name}": array for name, array in weights.items()}, folder / "model.safetensors")
    return folder


def test_an_archisound_autoencoder_needs_no_configuration(tmp_path, capsys):
    assert run(archisound(tmp_path / "hub"), tmp_path / "model") == 0
    assert "its names have the prefix 'autoencoder.'" in capsys.readouterr().err
    loaded, case = from_pretrained(tmp_path / "model"), load_file(GOLDEN / "autoencoder_tanh" / "io.safetensors")
    latent, _ = jax.jit(loaded.model.encode)(loaded.variables, np.moveaxis(case["x"], 1, -1))
    wanted = np.moveaxis(case["latent"], 1, -1)
    assert np.linalg.norm(latent - wanted) / np.linalg.norm(wanted) < 1e-5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bottleneck": "odd"}, "has the bottleneck 'odd'"),
        ({"channels": "many"}, "settings of another type"),
        ({"channels": 16}, "but the net needs floats of shape"),
        ({"num_blocks": [1, 3]}, "missing"),
        ({"patch_size": None, "model_type": "archinetai/dmae1d-ATC64-v2", "factors": None}, "of another type"),
    ],
)
def test_archisound_settings_that_do_not_fit_are_one_sentence(tmp_path, capsys, changes, words):
    assert run(archisound(tmp_path / "hub", **changes), tmp_path / "model") == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_another_layout_of_archisound_is_said(tmp_path, capsys):
    folder = archisound(tmp_path / "hub")
    (folder / "config.json").write_text(json.dumps({"model_type": "archinetai/dmae1d-ATC64-v2"}))
    assert run(folder, tmp_path / "model") == 2
    assert (
        "'archinetai/dmae1d-ATC64-v2', whose layout is unknown: describe the model with --config"
        in capsys.readouterr().err
    )


def test_files_that_are_not_weights_are_one_sentence(config, tmp_path, capsys):
    weights = GOLDEN / "v_diffusion" / "weights.safetensors"
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n")
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:2000])
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "model.ckpt").write_bytes(b"PK")
    save_file({"stranger.weight": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    cases = {
        "pickle.safetensors": "not a complete safetensors file",
        "cut.safetensors": "not a complete safetensors file",
        "notes.txt": "has an unknown suffix",
        "model.ckpt": "PyTorch" if not _has_torch() else "cannot be read as weights alone",
        "other.safetensors": "none of the 1 tensors (stranger.weight ...) has a name of this model",
        "absent.safetensors": "neither a file nor a folder",
    }
    for name, words in cases.items():
        assert run(tmp_path / name, tmp_path / "model", "--config", config) == 2
        said = capsys.readouterr().err
        assert words in said, name
        assert said.count("\n") == 1
    assert run(tmp_path / "absent", tmp_path / "model") == 2
    assert "neither a file nor a folder" in capsys.readouterr().err
    assert run(weights, tmp_path / "model") == 2
    assert "describe it with --config" in capsys.readouterr().err
    assert run(weights, tmp_path / "model", "--config", tmp_path / "notes.txt") == 2
    assert "notes.txt is not a Python file" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_copies_that_differ_are_refused(tmp_path, config, capsys):
    state = load_file(GOLDEN / "v_diffusion" / "weights.safetensors")
    name = next(name for name in sorted(state) if name.startswith("sampler."))
    save_file({**state, name: state[name] + 1}, tmp_path / "state.safetensors")
    assert run(tmp_path / "state.safetensors", tmp_path / "model", "--config", config) == 2
    assert f"{name} differs from net." in capsys.readouterr().err


def test_the_prefix_that_covers_most_names_wins():
    table = [Entry(("a",), ("first.weight",)), Entry(("b",), ("second.weight",))]
    state = {"x.first.weight": np.zeros(1), "y.first.weight": np.ones(1), "y.second.weight": np.ones(1)}
    _, found = find([table], state)
    assert (found.prefix, found.ignored) == ("y.", ("x.first.weight",))


def test_floats_of_less_bits_become_float32(tmp_path):
    save_file({"a": np.ones(3, np.float16), "n": np.arange(3)}, tmp_path / "half.safetensors")
    state = read_state(tmp_path / "half.safetensors")
    assert (state["a"].dtype, state["n"].dtype) == (np.float32, np.int64)


def _has_torch():
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True

"""Parity with arrays computed by the PyTorch originals: all calls of all cases in the folder ARCHIJAX_GOLDEN."""

import os
from pathlib import Path

import golden_cases
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

FOLDER = Path(os.environ.get("ARCHIJAX_GOLDEN", Path(__file__).parent / "golden"))
CASES = sorted(path.parent for path in FOLDER.glob("*/case.json"))


def relative_error(ours: np.ndarray, theirs: np.ndarray, wrap=lambda difference: difference) -> float:
    assert ours.shape == theirs.shape, f"shape {ours.shape}, the original's is {theirs.shape}"
    return float(np.linalg.norm(wrap(ours - theirs)) / np.linalg.norm(theirs))


def test_the_folder_has_cases():
    assert CASES, f"no case.json in {FOLDER}"


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
def test_outputs_equal_the_original(folder):
    case, tensors, built = golden_cases.build(folder)
    if "num_params" in case:
        assert sum(p.size for p in jax.tree.leaves(built.params)) + built.folded == case["num_params"]
    for call in case["calls"]:
        draws = [tensors[name] for name in call["draws"]]
        inputs = golden_cases.resolve(call["inputs"], tensors)
        compiled = jax.jit(lambda inputs, draws, call=call: built.calls[call["method"]](inputs, call["kwargs"], draws))
        outputs = compiled(inputs, draws)
        assert len(outputs) == len(call["outputs"])
        for name, output in zip(call["outputs"], outputs, strict=True):
            wrap = {"wrap": built.phases[name]} if name in built.phases else {}
            assert relative_error(output, tensors[name], **wrap) <= 1e-5, f"{call['method']}: {name}"


@pytest.mark.parametrize("folder", [f for f in CASES if (f / "weights.safetensors").exists()], ids=lambda p: p.name)
def test_weights_convert_there_and_back(folder):
    _, _, built = golden_cases.build(folder)
    state = load_file(folder / "weights.safetensors")
    back = built.to_torch(built.params)
    assert back.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)

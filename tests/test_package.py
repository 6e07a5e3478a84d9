"""What a user meets first: the import, and the examples of the README."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


def test_the_import_needs_jax_flax_and_numpy_alone():
    heavy = (
        "grain",
        "soundfile",
        "transformers",
        "tyro",
        "orbax",
        "matplotlib",
        "safetensors",
        "soxr",
        "pyloudnorm",
        "optax",
        "torch",
        "gradio",
    )
    code = f"import archijax, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    # Flax itself imports some of them; what counts is what archijax adds.
    code = f"import flax.linen, sys; print([name for name in {heavy} if name in sys.modules])"
    flax = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == flax.stdout
    for name in ("grain", "soundfile", "transformers", "tyro", "gradio"):
        assert f"'{name}'" not in done.stdout


def test_all_names_exist():
    import archijax

    assert all(getattr(archijax, name) is not None for name in archijax.__all__)
    assert len(set(archijax.__all__)) == len(archijax.__all__)


@pytest.mark.slow
@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_the_examples_of_the_readme_run(snippet, tmp_path):
    code = f"import jax\njax.config.update('jax_platforms', 'cpu')\n{snippet}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_readme_has_examples():
    assert SNIPPETS

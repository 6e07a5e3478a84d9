"""What a user meets first: the import, and the examples of the README."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


def test_the_import_needs_jax_flax_numpy_and_jaxtyping_alone():
    def imported(names):
        code = f"import sys, {names}; print(*{{name.partition('.')[0] for name in sys.modules}})"
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
        return set(done.stdout.split()) - sys.stdlib_module_names

    # These packages import others themselves; jaxtyping imports wadler_lindig when the first annotation is evaluated.
    assert imported("archijax") - imported("jax, flax.linen, numpy, jaxtyping, wadler_lindig") == {"archijax"}
    # Beartype checks the annotations in the tests, and nowhere else.
    assert "beartype" not in imported("archijax")


def test_all_names_exist():
    import archijax

    assert [name for name in archijax.__all__ if not hasattr(archijax, name)] == []
    assert len(set(archijax.__all__)) == len(archijax.__all__)


@pytest.mark.slow
@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_the_examples_of_the_readme_run(snippet, tmp_path):
    code = f"import jax\njax.config.update('jax_platforms', 'cpu')\n{snippet}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_readme_has_examples():
    assert SNIPPETS

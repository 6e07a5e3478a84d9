"""The import of the package."""

import subprocess
import sys


def test_the_import_needs_jax_flax_numpy_and_jaxtyping_alone():
    def imported(names):
        code = f"import sys, {names}; print(*{{name.partition('.')[0] for name in sys.modules}})"
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
        return set(done.stdout.split()) - sys.stdlib_module_names

    # These packages import other packages. jaxtyping imports wadler_lindig when it evaluates the first annotation.
    assert imported("archijax") - imported("jax, flax.linen, numpy, jaxtyping, wadler_lindig") == {"archijax"}
    # Beartype checks the annotations only in the tests.
    assert "beartype" not in imported("archijax")


def test_all_names_exist():
    import archijax

    assert [name for name in archijax.__all__ if not hasattr(archijax, name)] == []
    assert len(set(archijax.__all__)) == len(archijax.__all__)

"""What a user meets first: the import."""

import subprocess
import sys


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

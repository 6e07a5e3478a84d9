"""Every test runs with strict dtype promotion, warnings as errors and eight virtual CPU devices."""

import atexit
import gc
import os
import shutil
import tempfile
from importlib.metadata import version

# Compiling is what tests cost: programs that run once need not be fast. In one part each they compile in a fifth less
# time: both cores have tests of their own to compile.
FLAGS = [
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
# XLA ends the process at a flag that it does not know. Up to jaxlib 0.10 its older emitters compile small programs in
# half the time; later ones no longer have them.
if tuple(map(int, version("jaxlib").split(".")[:2])) <= (0, 10):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS]).strip()
os.environ["JAX_PLATFORMS"] = "cpu"
# What one test has compiled, another, or a process that it starts, need not compile again.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="archijax-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402
from beartype import BeartypeConf, beartype  # noqa: E402

# Beartype checks the annotated types and shapes of these packages at every call of a test. The state of a training is
# not checked, because JAX also fills it with shapes and shardings.
CHECKED = (
    "archijax.audio",
    "archijax.codecs",
    "archijax.configs",
    "archijax.diffusion",
    "archijax.models",
    "archijax.nn",
    "archijax.pipeline",
    "archijax.sampling",
    *(f"archijax.training.{name}" for name in ("compiling", "lora", "losses", "mesh", "optimizer", "pmap", "step")),
)
check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as in PEP 484
jaxtyping.install_import_hook(CHECKED, "conftest.check")

jax.config.update("jax_numpy_dtype_promotion", "strict")
# Tracing makes many objects and few cycles: looking for those in all that JAX keeps takes a twentieth of the time.
gc.disable()


# Canaries say when XLA or JAX changes below the library. They know the programs of these releases alone.
CANARIES = ("0.10", "0.12")


def pytest_collection_modifyitems(items):
    release = ".".join(jax.__version__.split(".")[:2])
    if release in CANARIES:
        return
    skip = pytest.mark.skip(reason=f"a canary for JAX {' and '.join(CANARIES)}, not {release}")
    for item in items:
        if item.get_closest_marker("canary"):
            item.add_marker(skip)


@pytest.fixture
def unchecked():
    """Turns the checks of annotations off, for a test of the errors that a user gets without them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module", autouse=True)
def _forgetful():
    """Frees what a file's tests have compiled: with each program that JAX keeps the next is slower to lower."""
    yield
    jax.clear_caches()
    gc.collect()

"""Every test runs with strict dtype promotion, warnings as errors and eight virtual CPU devices."""

import atexit
import gc
import os
import shutil
import tempfile
from importlib.metadata import version

# Tests spend most of their time in compilation, and run each program once. The programs are thus compiled without
# optimizations. Compiling each program in one part takes a fifth less time, because both cores compile other tests
# anyway.
FLAGS = [
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
# XLA ends the process if it does not know a flag. Up to jaxlib 0.10, older emitters compile small programs in half the
# time. Later versions no longer have these emitters.
if tuple(map(int, version("jaxlib").split(".")[:2])) <= (0, 10):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS]).strip()
os.environ["JAX_PLATFORMS"] = "cpu"
# Locations in Python make programs larger. Nothing here reads them, and without them all tests take a twentieth less.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
# The tests of a worker, and processes that these tests start, share a cache of compiled programs. A cache of both
# workers would be wrong: one of them could read what the other has half written.
_CACHE = tempfile.mkdtemp(prefix="archijax-compiled-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402
from beartype import BeartypeConf, beartype  # noqa: E402

# Beartype checks the annotated types and shapes of these packages at every call of a test. The state of a training is
# not checked, because JAX also fills it with shapes and shardings. Settings are not, because they check their values.
_PIPELINE = "coding driver editing endless generation latents loaded parts pipeline sounds"
_TRAINING = "compiling lora losses mesh optimizer pmap step"
CHECKED = (
    "archijax.audio",
    "archijax.codecs",
    "archijax.diffusion",
    "archijax.keys",
    "archijax.models",
    "archijax.nn",
    *(f"archijax.pipeline.{name}" for name in _PIPELINE.split()),
    "archijax.sampling",
    *(f"archijax.training.{name}" for name in _TRAINING.split()),
)
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as in PEP 484


def check(function):
    """Checks a function or a class. Inner functions are made again at every call, and their checks would be too."""
    return function if "<locals>" in function.__qualname__ else _beartype(function)


jaxtyping.install_import_hook(CHECKED, "conftest.check")

jax.config.update("jax_numpy_dtype_promotion", "strict")
# Tracing makes many objects but few cycles. Garbage collection would take a twentieth of the time.
gc.disable()


# Canaries detect changes in XLA or JAX. They expect the programs of these releases.
CANARIES = ("0.10", "0.12")


def pytest_configure(config):
    # Fast tests hardly compile a program twice, and the keys of a cache take time.
    if config.option.markexpr == "not slow":
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        jax.config.update("jax_enable_compilation_cache", False)


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
    """Turns the checks of annotations off, to test the errors that users get without these checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module", autouse=True)
def _forgetful():
    """Frees the compiled programs of a test file, because lowering gets slower with each program that JAX keeps."""
    yield
    jax.clear_caches()
    gc.collect()
    # What is left belongs to modules. The next collection need not look at it.
    gc.freeze()

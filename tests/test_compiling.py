import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from archijax.training.compiling import compiling

ROOT = Path(__file__).parent.parent
PROGRAM = """
import atexit, time
import jax
from archijax.training.compiling import compiling, leave

class Slow:
    def lower(self):
        return self

    def compile(self, compiler_options):
        time.sleep({seconds})

atexit.register(print, "ends as ever")
compiled = compiling(Slow(), jax.devices())
if {waits}:
    compiled()
print("told")
leave(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "waits", "said"), [(600, False, ["told"]), (0, True, ["told", "ends as ever"])])
def test_an_error_waits_for_no_compiler(seconds, waits, said):
    program = PROGRAM.format(seconds=seconds, waits=waits)
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 3
    assert done.stdout.split("\n")[:-1] == said


def test_a_step_is_compiled_for_shapes_with_the_errors_of_its_tracing_at_once():
    compiled = compiling(jax.jit(lambda x: x + 1), jax.devices(), jax.ShapeDtypeStruct((2,), jnp.float32))()
    assert compiled(jnp.ones(2)).tolist() == [2, 2]
    with pytest.raises(TypeError):
        compiling(jax.jit(lambda x: x + jnp.ones(3)), jax.devices(), jax.ShapeDtypeStruct((2,), jnp.float32))

"""Two processes train together. If one is killed, the other stops. After a new start, both continue."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from test_train import ROOT, command, forget_the_toy, lines, setting  # noqa: F401

from archijax.errors import InputError
from archijax.training.checkpoints import restore_weights, steps
from train import hosts
from train.__main__ import main


def start(setting, out, *overrides):  # noqa: F811
    """Starts two processes with four devices each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")
    return [
        subprocess.Popen(
            [
                sys.executable, "-m", "train", *command(setting, out, *overrides),
                "--coordinator", address, "--processes", "2", "--process", str(number),
            ],
            cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip


def ends(processes):
    try:
        errors = [process.communicate(timeout=100)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], errors


@pytest.mark.slow
def test_a_kill_while_saving_is_resumed_to_the_bit_and_two_processes_agree_with_one(setting, tmp_path):  # noqa: F811
    overrides = ["--parallel", "mesh", "--fsdp", "8", "--checkpoint-every", "5", "--log-every", "1"]
    out = tmp_path / "struck"
    processes = start(setting, out, "--steps", "100000", *overrides)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and processes[1].poll() is None:
        if len(lines(out)) > 12 and any((out / "checkpoints").glob("*tmp*")):
            break
        time.sleep(0.0005)
    processes[1].send_signal(signal.SIGKILL)
    codes, errors = ends(processes)
    # JAX can detect the lost process before the step does. It then ends the process itself.
    assert codes[0] in (hosts.LOST, -signal.SIGABRT), errors[0]
    assert "has lost another one" in errors[0] or "another task died" in errors[0]
    # The kill can have damaged the checkpoint of step 10.
    reached = steps(out / "checkpoints")[-1]
    assert reached >= 5
    total = str(reached + 7)
    for name, began in ("calm", "compiling"), ("struck", f"continuing at step {reached}"):
        codes, errors = ends(start(setting, tmp_path / name, "--steps", total, *overrides))
        assert codes == [0, 0], errors
        assert began in errors[0]
        assert "step" not in errors[1]
    parts = ("step", "skipped", "params", "ema", "opt_state", "state")
    struck, calm = (restore_weights(tmp_path / name, parts=parts) for name in ("struck", "calm"))
    jax.tree.map(np.testing.assert_array_equal, struck[1], calm[1])
    assert struck[0] == calm[0]
    assert lines(out) == lines(tmp_path / "calm")

    # Two processes continue in another mode, and agree with one process.
    total = str(reached + 12)
    codes, errors = ends(start(setting, tmp_path / "calm", "--steps", total, "--log-every", "1"))
    assert codes == [0, 0], errors
    assert main(command(setting, tmp_path / "one", "--steps", total, *overrides)) == 0
    parts = ("params", "ema", "opt_state")
    two, one = (restore_weights(tmp_path / name, parts=parts)[1] for name in ("calm", "one"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), two, one)
    logs = [[json.loads(line) for line in lines(tmp_path / name)] for name in ("calm", "one")]
    for two, one in zip(*logs, strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-5)


# A program for two processes: process 1 exits during a computation, and process 0 reports the error.
LEFT = """
import os, sys
import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from train import hosts

hosts.join(sys.argv[1], 2, int(sys.argv[2]))
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
whole = jax.make_array_from_callback((2,), NamedSharding(mesh, PartitionSpec("data")), lambda index: jax.numpy.ones(1))
add = jax.jit(lambda array: array.sum())
for count in range(10_000):
    if count == 20 and jax.process_index() == 1:
        os._exit(0)
    try:
        add(whole).block_until_ready()
    except Exception as error:
        print(hosts.is_lost(error))
        hosts.give_up(error)
"""


@pytest.mark.slow
def test_the_installed_runtimes_error_of_a_lost_process_is_known():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    first, other = (
        subprocess.Popen(
            [sys.executable, "-c", LEFT, address, number], cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in "01"
    )  # fmt: skip
    out, error = first.communicate(timeout=100)
    other.communicate(timeout=100)
    assert out.splitlines()[-1] == "True", error
    assert first.returncode == hosts.LOST
    assert "has lost another one" in error


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (jax.errors.JaxRuntimeError("UNAVAILABLE: the following tasks are unhealthy"), True),
        (TimeoutError("a barrier"), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), False),
        (jax.errors.JaxRuntimeError("INVALID_ARGUMENT: a Socket of the wrong shape"), False),
        (ValueError("a Connection of UNKNOWN width"), False),
        (KeyError("UNKNOWN: a name"), False),
    ],
)
def test_an_error_of_this_process_is_not_a_lost_one(error, lost):
    assert hosts.is_lost(error) == lost


def test_processes_that_are_not_told_of_each_other_are_wrong_input():
    with pytest.raises(InputError, match="process is 2, but must be at least 0 and below processes, which is 2"):
        hosts.join("127.0.0.1:1", 2, 2)

"""Checkpoints of several processes: each writes and reads its shards, on any topology, in little memory."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from pods import differs, make, shapes_of

from archijax.training import Checkpoints, MeshParallel, Pmap
from archijax.training.checkpoints import restore_weights, steps

HERE = Path(__file__).parent


def two(action, folder, megabytes=16):
    """Runs two processes with one device each. Returns their exit statuses and outputs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    processes = [
        subprocess.Popen(
            [sys.executable, HERE / "pods.py", address, str(number), folder, action, str(megabytes)],
            env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(HERE.parent)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    try:
        texts = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    said = [[json.loads(line) for line in out.splitlines() if line.startswith("{")] for out, _ in texts]
    return [process.returncode for process in processes], said, [error for _, error in texts]


def same(saved, expected):
    assert jax.tree.structure(saved) == jax.tree.structure(expected)
    return not any(jax.tree.leaves(jax.tree.map(differs, saved, expected)))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts the memory")
def test_a_process_needs_little_more_than_its_half_and_a_kill_while_saving_loses_nothing(tmp_path):
    codes, said, errors = two("kill", tmp_path, 256)
    assert codes[1] == -9, errors
    assert max(lines[0]["save"] for lines in said) < 0.75
    assert steps(tmp_path) == [2]
    codes, said, errors = two("restore", tmp_path, 256)
    assert codes == [0, 0], errors
    assert max(line["restore"] for (line,) in said) < 0.75
    assert [(line["step"], line["different"]) for (line,) in said] == [(2, 0), (2, 0)]


@pytest.mark.slow
def test_checkpoints_of_two_processes_are_those_of_eight_devices_and_damage_to_one_is_damage_to_both(tmp_path):
    checkpoints, mesh = Checkpoints(tmp_path), MeshParallel(8, fsdp=8)
    checkpoints.save(1, mesh.saved(make(mesh, 16, 1)), {"step": 1})
    checkpoints.close()
    codes, _, errors = two("save", tmp_path)
    assert codes == [0, 0], errors
    checkpoints = Checkpoints(tmp_path)
    for fsdp in (8, 2, 1):
        mesh = MeshParallel(8, fsdp=fsdp)
        state, _ = checkpoints.restore(mesh.target(shapes_of(16)))
        assert same(state, make(mesh, 16, 2))
    host, _ = checkpoints.restore(Pmap(8).target(shapes_of(16)))
    whole = Pmap(8).put_state(host)
    jax.tree.map(np.testing.assert_array_equal, Pmap(8).get(whole), jax.tree.map(np.asarray, state))
    np.testing.assert_array_equal(
        restore_weights(tmp_path, parts=["ema"])[1]["ema"]["layer_0"], state["ema"]["layer_0"]
    )
    checkpoints.close()

    # The two processes skip their damaged checkpoint, and read that of the eight devices.
    path = max((tmp_path / "2" / "params").rglob("ocdbt.process_1/d/*"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    codes, said, errors = two("restore", tmp_path)
    assert codes == [0, 0], errors
    assert [(line["step"], line["different"]) for (line,) in said] == [(1, 0), (1, 0)]
    assert (tmp_path / "damaged_2").is_dir()
    assert "2 is damaged" in said[0][0]["said"]
    assert said[1][0]["said"] == ""

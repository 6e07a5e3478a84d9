"""Saves and restores checkpoints of a run: arrays and a JSON record, which Orbax writes asynchronously and atomically.

A folder of checkpoints has one folder per saved step, whose name is the number of the step. Each entry on the first
level of the saved tree, such as `params` or `opt_state`, is a part. Each part is a separate Orbax item, so sampling can
read the weights without the optimizer's state. The record lists the shape, dtype and checksum of every array. `restore`
compares shapes before it reads the arrays, and checksums afterwards. Each process writes and reads only its own shards.
"""

import contextlib
import dataclasses
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import empty_node, flatten_dict, unflatten_dict
from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from archijax.errors import InputError, listed
from archijax.training import checksums, processes

RECORD = "record"


class Checkpoints:
    """Saves and restores the checkpoints in a folder.

    A checkpoint is removed unless keep, keep_every or keep_best selects it.

        checkpoints = Checkpoints("runs/mine/checkpoints", keep=2)
        checkpoints.save(100, {"params": params}, {"seed": 0})
        checkpoints.wait()
        tree, record = checkpoints.restore({"params": params})
        checkpoints.close()

    With several processes, all processes must call every method, and must see the same folder.

    Args:
        folder: the folder of the checkpoints, which is created if it does not exist.
        keep: the number of newest checkpoints to keep.
        keep_every: if above 0, checkpoints whose step is a multiple of this number are also kept.
        keep_best: the number of checkpoints with the lowest scores that are also kept.
        say: a function that the first process calls with one sentence for each damaged checkpoint that it skips.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keep: int = 3,
        keep_every: int = 0,
        keep_best: int = 0,
        say: Callable[[str], None] = print,
    ):
        self.folder = Path(folder).absolute()
        self.say = say
        self._retention = _Retention(keep, keep_every, keep_best)
        for step in steps(self.folder) if keep_best else ():
            # An error is ignored here. `restore` notices a damaged checkpoint.
            with contextlib.suppress(Exception):
                self._retention.scores[step] = _read_record(self.folder / str(step))["score"]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._retention,
            create=False,
            cleanup_tmp_directories=True,
            multiprocessing_options=_everyone(),
        )
        processes.together(lambda: self.folder.mkdir(parents=True, exist_ok=True))
        with _disk_errors():
            self._manager = ocp.CheckpointManager(self.folder, options=options, handler_registry=_writers())

    def save(self, step: int, tree: Any, record: Mapping[str, Any], score: float | None = None) -> None:
        """Starts to write a checkpoint, and returns as soon as the arrays are copied. The caller can then donate the
        arrays.

        The folder of the checkpoint gets its final name when the checkpoint is complete. If the process dies earlier,
        the other checkpoints are unchanged.

        Args:
            step: the number of the training step, which becomes the name of the checkpoint's folder.
            tree: any pytree that Flax can serialise, such as a nested dict of arrays or a :class:`TrainState`. An array
                on the host must be equal in all processes, and the first process writes it.
            record: a dict of values that JSON can represent.
            score: the score for ``keep_best``, or None. Lower scores are better. ``keep_best`` ignores checkpoints
                without a score.

        Raises:
            OSError: this write or the previous write failed in any process.
        """
        score = score if score is not None and math.isfinite(score) else None
        self._retention.scores[step] = score
        self.wait()
        arrays = {name: _writable(leaf) for name, leaf in _flatten(tree).items()}
        sums = checksums.of_arrays(arrays)
        described = {name: [*_shape_and_dtype(leaf), sums[name]] for name, leaf in arrays.items()}
        items = {part: ocp.args.PyTreeSave(value) for part, value in _parts(arrays).items()}
        # This copies the record, because Orbax serialises it in a thread while the caller may change it.
        items[RECORD] = ocp.args.JsonSave(json.loads(json.dumps({"arrays": described, "score": score, **record})))
        with _disk_errors():
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def wait(self) -> None:
        """Waits until the last save is on disk. Raises OSError if the save failed in any process."""

        def written() -> None:
            with _disk_errors():
                self._manager.wait_until_finished()
                self._manager.check_for_errors()

        processes.together(written)

    def restore(self, target: Any) -> tuple[Any, dict] | None:
        """Reads the newest checkpoint that is complete and undamaged into the structure of `target`.

        Args:
            target: a tree like the saved tree, with leaves of the same shape and dtype. A `jax.ShapeDtypeStruct` with a
                sharding is restored as an array with this sharding. Any other leaf is restored as a numpy array.

        Returns:
            (tree, record), or None if no checkpoint is saved. The record has the additional entries "arrays" and
            "score". The folders of damaged checkpoints are renamed to `damaged_STEP`.

        Raises:
            InputError: names, shapes or dtypes differ from the saved tree, or every checkpoint is damaged.
        """
        leaves = _flatten(target)
        saved = processes.from_first(lambda: steps(self.folder))
        for step in reversed(saved):
            path = self.folder / str(step)
            try:
                record, restored = _read(path, leaves)
            except (InputError, PermissionError, MemoryError):
                raise
            except Exception as error:
                if processes.leads():
                    self.say(f"Checkpoint {path} is damaged: going back to the one before ({_reason(error)}).")
                processes.from_first(lambda path=path: _set_aside(path))
                self._manager.reload()
                continue
            full = flatten_dict(flax.serialization.to_state_dict(target), keep_empty_nodes=True, sep="/")
            tree = unflatten_dict({**full, **restored}, sep="/")
            return flax.serialization.from_state_dict(target, tree), record
        if saved:
            raise InputError(f"All {len(saved)} checkpoints in {self.folder} are damaged: train into another folder.")
        return None

    def close(self) -> None:
        """Waits for the last save and stops the threads that write."""
        with _disk_errors():
            self._manager.close()


def steps(folder: str | Path) -> list[int]:
    """Returns the steps of the complete checkpoints in a folder, in ascending order, or [] if there is no folder."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())


def restore_weights(
    folder: str | Path,
    *,
    step: int | None = None,
    parts: Iterable[str] = ("params", "ema", "frozen", "state"),
) -> tuple[dict, dict[str, Any]]:
    """Reads some parts of a checkpoint as numpy arrays, and changes no file.

    Args:
        folder: the folder of a run, or its folder `checkpoints`.
        step: the step of the checkpoint, or None for the newest checkpoint.
        parts: the names of the parts to read, which are keys on the first level of the saved tree.

    Returns:
        (the record, the parts as nested dicts). A part without arrays is an empty dict.

    Raises:
        InputError: there is no checkpoint, or no checkpoint of this step, or the checkpoint is damaged.
    """
    folder = Path(folder).absolute()
    inner = folder / "checkpoints"
    inner = inner if inner.is_dir() else folder
    saved = steps(inner)
    if not saved:
        raise InputError(f"{folder} is not a model folder: it has no checkpoints of a training run.")
    if step is not None and step not in saved:
        raise InputError(f"{folder} has no checkpoint of step {step}: it has {', '.join(map(str, saved))}.")
    path = inner / str(saved[-1] if step is None else step)
    try:
        record = _read_record(path)
        parts = tuple(parts)
        leaves = {
            name: np.empty((), jax.numpy.dtype(dtype))
            for name, (_, dtype, _) in record["arrays"].items()
            if name.split("/")[0] in parts
        }
        arrays = _read_arrays(path, record, leaves)
        _check(arrays, {name: checksums.of_array(leaf) for name, leaf in arrays.items()}, record)
        restored = unflatten_dict(arrays, sep="/")
    except Exception as error:
        raise InputError(f"Checkpoint {path} cannot be read ({_reason(error)}): try another step.") from error
    return record, {part: restored.get(part, {}) for part in parts}


@dataclasses.dataclass
class _Retention(PreservationPolicy):
    """Decides which checkpoints stay. The arguments of `Checkpoints` explain the fields.

    The policies of Orbax itself read the scores from a separate file. If that file is damaged, Orbax cannot open the
    folder.
    """

    keep: int
    every: int
    best: int
    scores: dict[int, float | None] = dataclasses.field(default_factory=dict)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        saved = [checkpoint.step for checkpoint in checkpoints]
        rated = [step for step in saved if self.scores.get(step) is not None]
        stay = {*saved[-self.keep :], *sorted(rated, key=self.scores.get)[: self.best]}
        return [step in stay or bool(self.every and step % self.every == 0) for step in saved]


def _writers() -> ocp.handlers.DefaultCheckpointHandlerRegistry:
    """Returns the handlers of Orbax, which write arrays without compression.

    Compression makes weights only 8 % smaller, and needs more memory. If each of two processes holds half of the state,
    a save needs additional memory in each process: 0.36 times the size of the state without compression, and 0.8 to 1.0
    times the size with compression.
    """
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    handler = ocp.PyTreeCheckpointHandler(use_compression=False, multiprocessing_options=_everyone())
    registry.add(None, ocp.args.PyTreeSave, handler)
    return registry


def _everyone() -> ocp.options.MultiprocessingOptions:
    """Returns options with a list of all processes. Orbax then waits for other processes by messages, not by a
    computation on the devices."""
    return ocp.options.MultiprocessingOptions(primary_host=0, active_processes=set(range(jax.process_count())))


def _alone() -> ocp.options.MultiprocessingOptions:
    """Returns options for a process that does not wait for other processes."""
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process{here}"
    )


def _reader() -> ocp.Checkpointer:
    # This reader restores the parts of a tree one by one, and does not touch the files of the writer.
    handler = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(multiprocessing_options=_alone()))
    return ocp.Checkpointer(handler, multiprocessing_options=_alone())


def _flatten(tree: Any) -> dict[str, Any]:
    """Returns a tree as a flat dict {"part/name/name": leaf}, without None and without empty branches."""
    flat = flatten_dict(flax.serialization.to_state_dict(tree), sep="/")
    return {name: leaf for name, leaf in flat.items() if leaf is not None and leaf is not empty_node}


def _parts(flat: Mapping[str, Any]) -> dict[str, dict]:
    """Splits a flat dict {"part/name": leaf} into its parts. Returns {part: {part: nested dict}}."""
    nested = unflatten_dict(dict(flat), sep="/")
    return {part: {part: value} for part, value in nested.items()}


def _shape_and_dtype(leaf: Any) -> tuple[list[int], str]:
    return list(leaf.shape), str(leaf.dtype)


def _writable(leaf: Any) -> Any:
    """Converts a leaf into a form that Orbax can write.

    With several processes, a leaf that is not split over processes becomes a numpy array. In a single process, a leaf
    with copies on several devices becomes one of the copies. For a leaf with copies, Orbax would compile programs that
    write a slice of each copy.
    """
    if checksums.is_split(leaf):
        return leaf
    if not isinstance(leaf, jax.Array) or jax.process_count() > 1:
        return np.asarray(leaf)
    return leaf.addressable_data(0) if leaf.is_fully_replicated else leaf


def _compare(leaves: Mapping[str, Any], saved: Mapping[str, list], path: Path) -> None:
    differences = []
    for name in sorted(leaves.keys() | saved.keys()):
        if name not in saved:
            differences.append(f"{name} is not in it")
        elif name not in leaves:
            differences.append(f"{name} is only in it")
        elif tuple(saved[name][0]) != tuple(leaves[name].shape):
            differences.append(f"{name} is {tuple(saved[name][0])} in it, {tuple(leaves[name].shape)} here")
        elif saved[name][1] != str(leaves[name].dtype):
            differences.append(f"{name} is {saved[name][1]} in it, {leaves[name].dtype} here")
    if differences:
        raise InputError(f"Checkpoint {path} belongs to another model or optimizer: {listed(differences, 3, '; ')}.")


def _read_record(path: Path) -> dict:
    with contextlib.closing(_reader()) as reader:
        return reader.restore(path, args=ocp.args.Composite(**{RECORD: ocp.args.JsonRestore()}))[RECORD]


def _read(path: Path, leaves: Mapping[str, Any]) -> tuple[dict, dict[str, Any]]:
    """Returns (the record of a checkpoint, its arrays as a flat dict).

    An error in one process is raised in all processes.
    """

    def read() -> tuple[dict, dict[str, Any]]:
        record = _read_record(path)
        _compare(leaves, record["arrays"], path)
        return record, _read_arrays(path, record, leaves)

    record, arrays = processes.together(read)
    sums = checksums.of_arrays(arrays)
    processes.together(lambda: _check(arrays, sums, record))
    return record, arrays


def _check(arrays: Mapping[str, Any], sums: Mapping[str, int], record: Mapping[str, Any]) -> None:
    for name in arrays:
        if sums[name] != record["arrays"][name][2]:
            raise ValueError(f"{name} differs from the saved array")


def _read_arrays(path: Path, record: Mapping[str, Any], leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the saved arrays with the names of the leaves, as a flat dict."""
    abstract = {}
    for name, leaf in leaves.items():
        shape = tuple(record["arrays"][name][0])
        sharding = leaf.sharding if isinstance(leaf, jax.ShapeDtypeStruct) else None
        abstract[name] = (
            np.empty(shape, leaf.dtype)
            if sharding is None
            else jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)
        )
    if not abstract:
        return {}
    items = {part: ocp.args.StandardRestore(value) for part, value in _parts(abstract).items()}
    with contextlib.closing(_reader()) as reader:
        restored = reader.restore(path, args=ocp.args.Composite(**items))
    flat = {}
    for part in items:
        flat |= flatten_dict(restored[part], sep="/")
    return flat


def _set_aside(path: Path) -> None:
    number = 0
    while (aside := path.with_name(f"damaged_{path.name}" + (f"_{number}" if number else ""))).exists():
        number += 1
    path.rename(aside)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


@contextlib.contextmanager
def _disk_errors():
    """Turns errors of TensorStore into OSError if their text has the number of a file system error."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if (code := re.search(r"os_error_code='(\d+)'", str(error))) is None:
            raise
        number = int(code[1])
        raise OSError(number, f"the checkpoint could not be written: {os.strerror(number)}") from error

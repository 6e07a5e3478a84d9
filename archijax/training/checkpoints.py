"""Checkpoints of a run: arrays and a JSON record, written asynchronously and atomically by Orbax.

A folder holds one folder per step, named by the step. Each part of the saved tree (its first level: `params`,
`ema`, `opt_state`, ...) is a separate Orbax item, so that sampling reads the weights without the optimizer. The
record lists every array's shape, dtype and checksum: what does not fit is refused before anything is read, what
was damaged on disk is noticed after. Of several processes each writes and reads its own shards: no host gathers.
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
from archijax.training import processes

RECORD = "record"


class Checkpoints:
    """The checkpoints under `folder`, of which the newest, some on the way and the best stay.

    Several processes have them together: each calls every method, and all see the same folder.

    Args:
        folder: appears when it is missing.
        keep: how many of the newest complete checkpoints to retain.
        keep_every: those of steps that this divides stay too; 0 for none.
        keep_best: as many of the lowest score stay too.
        say: called with one sentence, in the first process, when a damaged checkpoint is passed over.
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
            # What is damaged is noticed when it is restored.
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
        """Starts to write `tree` (any pytree that flax can serialise) and the JSON-able `record` as `step`.

        Returns once the arrays are copied; they may be donated from then on. The folder appears under its name
        only when it is complete: a process that dies before leaves the checkpoints as they were. Raises OSError if
        this or the previous write fails, in whichever process.

        Args:
            tree: leaves on the host are the same in every process, and the first writes them.
            score: the lower the better; None is no candidate for the best.
        """
        score = score if score is not None and math.isfinite(score) else None
        self._retention.scores[step] = score
        self.wait()
        arrays = {name: _writable(leaf) for name, leaf in _flatten(tree).items()}
        sums = _checksums(arrays)
        described = {name: [*_shape_and_dtype(leaf), sums[name]] for name, leaf in arrays.items()}
        items = {part: ocp.args.PyTreeSave(value) for part, value in _parts(arrays).items()}
        # Orbax serialises in a thread, while the caller goes on changing what it passed.
        items[RECORD] = ocp.args.JsonSave(json.loads(json.dumps({"arrays": described, "score": score, **record})))
        with _disk_errors():
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def wait(self) -> None:
        """Waits until the last save is on disk. Raises OSError if it failed, in whichever process."""

        def written() -> None:
            with _disk_errors():
                self._manager.wait_until_finished()
                self._manager.check_for_errors()

        processes.together(written)

    def restore(self, target: Any) -> tuple[Any, dict] | None:
        """Reads the newest checkpoint that is complete and undamaged into the structure of `target`.

        Args:
            target: a tree like the one saved; its leaves give shape and dtype. A `jax.ShapeDtypeStruct` with
                a sharding is restored so sharded, any other leaf as a numpy array.

        Returns:
            (tree, record), or None where there is no checkpoint. A damaged one is renamed `damaged_STEP`.

        Raises:
            InputError: names or shapes differ from the saved ones, or every checkpoint is damaged.
        """
        wanted = _flatten(target)
        saved = processes.from_first(lambda: steps(self.folder))
        for step in reversed(saved):
            path = self.folder / str(step)
            try:
                record, restored = _read(path, wanted)
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
            raise InputError(
                f"None of the {len(saved)} checkpoints in {self.folder} is whole: train into another folder."
            )
        return None

    def close(self) -> None:
        """Waits for the last save and stops the threads that write."""
        with _disk_errors():
            self._manager.close()


def steps(folder: str | Path) -> list[int]:
    """The steps of the complete checkpoints under `folder`, ascending; none where it does not exist."""
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
    """Reads parts of a run's newest checkpoint as numpy arrays; reads nothing else and changes nothing.

    Args:
        folder: a run's folder (which holds `checkpoints/`) or the folder of its checkpoints.
        step: the checkpoint to read; the newest by default.
        parts: the first-level names to read.

    Returns:
        (record, trees): what was saved with the checkpoint, and one nested dict per part, empty without arrays.

    Raises:
        InputError: the folder holds no checkpoint, not this step, or the checkpoint is damaged.
    """
    folder = Path(folder).absolute()
    inner = folder / "checkpoints"
    inner = inner if inner.is_dir() else folder
    saved = steps(inner)
    if not saved:
        raise InputError(f"{folder} is not a model folder: it holds no checkpoints of a training run.")
    if step is not None and step not in saved:
        raise InputError(f"{folder} has no checkpoint of step {step}: it has {', '.join(map(str, saved))}.")
    path = inner / str(saved[-1] if step is None else step)
    try:
        record = _read_record(path)
        parts = tuple(parts)
        wanted = {
            name: np.empty((), jax.numpy.dtype(dtype))
            for name, (_, dtype, _) in record["arrays"].items()
            if name.split("/")[0] in parts
        }
        arrays = _read_arrays(path, record, wanted)
        _check(arrays, {name: _checksum(leaf) for name, leaf in arrays.items()}, record)
        restored = unflatten_dict(arrays, sep="/")
    except Exception as error:
        raise InputError(f"Checkpoint {path} cannot be read ({_reason(error)}): try another step.") from error
    return record, {part: restored.get(part, {}) for part in parts}


@dataclasses.dataclass
class _Retention(PreservationPolicy):
    """Which checkpoints stay: the last `keep`, those of every `every` steps, and the `best` of the lowest score.

    Orbax has such policies too. They read scores from a file of their own, and a damaged one keeps the folder shut.
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


def _writers() -> ocp.handlers.CheckpointHandlerRegistry:
    """Those of Orbax, with arrays written as they are.

    Weights hardly compress (8 %), and what is compressed waits in memory beside the state: with two processes a save
    takes 0.36 of the state beyond a process's own half, and with compression 0.8 to 1.0.
    """
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    handler = ocp.PyTreeCheckpointHandler(use_compression=False, multiprocessing_options=_everyone())
    registry.add(None, ocp.args.PyTreeSave, handler)
    return registry


def _everyone() -> ocp.options.MultiprocessingOptions:
    """All processes, named one by one: Orbax then waits by messages, not by a computation on the devices."""
    return ocp.options.MultiprocessingOptions(primary_host=0, active_processes=set(range(jax.process_count())))


def _alone() -> ocp.options.MultiprocessingOptions:
    """This process waits for no other."""
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process{here}"
    )


def _reader() -> ocp.Checkpointer:
    # A restored tree must be asked for part by part; a reader of its own leaves the writer's files in peace.
    handler = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(multiprocessing_options=_alone()))
    return ocp.Checkpointer(handler, multiprocessing_options=_alone())


def _flatten(tree: Any) -> dict[str, Any]:
    """Any tree as {"part/name/name": leaf}, without empty branches."""
    flat = flatten_dict(flax.serialization.to_state_dict(tree), sep="/")
    return {name: leaf for name, leaf in flat.items() if leaf is not None and leaf is not empty_node}


def _parts(flat: Mapping[str, Any]) -> dict[str, dict]:
    """One nested dict per first name of a flat one, each still headed by that name."""
    nested = unflatten_dict(dict(flat), sep="/")
    return {part: {part: value} for part, value in nested.items()}


def _shape_and_dtype(leaf: Any) -> tuple[list[int], str]:
    return list(leaf.shape), str(leaf.dtype)


def _writable(leaf: Any) -> Any:
    """A leaf as Orbax takes it: of several processes an array lies over all of them, or is on each host."""
    return leaf if _is_split(leaf) or (isinstance(leaf, jax.Array) and jax.process_count() == 1) else np.asarray(leaf)


def _is_split(leaf: Any) -> bool:
    """Whether other processes hold shards of it."""
    return isinstance(leaf, jax.Array) and not leaf.is_fully_addressable


def _checksums(arrays: Mapping[str, Any]) -> dict[str, int]:
    """The checksum of each array by name; all processes call this together, none needs the others' shards."""
    own = {name: _checksum(leaf) for name, leaf in arrays.items()}
    of_all = processes.from_all({name: own[name] for name, leaf in arrays.items() if _is_split(leaf)})
    return own | {name: sum(each[name] for each in of_all) % 2**32 for name in of_all[0]}


def _checksum(leaf: Any) -> int:
    """The sum, mod 2^32, of an array's values read as integers: the same however it is split.

    Of an array over several processes it is this process's part of the sum.
    """
    pieces = [leaf]
    if isinstance(leaf, jax.Array):
        pieces = [shard.data for shard in leaf.addressable_shards if shard.replica_id == 0]
    total = 0
    for piece in pieces:
        data = np.ascontiguousarray(np.asarray(piece)).reshape(-1)
        words = np.dtype(f"u{min(data.dtype.itemsize, 4)}")
        total += int(data.view(words).sum(dtype=np.uint32))
    return total % 2**32


def _compare(wanted: Mapping[str, Any], saved: Mapping[str, list], path: Path) -> None:
    differences = []
    for name in sorted(wanted.keys() | saved.keys()):
        if name not in saved:
            differences.append(f"{name} is not in it")
        elif name not in wanted:
            differences.append(f"{name} is only in it")
        elif tuple(saved[name][0]) != tuple(wanted[name].shape):
            differences.append(f"{name} is {tuple(saved[name][0])} in it, {tuple(wanted[name].shape)} here")
        elif saved[name][1] != str(wanted[name].dtype):
            differences.append(f"{name} is {saved[name][1]} in it, {wanted[name].dtype} here")
    if differences:
        raise InputError(f"Checkpoint {path} belongs to another model or optimizer: {listed(differences, 3, '; ')}.")


def _read_record(path: Path) -> dict:
    with contextlib.closing(_reader()) as reader:
        return reader.restore(path, args=ocp.args.Composite(**{RECORD: ocp.args.JsonRestore()}))[RECORD]


def _read(path: Path, wanted: Mapping[str, Any]) -> tuple[dict, dict[str, Any]]:
    """The record of a checkpoint and the arrays named in `wanted`, flat; an error in one process is one in all."""

    def read() -> tuple[dict, dict[str, Any]]:
        record = _read_record(path)
        _compare(wanted, record["arrays"], path)
        return record, _read_arrays(path, record, wanted)

    record, arrays = processes.together(read)
    sums = _checksums(arrays)
    processes.together(lambda: _check(arrays, sums, record))
    return record, arrays


def _check(arrays: Mapping[str, Any], sums: Mapping[str, int], record: Mapping[str, Any]) -> None:
    for name in arrays:
        if sums[name] != record["arrays"][name][2]:
            raise ValueError(f"{name} differs from what was written")


def _read_arrays(path: Path, record: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the arrays named in `wanted`, flat."""
    abstract = {}
    for name, leaf in wanted.items():
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
    """Errors of the file system leave TensorStore as another type, with their number in the text: raises OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if (code := re.search(r"os_error_code='(\d+)'", str(error))) is None:
            raise
        number = int(code[1])
        raise OSError(number, f"the checkpoint could not be written: {os.strerror(number)}") from error

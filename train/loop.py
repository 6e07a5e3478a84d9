"""Trains a model: reads data, takes steps, logs, validates, saves and samples."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.stages import Compiled

from archijax.cli import say
from archijax.configs.conditioners import encode_fields
from archijax.contract import Batch, Variables
from archijax.errors import InputError
from archijax.training import TrainState, item_keys, processes
from archijax.training.compiling import compiling
from train.batches import batches
from train.config import TrainConfig
from train.dataset import split
from train.folder import Folder
from train.health import Health, first_bad
from train.initial import initial
from train.latents import fingerprint
from train.progress import Clock, Profile, Progress, Signals
from train.prompts import tokenizer
from train.samples import Samples
from train.setup import first_state, init, on_devices, training_model, training_step
from train.sources import Sources
from train.trackers import trackers
from train.validation import Validation
from train.vocabulary import fields_of, with_found_values

WARM = 2  # the steps before a profile, so that it does not show the slow first step


def train(
    config: TrainConfig,
    data: str | Path | Sequence[str],
    out: str | Path,
    *,
    devices: Sequence[jax.Device] | None = None,
) -> int:
    """Trains on the sound files under `data` for `config.steps` steps. Continues the run in `out`, if there is one.

    A latent model can also train on latents that `train.encode` has written to `data`.

    The run writes config.json, manifest.json, metrics.jsonl, speed.jsonl, checkpoints/STEP, samples/step_STEP_*.wav and
    .png to `out`. With several processes (see `train.hosts`), each process calls this function, reads `data` and sees
    the same folder `out`.

    Args:
        config: the settings of the run.
        data: a folder of sound files, or a sequence of "DIR" or "DIR:WEIGHT"; see `train.sources`.
        out: the folder of the run.
        devices: the devices to use; None: all devices.

    Returns:
        The exit status: 0 if the run is finished, 130 after SIGINT, and 143 after SIGTERM. After a signal, the run
        completes the current step and saves a checkpoint.

    Raises:
        InputError: a setting is wrong, or the data or the contents of `out` do not fit the settings.
        OSError: `out` cannot be written.
        Diverged: `config.max_skipped` updates in a row were skipped.
    """
    with contextlib.ExitStack() as stack:
        folders = [str(data)] if isinstance(data, str | Path) else list(data)
        run = Run(config, folders, Path(out), devices, stack)
        run.restore()
        if run.step >= config.steps:
            tell(f"{out} is finished: {run.step} of {config.steps} steps are done.")
            return 0
        run.begin()
        while run.step < config.steps:
            run.take_step()
            if signal := run.save_if_due():
                tell(f"saved step {run.step} of {config.steps}; the same command continues from there.")
                return 128 + signal
        run.folder.wait()
        tell(f"finished {config.steps} steps: {out}")
        return 0


def tell(sentence: str) -> None:
    """Prints a sentence in the first process only."""
    if processes.leads():
        say(sentence)


class Run:
    """Trains a model. The public methods must be called in the order in which they are defined.

    Attributes:
        step: the number of steps taken.
        state: the training state after `step` steps, on the devices.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: Sequence[str],
        out: Path,
        devices: Sequence[jax.Device] | None,
        stack: contextlib.ExitStack,
    ):
        self.out, self._stack, self.devices = out, stack, on_devices(config, devices)
        self.folder = self._closing(Folder(out, config))
        # Indexing the files can take long. An error in writing to the folder must appear before.
        self.folder.write_settings()
        self.sources = Sources(config, data, self.folder.index)
        self.config = self.folder.config = config = with_found_values(self.folder.config, self.sources.manifest)
        self.folder.write_settings()
        self.model = training_model(config)
        step = training_step(config, self.model, self.devices.axis, config.grad_accumulation_steps)
        self.train_step = self.devices.compile(step)
        self._compiled: Callable[[], Compiled] | None = None
        self.init_key, self.root_key = jax.random.split(jax.random.key(config.seed))
        tokenize = tokenizer(config.model)
        self.samples = Samples(self.model, config, out / "samples")
        self.manifest, held_out = split(self.sources.manifest, config.validation)
        stream = partial(
            batches,
            config=config.data,
            batch_size=config.batch_size // jax.process_count(),
            seed=config.seed,
            tokenize=tokenize,
            fields=fields_of(config),
            encode_fields=partial(encode_fields, config.model.conditioners),
            source=self.sources,
            shard_index=jax.process_index(),
            shard_count=jax.process_count(),
        )
        self.stream = self._closing(stream(self.manifest))
        self.validation = None
        if held_out.entries:
            self.validation = Validation(self.model, config, held_out, self.devices, partial(stream, held_out))

    def restore(self) -> None:
        """Reads the newest checkpoint, or makes the state of a new run."""
        # A real batch shows the keys that the model gets. The stream is reset after it.
        position = self.stream.get_state()
        self.example = next(self.stream)
        self.stream.set_state(position)
        self.item = {name: leaf[:1] for name, leaf in self.example.items()}
        if "latent" in self.item:
            # An autoencoder is initialized with sound.
            shape = (1, self.config.data.length, self.config.data.channels)
            self.item["audio"] = np.zeros(shape, np.float32)
        self.shapes = jax.eval_shape(
            lambda: first_state(self.config, self.model, init(self.model, self.init_key, self.item))
        )
        # Checkpoints of adapters do not contain the adapted model.
        saved = self._saved(self.shapes)
        restored = self.folder.restore(self.devices.target(saved))
        if restored is None:
            self.step, self.skipped, self._record = 0, 0, {}
            self.state = self._new_state()
        else:
            state, record = restored
            self.step, self.skipped, self._record = int(state.step), int(state.skipped), record
            state = self.devices.put_state(state)
            self.state = state.replace(frozen=self._adapted(record)) if self.config.lora else state
            self.stream.set_state(record["data"])
            if record["files"] != self.manifest.digest:
                tell(
                    f"the files or captions under {self.manifest.root} are not those of before: the run goes on with "
                    "these."
                )
        if self.sources.latents:
            frozen = self._on_first_host(self.state.frozen)
            processes.from_first(lambda: self.sources.check(frozen))

    def _saved(self, state: Any) -> Any:
        """Returns the part of the training state that checkpoints contain."""
        return state.replace(frozen={}) if self.config.lora else state

    def _new_state(self) -> TrainState:
        """Makes the state of a new run in the first process, and sends the state to all devices, array by array."""
        state = self.shapes
        if jax.process_count() == 1:
            # The compiler needs only shapes, so it runs while the weights are drawn and read.
            self._start_compiler(0)

        def make() -> str | None:
            nonlocal state
            variables = self._variables()
            state = first_state(self.config, self.model, variables)
            return fingerprint(variables["frozen"]) if self.config.lora else None

        self._base = processes.from_first(make)
        return self._sent(state)

    def _variables(self) -> Variables:
        """Returns the variables that a new run starts from."""
        inner = self.model.model if self.config.lora else self.model
        frozen = {name: leaf for name, leaf in self.shapes.frozen.items() if not self.config.lora or name != "base"}
        variables = initial(self.config, partial(init, inner, self.init_key, self.item), frozen)
        return self.model.around(self.init_key, variables) if self.config.lora else variables

    def _adapted(self, record: dict) -> Any:
        """Reads the frozen variables of the model to which adapters are added, and sends them to the devices."""
        frozen = self.shapes.frozen

        def read() -> str:
            nonlocal frozen
            frozen = self._variables()["frozen"]
            return fingerprint(frozen)

        self._base = processes.from_first(read)
        if self._base != record["base"]:
            raise InputError(f"{self.config.init_from} has changed since this run began: restore it as it was.")
        return self._sent(frozen)

    def _sent(self, tree: Any) -> Any:
        """Sends a tree from the host of the first process to the devices, array by array."""
        return jax.tree.map(lambda leaf: self.devices.put_state(processes.array_from_first(leaf)), tree)

    def _on_first_host(self, tree: Any) -> Any:
        """Copies a tree from the devices to the host of the first process. Other processes get None for each array."""

        def copied(leaf: jax.Array) -> np.ndarray | None:
            whole = self.devices.get(leaf)
            return whole if processes.leads() else None

        return jax.tree.map(copied, tree)

    def _start_compiler(self, step: int) -> None:
        self._say_start(step)
        shapes = self.devices.shapes(self.shapes, self.example)
        self._compiled = compiling(self.train_step, self.devices.devices, *shapes, self.root_key)

    def _say_start(self, step: int) -> None:
        tell(f"{'continuing at' if step else 'starting at'} step {step}: compiling the training step …")
        self._began = time.perf_counter()

    def begin(self) -> None:
        """Opens the log and compiles the training step."""
        config = self.config
        self.samples.check(self.shapes.variables(self.shapes.ema), self.example)
        chosen = trackers(config, self.out, self.step) if processes.leads() else ()
        for tracker in chosen:
            self._closing(tracker)
        self.samples.trackers = chosen
        self.folder.start_log(self.step, self._record, chosen)
        self.health = Health(config.max_skipped, self.skipped)
        if jax.process_count() > 1:
            self._say_start(self.step)
        else:
            if self._compiled is None:
                self._start_compiler(self.step)
            self.train_step = self._compiled()
        self.clock, self.progress, self.signals = Clock(), None, None
        self._pending, self._validated = None, {}
        profiled = config.profile if processes.leads() else 0
        self.profile = self._closing(Profile(self.out / "profile", self.step + WARM, profiled))

    def take_step(self) -> None:
        """Takes a training step, and reads the metrics of the previous step while the devices work."""
        self.profile.before(self.step + 1)
        with self.clock.time("data"):
            batch = next(self.stream)
            placed = self.devices.put_batch(batch)
        with self.clock.time("compute"):
            self.state, metrics = self.train_step(self.state, placed, self.root_key)
        self.step += 1
        self.clock.step()
        self.profile.after(self.step, metrics)
        if self.progress is None:
            self._after_first_step(metrics)
        self._report()
        self._pending, self._validated = (self.step, metrics, batch), {}

    def _after_first_step(self, metrics: Any) -> None:
        jax.block_until_ready(metrics)
        tell(f"compiled and took the first step in {time.perf_counter() - self._began:.1f} s")
        # Before this point, a signal ends the program at once, because no result can be lost.
        self.signals = self._stack.enter_context(Signals())
        config = self.config
        audio_seconds = config.batch_size * config.data.length / config.data.sample_rate
        hidden = not processes.leads()
        self.progress = self._closing(Progress(self.step - 1, config.steps, audio_seconds, hidden=hidden))
        self.clock.take()

    def save_if_due(self) -> int | None:
        """Does what is due at this step: validates, saves a checkpoint and makes samples. After a signal, saves a
        checkpoint and returns the number of the signal."""
        config, step = self.config, self.step
        signal = self.signals.stop(step)
        due = step == config.steps or step % config.checkpoint_every == 0
        if self.validation is not None and (due or step % config.validate_every == 0):
            self._validated = {"validation_loss": self.validation(self.state)}
        if self.health.critical or due or signal is not None:
            self._report()
        if due or signal is not None:
            facts = {"data": self.stream.get_state(), "files": self.manifest.digest}
            state = self.devices.saved(self._saved(self.state))
            if config.lora:
                facts |= {"base": self._base}
            self.folder.save(step, state, facts, self._validated.get("validation_loss"), due)
            if signal is None and config.sample_prompts:
                variables = self._on_first_host(self.state.variables(self.state.ema))
                if processes.leads():
                    self.samples.write(step, variables)
        if signal is not None and step < config.steps:
            self.folder.wait()
            return signal
        return None

    def _report(self) -> None:
        """Logs the metrics of the previous step. Raises Diverged if the run must end."""
        if self._pending is None:
            return
        (step, metrics, batch), self._pending = self._pending, None
        with self.clock.time("wait"):
            values = {**jax.tree.map(float, self.devices.get(metrics)), **self._validated}
        self.progress.update(values["loss"])
        self.folder.add(step, values, self._speed)
        if self.health.ill(int(values["skipped"])):
            raise self.health.diverged(step, self._first_bad(step, batch))

    def _speed(self) -> dict[str, float]:
        pace = self.progress.speed()
        seconds = pace * self.progress.audio_seconds
        return {"steps_per_second": pace, "audio_seconds_per_second": seconds, **self.clock.take()}

    def _first_bad(self, step: int, batch: Batch) -> str:
        variables = self.devices.get(self.state.variables(self.state.params))
        count = len(next(iter(batch.values())))
        keys = item_keys(self.root_key, step - 1, jax.process_index() * count, count)
        return first_bad(self.model, variables, keys, batch)

    def _closing(self, thing: Any) -> Any:
        return self._stack.enter_context(contextlib.closing(thing))

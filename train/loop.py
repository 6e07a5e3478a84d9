"""The training loop: everything around the step that is not mathematics."""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from archijax.atomic import replacing
from archijax.checkpoints import Checkpoints, steps
from archijax.cli import say
from archijax.errors import InputError
from train.config import TrainConfig, as_json, differences
from train.dataset import batches
from train.logs import MetricsLog
from train.manifest import index
from train.optimizer import direction, schedule
from train.parallel import Pmap
from train.progress import Progress, Signals
from train.samples import Samples
from train.state import TrainState
from train.step import losses, make_train_step


class Diverged(RuntimeError):
    """The loss or its gradient has not been finite for too many steps in a row."""


def train(config: TrainConfig, data: str | Path, out: str | Path) -> int:
    """Trains on the audio files under `data` until `config.steps`; continues the run that `out` holds, if any.

    `out` gets config.json, manifest.json, metrics.jsonl, checkpoints/STEP and samples/step_STEP_*.wav and .png.

    Returns:
        The exit status: 0 when the run is finished; 128 + the signal's number when SIGINT (130) or SIGTERM (143)
        ended it early, after its step was completed and saved.

    Raises:
        InputError: a setting, the data or what lies in `out` does not fit.
        OSError: `out` cannot be written.
        Diverged: `config.max_skipped` updates in a row had to be skipped.
    """
    out = Path(out)
    if jax.process_count() > 1:
        raise InputError(f"{jax.process_count()} processes train together, but only one process is supported so far.")
    _compare_config(out, config)
    devices = Pmap(config.batch_size)
    model, tokenize = config.model.build(), _tokenizer(config)
    samples = Samples(model, config, tokenize, out / "samples")
    optimizer, rate = direction(config.optimizer), schedule(config.optimizer, config.steps)
    train_step = devices.compile(make_train_step(model, optimizer, rate, config.ema, devices.axis))
    init_key, root_key = jax.random.split(jax.random.key(config.seed))
    # Before the files are looked through, which can take long: can anything be written there?
    _write_config(out, config)
    manifest = index(data, out / "manifest.json")

    with contextlib.ExitStack() as stack:

        def closing(thing):
            return stack.enter_context(contextlib.closing(thing))

        stream = closing(
            batches(manifest, config.data, batch_size=config.batch_size, seed=config.seed, tokenize=tokenize)
        )
        checkpoints = closing(Checkpoints(out / "checkpoints", keep=config.keep_checkpoints, say=say))
        # A real batch has every key that the model will see; the stream is then put back.
        position = stream.get_state()
        example = next(stream)
        stream.set_state(position)
        state, record = _start(model, optimizer, init_key, example, checkpoints)
        if record:
            stream.set_state(record["data"])
        first = int(state.step)
        if record and record["files"] != manifest.digest:
            say(f"the files under {data} are not those of before: the run goes on, in another order of the data.")
        if first >= config.steps:
            say(f"{out} is finished: {first} of {config.steps} steps are done.")
            return 0
        samples.check(state.variables(state.ema), example)
        log = closing(
            MetricsLog(
                out / "metrics.jsonl",
                every=config.log_every,
                resumed=first,
                window=record.get("window"),
                tensorboard=out / "tensorboard" if config.tensorboard else None,
            )
        )
        health = _Health(config.max_skipped, int(state.skipped))
        state = devices.put_state(state)
        say(f"{'continuing at' if first else 'starting at'} step {first}: compiling the training step …")
        began, progress, signals, pending = time.perf_counter(), None, None, None

        def report() -> None:
            # One step late: while the host waits for these values the device works on the next step.
            nonlocal pending
            if pending is None:
                return
            done, metrics = pending
            pending = None
            values = {name: float(value) for name, value in devices.get(metrics).items()}
            log.add(done, values)
            progress.update(values["loss"])
            if done % config.log_every == 0:
                speed = progress.speed()
                log.show(done, {"steps_per_second": speed, "audio_seconds_per_second": speed * progress.audio_seconds})
            health.check(done, int(values["skipped"]))

        for number in range(first + 1, config.steps + 1):
            state, metrics = train_step(state, devices.put_batch(next(stream)), root_key)
            if progress is None:
                jax.block_until_ready(metrics)
                say(f"compiled and took the first step in {time.perf_counter() - began:.1f} s")
                # Until here a signal loses nothing, and need not wait.
                signals = stack.enter_context(Signals())
                audio_seconds = config.batch_size * config.data.length / config.data.sample_rate
                progress = closing(Progress(first, config.steps, audio_seconds))
            report()
            pending = number, metrics
            stop = signals.seen is not None
            if stop or number == config.steps or number % config.checkpoint_every == 0:
                report()
                host = devices.get(state)
                facts = {"step": number, "config": as_json(config), "data": stream.get_state(), "window": log.window}
                facts["files"] = manifest.digest
                checkpoints.save(number, host, facts)
                if not stop:
                    samples.write(number, host.variables(host.ema))
            if stop and number < config.steps:
                checkpoints.wait()
                say(f"saved step {number} of {config.steps}; the same command continues from there.")
                return 128 + signals.seen
        checkpoints.wait()
        say(f"finished {config.steps} steps: {out}")
        return 0


class _Health:
    """Counts skipped updates in a row."""

    def __init__(self, limit: int, skipped: int):
        self.limit, self.skipped, self.row = limit, skipped, 0

    def check(self, step: int, skipped: int) -> None:
        self.row = self.row + 1 if skipped > self.skipped else 0
        self.skipped = skipped
        if self.row >= self.limit:
            raise Diverged(
                f"The loss or its gradient was not finite for {self.row} steps in a row, up to step {step}: lower "
                "optimizer.learning_rate or look for broken audio; those updates were skipped, so every checkpoint "
                "holds good weights."
            )


def _start(model, optimizer, key: jax.Array, example: dict, checkpoints: Checkpoints) -> tuple[TrainState, dict]:
    """The state to go on from and its record: the newest checkpoint's, or a new one with an empty record."""
    example = {name: leaf[:1] for name, leaf in example.items()}
    groups = [names for _, names in losses(model)]

    def create():
        return TrainState.create(model.init(key, example), optimizer, groups)

    restored = checkpoints.restore(jax.eval_shape(create))
    return (create(), {}) if restored is None else restored


def _tokenizer(config: TrainConfig) -> Callable[[list[str]], tuple[np.ndarray, np.ndarray]] | None:
    text = getattr(config.model, "text", None)
    if text is None:
        return None
    from archijax.text import load_tokenizer, tokenize

    tokenizer = load_tokenizer(text.tokenizer)
    return lambda texts: tokenize(tokenizer, texts, text.max_length)


def _compare_config(out: Path, config: TrainConfig) -> None:
    """Raises InputError if `out` holds checkpoints trained with settings that `config` cannot continue."""
    path = out / "config.json"
    if not steps(out / "checkpoints") or not path.exists():
        return
    try:
        theirs = json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is not readable as JSON: restore it, or train into another folder.") from None
    if found := differences(as_json(config), theirs):
        raise InputError(
            f"{out} holds a run with other settings: {'; '.join(found)}. Use the same settings, or another folder."
        )


def _write_config(out: Path, config: TrainConfig) -> None:
    with replacing(out / "config.json") as unfinished:
        unfinished.write_text(json.dumps(as_json(config), indent=2) + "\n")

"""The training loop: everything around the step that is not mathematics."""

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import jax
import numpy as np
from jax.stages import Compiled

from archijax.cli import say
from archijax.training.compiling import compiling
from archijax.training.state import TrainState
from archijax.training.step import item_keys
from train import hosts
from train.config import TrainConfig
from train.dataset import batches, split
from train.folder import Folder
from train.health import Health, first_bad
from train.initial import initial
from train.latents import Latents
from train.placement import spread
from train.plan import first_state, training_step, unread
from train.progress import Clock, Profile, Progress, Signals
from train.prompts import tokenizer
from train.samples import Samples
from train.validation import Validation

WARM = 2  # steps before a profile, so that it shows none of the first one


def train(
    config: TrainConfig, data: str | Path, out: str | Path, *, devices: Sequence[jax.Device] | None = None
) -> int:
    """Trains on the audio files under `data` until `config.steps`; continues the run that `out` holds, if any.

    A latent model trains on what `train.encode` has written to `data`, too.

    `out` gets config.json, manifest.json, metrics.jsonl, speed.jsonl, checkpoints/STEP and samples/step_STEP_*.wav and
    .png. Of several processes (see `train.hosts`) each calls this; all read `data`, only the first needs `out`.

    Args:
        config: the settings.
        data: folder of audio files.
        out: folder of the run.
        devices: those to use, by default all.

    Returns:
        The exit status: 0 when the run is finished; 128 + the signal's number when SIGINT (130) or SIGTERM (143)
        ended it early, after its step was completed and saved.

    Raises:
        InputError: a setting, the data or what lies in `out` does not fit.
        OSError: `out` cannot be written.
        Diverged: `config.max_skipped` updates in a row had to be skipped.
    """
    out = Path(out)
    tell = say if hosts.leads() else lambda sentence: None
    places = spread(config, devices)
    model, tokenize = config.model.build(), tokenizer(config.model)
    train_step = places.compile(training_step(config, model, places.axis, config.grad_accumulation_steps))
    init_key, root_key = jax.random.split(jax.random.key(config.seed))
    alone = jax.process_count() == 1

    with contextlib.ExitStack() as stack:

        def closing(thing):
            return stack.enter_context(contextlib.closing(thing))

        samples = Samples(model, config, tokenize, out / "samples")
        folder = closing(Folder(out, config, samples))
        # Before the files are looked through, which can take long: can anything be written there?
        folder.write_settings()
        latents = Latents(data, config) if Latents.lie_in(data) else None
        manifest = folder.index(data) if latents is None else latents.manifest
        manifest, held_out = split(manifest, config.validation)
        given = {
            "batch_size": config.batch_size // jax.process_count(),
            "tokenize": tokenize,
            "source": latents,
            "shard_index": jax.process_index(),
            "shard_count": jax.process_count(),
        }
        stream = closing(batches(manifest, config.data, seed=config.seed, **given))
        validation = Validation(model, config, held_out, places, **given) if held_out.entries else None
        # A real batch has every key that the model will see; the stream is then put back.
        position = stream.get_state()
        example = next(stream)
        stream.set_state(position)
        item = {name: leaf[:1] for name, leaf in example.items()}
        if "latent" in item:
            # An autoencoder is made for sound.
            item["audio"] = np.zeros((1, config.data.length, config.data.channels), np.float32)
        shapes = jax.eval_shape(lambda: first_state(config, unread(model), init_key, item))

        def start(step: int) -> float:
            tell(f"{'continuing at' if step else 'starting at'} step {step}: compiling the training step …")
            return time.perf_counter()

        @cache
        def ahead(step: int) -> tuple[float, Callable[[], Compiled]]:
            return start(step), compiling(train_step, places.devices, *places.shapes(shapes, example), root_key)

        def new() -> TrainState:
            if alone:
                # The compiler needs no more than shapes: it works while the weights are drawn.
                ahead(0)
            return first_state(config, model, init_key, item, partial(initial, config))

        state, record = folder.restore(shapes, new)
        if latents is not None:
            latents.check(state.frozen)
        if record:
            stream.set_state(record["data"])
        first = int(state.step)
        if record and record["files"] != manifest.digest:
            tell(f"the files under {data} are not those of before: the run goes on, in another order of the data.")
        if first >= config.steps:
            tell(f"{out} is finished: {first} of {config.steps} steps are done.")
            return 0
        samples.check(state.variables(state.ema), example)
        folder.start_log(first, record)
        health = Health(config.max_skipped, int(state.skipped))
        state = places.put_state(state)
        progress, signals, pending = None, None, None
        if alone:
            began, compiled = ahead(first)
            train_step = compiled()
        else:
            began = start(first)
        clock = Clock()
        profile = closing(Profile(out / "profile", first + WARM, config.profile if hosts.leads() else 0))

        def speed() -> dict[str, float]:
            pace = progress.speed()
            return {
                "steps_per_second": pace, "audio_seconds_per_second": pace * progress.audio_seconds, **clock.take()
            }  # fmt: skip

        def report() -> None:
            # One step late: while the host waits for these values the device works on the next step.
            nonlocal pending
            if pending is None:
                return
            (done, metrics, known, batch), pending = pending, None
            with clock.time("wait"):
                values = {**jax.tree.map(float, places.get(metrics)), **known}
            progress.update(values["loss"])
            folder.add(done, values, speed)
            if health.ill(int(values["skipped"])):
                variables = places.get(state)
                variables = variables.variables(variables.params)
                count = len(next(iter(batch.values())))
                keys = item_keys(root_key, done - 1, jax.process_index() * count, count)
                raise health.diverged(done, first_bad(model, variables, keys, batch))

        for number in range(first + 1, config.steps + 1):
            profile.before(number)
            with clock.time("data"):
                batch = next(stream)
                placed = places.put_batch(batch)
            with clock.time("compute"):
                state, metrics = train_step(state, placed, root_key)
            clock.step()
            profile.after(number, metrics)
            if progress is None:
                jax.block_until_ready(metrics)
                tell(f"compiled and took the first step in {time.perf_counter() - began:.1f} s")
                # Until here a signal loses nothing, and need not wait.
                signals = stack.enter_context(Signals())
                audio_seconds = config.batch_size * config.data.length / config.data.sample_rate
                progress = closing(Progress(first, config.steps, audio_seconds, hidden=not hosts.leads()))
                clock.take()
            report()
            stop = signals.stop(number)
            due = number == config.steps or number % config.checkpoint_every == 0
            known = {}
            if validation is not None and (due or number % config.validate_every == 0):
                known = {"validation_loss": validation(state)}
            pending = number, metrics, known, batch
            if health.critical or due or stop is not None:
                report()
            if due or stop is not None:
                facts = {"data": stream.get_state(), "files": manifest.digest}
                host = places.get(state)
                folder.save(number, host, facts, known.get("validation_loss"), due)
                if stop is None:
                    folder.sample(number, host)
            if stop is not None and number < config.steps:
                folder.wait()
                tell(f"saved step {number} of {config.steps}; the same command continues from there.")
                return 128 + stop
        folder.wait()
        tell(f"finished {config.steps} steps: {out}")
        return 0

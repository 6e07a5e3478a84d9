"""python -m demo: a model follows prompts and learns a new instrument. Judges measure how well."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from archijax import cli
from archijax.atomic import replacing
from archijax.audio import files, plots
from archijax.errors import InputError
from archijax.pipeline import Pipeline, SampleSettings
from archijax.pretrained import from_pretrained
from benchmarks.notes import played
from benchmarks.sets.instruments import note_name
from demo import hearing, instrument, page, table
from demo.note import RATE, Note, bundled
from demo.promises import AFTER, BEFORE, GENERATED, KEPT, NEW_REAL, NEW_SHUFFLED, OTHERS, REAL, SHUFFLED, UNTRAINED
from train.__main__ import main as train
from train.encode import main as encode

CONFIG = str(Path(__file__).parent.parent / "configs" / "notes.py")
ADAPTED = tuple(f"*{part}*/kernel" for part in ("attention", "expand", "contract", "to_modulations"))
TRAINING = (
    "--lora", "8", "--lora-targets", *ADAPTED, "--batch-size", "8", "--optimizer.warmup-steps", "20",
    "--ema.start", "0", "--ema.decay", "0.98", "--log-every", "20", "--validation", "0", "--sample-prompts",
)  # fmt: skip
TAUGHT = 8  # the judge of the new instrument is fitted on 8 of the twelve instruments, and checked on 4

Sounds = Sequence[np.ndarray]


@dataclass(frozen=True)
class Demo:
    """Generates notes for prompts, trains the model on a synthetic instrument, and judges the generated notes."""

    out: Path = Path("runs/demo")
    """The folder for the sounds, the page and the training. The same command continues an interrupted demo."""
    model: str = "notes"
    """A model trained with configs/notes.py, in a folder that names the autoencoder."""
    steps: int = 300
    """The number of training steps."""
    seed: int = 0
    """The seed of the noise and of the training."""

    def run(self) -> int:
        """Runs the demo and returns its exit status: 1 if a promise is not kept."""
        pipeline = from_pretrained(self.model)
        if pipeline.config.sample_rate != RATE or pipeline.facts.autoencoder is None:
            raise InputError(f"{self.model} is no model of {RATE} Hz that names its autoencoder: one such is needed.")
        asked = bundled()
        cli.say(f"1. Sounds from prompts by the model {self.model}")
        known = {REAL: [note.sound for note in asked], GENERATED: self._sample(pipeline, asked, GENERATED)}
        untrained = self._sample(pipeline.untrained(self.seed), asked, UNTRAINED)

        cli.say(f"2. Training on an instrument that it does not know: {instrument.NAME}")
        lessons, held_out = instrument.notes()
        learnt = {NEW_REAL: [note.sound for note in held_out], BEFORE: self._sample(pipeline, held_out, BEFORE)}
        # It also trains on its own generated notes, so that it does not forget them (Ruiz et al. 2023, DreamBooth).
        own = [replace(note, sound=sound) for note, sound in zip(asked, known[GENERATED], strict=True)]
        if status := self._train(pipeline, [*lessons, *own]):
            return status
        # Only the variables come from the run, so that the compiled sampling program can be used again.
        trained = replace(pipeline, variables=from_pretrained(self.out / "run").variables)
        learnt[AFTER] = self._sample(trained, held_out, AFTER)
        known[KEPT] = self._sample(trained, asked, KEPT)

        cli.say("3. Judging what is heard")
        judge = hearing.of_known()
        heard = {name: judge.hear(sounds, asked) for name, sounds in {**known, UNTRAINED: untrained}.items()}
        rows = {name: table.row(some) for name, some in heard.items()}
        rows[SHUFFLED] = table.row(table.shuffled(heard[GENERATED]))
        taught, others = (
            [*known[REAL][part], *known[GENERATED][part]] for part in (slice(TAUGHT), slice(TAUGHT, None))
        )
        # The codec changes sounds slightly. Both classes contain coded sounds, so that the judge cannot use that
        # change.
        new = [note.sound for note in lessons]
        judge = hearing.of_new(instrument.NAME, new + _coded(pipeline, new[::2]), taught)
        heard_new = {name: judge.hear(sounds, held_out) for name, sounds in learnt.items()}
        rows |= {name: table.row(some) for name, some in heard_new.items()}
        rows[NEW_SHUFFLED] = table.row(table.shuffled(heard_new[AFTER]), "pitch")
        # None of these sounds is the new instrument. They show whether the judge takes any unusual sound for it.
        taken = [judge.instrument(sound) == instrument.NAME for sound in [*others, *untrained]]
        rows[OTHERS] = {"of": len(taken), "instrument": sum(taken)}

        report = table.text(rows)
        print(report)
        with replacing(self.out / "table.txt") as unfinished:
            unfinished.write_text(f"{report}\n")
        sections = [
            self._section("Sounds from prompts", "prompts", known, heard),
            self._section(f"A new instrument, the {instrument.NAME}", instrument.NAME, learnt, heard_new),
        ]
        page.write(self.out / "index.html", sections, report)
        cli.say(f"Open {self.out / 'index.html'} in a browser to listen.")
        for sentence in (sentences := table.broken(rows)):
            cli.say(sentence)
        return 1 if sentences else 0

    def _sample(self, pipeline: Pipeline, asked: Sequence[Note], what: str) -> list[np.ndarray]:
        """Generates a sound [time, 1] within full scale for each prompt. Each sound starts from other noise."""
        prompts = [{"captions": [note.prompt]} for note in asked]
        return [np.clip(sound, -1, 1) for sound in played(pipeline, prompts, SampleSettings(seed=self.seed), what=what)]

    def _train(self, pipeline: Pipeline, lessons: Sequence[Note]) -> int:
        """Trains adapters on latents of notes, with two programs. Returns 0, or the exit status of the one that
        failed."""
        folder, latents = self.out / "notes", self.out / "latents"
        instrument.write(folder, lessons)
        encoding = [CONFIG, "--autoencoder", pipeline.facts.autoencoder, "--data", str(folder), "--out", str(latents)]
        training = [CONFIG, "--init-from", self.model, "--data", str(latents), "--out", str(self.out / "run")]
        training += ["--steps", str(self.steps), "--seed", str(self.seed), *TRAINING]
        for name, program, arguments in (("train.encode", encode, encoding), ("train", train, training)):
            cli.say(f"$ python -m {name} {shlex.join(arguments)}")
            if status := program(arguments):
                return status
        return 0

    def _section(self, title: str, name: str, sounds: Mapping[str, Sounds], heard: Mapping[str, list]) -> str:
        """Writes sounds, and a picture of them. Returns the section of the page that shows both."""
        (self.out / name).mkdir(parents=True, exist_ok=True)
        players = {}
        for row, some in sounds.items():
            players[row] = [f"{name}/{row.replace(' ', '_').replace(',', '')}_{i:02d}.wav" for i in range(len(some))]
            for path, sound in zip(players[row], some, strict=True):
                files.write(self.out / path, sound, RATE)
        asked = [one.asked for one in heard[next(iter(sounds))]]
        columns = [f"{note.instrument} {note_name(note.pitch)}" for note in asked]
        plots.spectrogram_grid(self.out / name / "spectrograms.png", sounds, RATE, columns)
        return page.section(title, f"{name}/spectrograms.png", players, heard)


def _coded(pipeline: Pipeline, some: Sounds) -> list[np.ndarray]:
    """Encodes and decodes sounds by the codec of a latent model."""
    codec = pipeline.halves[1]
    return [codec.reconstruct(sound, sample_rate=RATE).sounds[0] for sound in some]


def main(arguments: list[str] | None = None) -> int:
    """Runs the program with the given arguments (without the program's name) and returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def program() -> int:
        began = time.perf_counter()
        status = cli.parse(Demo, arguments, prog="python -m demo").run()
        cli.say(f"The demonstration took {(time.perf_counter() - began) / 60:.1f} minutes.")
        return status

    return cli.run(program, interrupted="interrupted; the same command continues from the last checkpoint.")


if __name__ == "__main__":
    sys.exit(main())

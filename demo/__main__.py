"""python -m demo: music from code, a model trained on it, sounds from prompts, and a table that judges them."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from archijax import cli
from archijax.atomic import replacing
from archijax.audio import files, plots
from archijax.audio.loudness import gain
from archijax.configs import example_batch
from archijax.pipeline import Pipeline, SampleSettings
from archijax.pipeline.generation import numbered
from archijax.pretrained import from_pretrained
from demo import music, table
from train.__main__ import main as train

CONFIG = Path(__file__).parent.parent / "configs" / "quickstart.py"
SEEDS = 4
FITTED = 60  # real clips per instrument that the classifier is fitted on
TRACKS, CHECKED = 14, 2  # pieces per instrument, of which the last ones check the classifier
PROMISED = 20  # hits of 24
REAL, CHANCE = 23, 8  # at least so many for real clips, at most so many where the prompt cannot matter


@dataclass(frozen=True)
class Demo:
    """Renders music, trains the quickstart model on it, makes sounds from prompts and judges them."""

    out: Path = Path("runs/demo")
    """Folder for the music, the run, the sounds and the tables. The same command continues where it was stopped."""
    num_steps: int = 50
    """Denoising steps."""
    guidance: float = 1.5
    """How strictly the prompt is followed."""

    def run(self) -> int:
        """The whole demonstration; the exit status, 1 where fewer prompts are followed than promised."""
        cli.say("1. Rendering an album of music for each instrument")
        songs = music.rendered(self.out / "music", TRACKS)
        cli.say(f"2. Training {CONFIG.name} on {songs / 'train'}")
        if status := train([str(CONFIG), "--data", str(songs / "train"), "--out", str(self.out / "run")]):
            return status
        cli.say("3. Making sounds from prompts and judging them")
        return self._judge(from_pretrained(self.out / "run"), songs)

    def _judge(self, pipeline: Pipeline, songs: Path) -> int:
        config, rng = pipeline.config, np.random.default_rng(0)
        # None of these was trained on: some pieces teach the classifier, others check it.
        held_out = sorted((songs / "heldout").glob("*/*.flac"))
        teach = [path for path in held_out if int(path.name[:2]) <= TRACKS - CHECKED]
        clips, labels = music.clips(teach, FITTED, rng, config)
        classifier = table.fit(clips, labels, config.sample_rate)
        real, real_labels = music.clips([path for path in held_out if path not in teach], SEEDS, rng, config)
        prompts = [name for name in music.INSTRUMENTS for _ in range(SEEDS)]

        sounds = self._sample(pipeline)
        untrained = pipeline.model.init(jax.random.key(0), example_batch(config))
        noise = self._sample(replace(pipeline, variables=untrained))
        tables = {
            "Generated sounds by prompt": table.score(classifier, sounds, prompts),
            "Other held-out real clips by instrument": table.score(classifier, real, real_labels),
            "Generated sounds, prompts shuffled": table.score(classifier, sounds, list(rng.permutation(prompts))),
            "The untrained net by prompt": table.score(classifier, noise, prompts),
        }
        distances = {
            name: table.log_spectral_distance(a, clips, config.sample_rate)
            for name, a in (("generated", sounds), ("real", real), ("untrained", noise))
        }
        lines = [shown.text(title) for title, shown in tables.items()]
        lines.append(
            "Log-spectral distance to real clips: "
            + ", ".join(f"{name} {value:.1f} dB" for name, value in distances.items())
        )
        levels = [20 * np.log10(np.sqrt(np.mean(np.clip(sound, -1, 1) ** 2)) + 1e-9) for sound in sounds]
        lines.append(f"Loudness of generated sounds: {min(levels):.1f} to {max(levels):.1f} dBFS RMS")
        report = "\n\n".join(lines)
        print(report)
        with replacing(self.out / "table.txt") as unfinished:
            unfinished.write_text(report + "\n")
        facts = {title: shown.as_dict() for title, shown in tables.items()} | {"log-spectral distance": distances}
        with replacing(self.out / "table.json") as unfinished:
            unfinished.write_text(json.dumps(facts, indent=2) + "\n")

        (self.out / "sounds").mkdir(parents=True, exist_ok=True)
        for prompt, sound, number in zip(prompts, sounds, [*range(SEEDS)] * len(music.INSTRUMENTS), strict=True):
            files.write(self.out / "sounds" / f"{prompt}_{number}.wav", sound, config.sample_rate)
        loud = {"real": real, "generated": np.clip(sounds, -1, 1)}
        rows = {name: [clip * gain(clip, -14.0) for clip in some[::SEEDS]] for name, some in loud.items()}
        plots.spectrogram_grid(self.out / "spectrograms.png", rows, config.sample_rate, columns=music.INSTRUMENTS)
        cli.say(f"Sounds are in {self.out / 'sounds'}, the pictures in {self.out / 'spectrograms.png'}.")
        hits = [shown.hits for shown in tables.values()]
        promises = {
            f"{hits[0]} of {len(prompts)} prompts were followed, at least {PROMISED} were expected": hits[0]
            >= PROMISED,
            f"{hits[1]} real clips were recognised, at least {REAL} were expected": hits[1] >= REAL,
            f"{max(hits[2:])} controls were hits, at most {CHANCE} were expected": max(hits[2:]) <= CHANCE,
            "loudness should be between -45 and -3 dBFS": min(levels) >= -45 and max(levels) <= -3,
        }
        for sentence, kept in promises.items():
            if not kept:
                cli.say(f"Not as promised: {sentence}.")
        return 0 if all(promises.values()) else 1

    def _sample(self, pipeline: Pipeline) -> np.ndarray:
        settings = SampleSettings(num_steps=self.num_steps, guidance_scale=self.guidance)
        items = numbered(music.INSTRUMENTS, SEEDS, 0)
        generation = pipeline.generation(settings, music.INSTRUMENTS, items, batch_size=len(items))
        cli.say("compiling …")
        generation.compile()
        with cli.bar(generation.steps, "sampling", "step") as bar:
            return np.stack([sound for _, _, sound in generation.run(bar.update)])


def main(arguments: list[str] | None = None) -> int:
    """Runs the program with the given arguments (without its name) and returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def program() -> int:
        began = time.perf_counter()
        status = cli.parse(Demo, arguments, prog="python -m demo").run()
        cli.say(f"The demonstration took {(time.perf_counter() - began) / 60:.1f} minutes.")
        return status

    return cli.run(program, interrupted="interrupted; the same command continues from the last checkpoint.")


if __name__ == "__main__":
    sys.exit(main())

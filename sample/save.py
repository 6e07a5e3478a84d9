"""Defines the verb save, which writes a trained model as a folder to share."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

from archijax import cli
from archijax.errors import InputError
from archijax.pretrained import save_pretrained
from sample.model import OneModel


@dataclass(frozen=True, kw_only=True)
class Save(OneModel):
    """Writes a model as a folder to share: config.json, model.safetensors and a model card, README.md.

    Adapters are merged into the weights. The folder can be uploaded to the Hugging Face hub. In all verbs, the option
    --model can be the folder or its name on the hub.
    """

    out: Path
    """A new or empty folder, to which the model is written."""
    half: bool = False
    """Write the weights as float16, which halves the size."""
    autoencoder: str | None = None
    """For a latent model: the name of a model that contains the same autoencoder. The folder then stores this name in
    place of the autoencoder."""

    def run(self) -> None:
        """Writes the folder. Raises InputError for wrong input, and OSError if writing fails."""
        pipeline = self.pipeline()
        facts = pipeline.facts
        if facts.step is not None and not facts.metrics:
            facts = dataclasses.replace(facts, metrics=last_metrics(self.model / "metrics.jsonl", facts.step))
        facts = dataclasses.replace(facts, autoencoder=self.autoencoder or facts.autoencoder)
        if facts.autoencoder is not None and pipeline.config.autoencoder is None:
            raise InputError(f"autoencoder is {facts.autoencoder}, but only a latent model has one: leave it out.")
        save_pretrained(self.out, pipeline.config, pipeline.variables, facts, half=self.half)
        size = sum(path.stat().st_size for path in self.out.iterdir())
        cli.say(f"wrote {self.out}, {size / 1e6:.3g} MB.")


def last_metrics(path: Path, step: int) -> dict[str, float]:
    """Returns the finite values in the line of a metrics.jsonl with the largest step up to `step`; {} if there is no
    such line."""
    last = {}
    try:
        for line in path.read_text().splitlines():
            figures = json.loads(line)
            if figures["step"] <= step:
                last = figures
        return {name: float(value) for name, value in last.items() if name != "step" and math.isfinite(value)}
    except (OSError, ValueError, TypeError, KeyError):
        return {}

"""The model that a verb uses."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from archijax.cli import python_config, weighted
from archijax.configs import check_config
from archijax.pipeline import Pipeline
from archijax.pretrained import from_pretrained


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What changes the models of a verb."""

    lora: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Folder of a run with --lora, whose adapters join the model, as DIR or DIR:WEIGHT; several may be given."""

    config: Path | None = None
    """Of a model of a class of your own the config file that defines it, FILE.py or FILE.py:NAME; it is run."""

    def load(self, name: Path) -> Pipeline:
        """A model as it is changed. Raises InputError."""
        config = None if self.config is None else python_config(self.config)
        # The file's config is one of a training, or of a model.
        config = getattr(config, "model", config)
        if self.config is not None:
            check_config(config)
        return from_pretrained(name, config=config, lora=dict(map(weighted, self.lora)))


@dataclass(frozen=True, kw_only=True)
class OneModel(Adapted):
    """What verbs with one model share."""

    model: Path
    """Folder of a training run or a saved model, or its name on the Hugging Face hub."""

    def pipeline(self) -> Pipeline:
        """The model. Raises InputError."""
        return self.load(self.model)

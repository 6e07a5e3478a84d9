"""Defines the options that choose the model of a verb."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from archijax.cli import python_config, weighted
from archijax.configs import check_config
from archijax.pipeline import Pipeline
from archijax.pretrained import from_pretrained


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """Defines the options for models with adapters, and for models of a user's own class."""

    lora: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """The folder of a run with --lora, as DIR or DIR:WEIGHT. The adapters from this run are added to the model. The
    option can be repeated."""

    config: Path | None = None
    """For a model of your own class: the config file that defines the model, FILE.py or FILE.py:NAME. Python runs this
    file."""

    def load(self, name: Path) -> Pipeline:
        """Loads a model and adds the adapters of --lora. Raises InputError if the model or an adapter cannot be
        loaded."""
        config = None if self.config is None else python_config(self.config)
        # The file defines the config of a training or of a model.
        config = getattr(config, "model", config)
        if self.config is not None:
            check_config(config)
        return from_pretrained(name, config=config, lora=dict(map(weighted, self.lora)))


@dataclass(frozen=True, kw_only=True)
class OneModel(Adapted):
    """Defines the options of verbs that use one model."""

    model: Path
    """The folder of a training run or of a saved model, or a name on the Hugging Face hub."""

    def pipeline(self) -> Pipeline:
        """Loads the model and returns the pipeline. Raises InputError if the model cannot be loaded."""
        return self.load(self.model)

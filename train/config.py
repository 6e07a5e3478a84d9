"""Defines the settings of a training run as frozen dataclasses. The text under a field is the help on the command
line."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from archijax.configs import check_config, to_dict
from archijax.errors import InputError, require
from archijax.training.optimizer import EmaConfig, OptimizerConfig
from train.dataset import DataConfig


@dataclass(frozen=True)
class TrainConfig:
    """Holds the settings of one training run, except the folders for data and results."""

    model: Any
    """The configuration of the model."""
    data: DataConfig = field(default_factory=DataConfig)
    """How sound files become crops and prompts."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimizer and its settings."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """The moving average of the parameters."""
    batch_size: int = 32
    """The number of crops per step, summed over all devices."""
    grad_accumulation_steps: int = 1
    """The number of parts into which each device splits its crops. The parts are computed one by one, which needs less
    memory."""
    parallel: Literal["pmap", "mesh"] = "pmap"
    """pmap: every device stores the whole training state. mesh: `fsdp` devices together store one copy of the state."""
    fsdp: int = 1
    """For mesh: the number of devices that together store one copy of parameters, moving average and optimizer
    state."""
    init_from: str | None = None
    """The model from which a new run takes all weights whose names and shapes fit: the folder of a run, a model folder,
    or a name on the Hugging Face hub."""
    autoencoder: str | None = None
    """For a latent model: the folder or the name of the trained autoencoder. The settings of the autoencoder must equal
    model.autoencoder."""
    trainable: tuple[str, ...] = ()
    """Paths of the parts of the model to train, such as net, net/decoder or placeholders; empty: all parts. The other
    parts keep the weights of init_from."""
    lora: int = 0
    """The rank of the adapters that are trained in place of the model in init_from; 0: no adapters."""
    lora_alpha: float | None = None
    """The scale (alpha) of the adapters; None: the same as the rank."""
    lora_targets: tuple[str, ...] = ("*/kernel",)
    """Patterns for the names of the parameters that get adapters, such as net/*to_q/kernel."""
    steps: int = 1_000_000
    """The number of steps of the run."""
    seed: int = 0
    """The seed of all random numbers: initial parameters, order of the data, crops and noise."""
    max_skipped: int = 20
    """The run stops after this number of skipped updates in a row. An update is skipped if the loss or the gradient is
    not finite."""
    log_every: int = 50
    """The number of steps between lines of metrics.jsonl. Each line has the means over the steps since the previous
    line."""
    profile: int = 0
    """The number of steps to trace with jax.profiler, into OUT/profile; 0: no trace."""
    tensorboard: bool = False
    """Also write metrics, sounds and spectrograms for TensorBoard, into OUT/tensorboard."""
    wandb: str | None = None
    """The Weights & Biases project to which metrics, sounds and spectrograms are sent."""
    checkpoint_every: int = 2_000
    """The number of steps between checkpoints. Samples are written at each checkpoint."""
    keep_checkpoints: int = 3
    """The number of checkpoints to keep. The newest checkpoints are kept."""
    keep_every: int = 0
    """Also keep each checkpoint whose step is a multiple of this number; 0: keep no such checkpoints."""
    keep_best: int = 0
    """Also keep this number of checkpoints with the lowest validation loss, or with the lowest loss if there is no
    validation."""
    validation: float = 0.0
    """The fraction of the files that are kept out of training and used for the validation loss."""
    validate_every: int = 2_000
    """The number of steps between validations. The validation loss is also computed at each checkpoint."""
    validation_batches: int = 8
    """The largest number of batches in a validation. All validations use the same batches and the same noise."""
    sample_prompts: tuple[str, ...] = ("",)
    """The prompts of the samples at each checkpoint. A model without text takes only empty prompts. An autoencoder
    reconstructs one sound per prompt."""
    sample_steps: int = 50
    """The number of denoising steps for the samples at each checkpoint."""
    sample_guidance_scale: float = 1.0
    """The guidance scale for the samples at each checkpoint; 1: no guidance."""
    sample_set: tuple[str, ...] = ()
    """The conditions for the samples at each checkpoint as NAME=VALUE, such as bpm=120. Conditions without a value are
    dropped."""
    sample_seconds: float = 0.0
    """The length in seconds of the samples at each checkpoint; 0: the length of the crops."""

    def __post_init__(self):
        for name in (
            "batch_size", "grad_accumulation_steps", "fsdp", "steps", "max_skipped", "log_every", "checkpoint_every",
            "keep_checkpoints", "sample_steps", "validate_every", "validation_batches",
        ):  # fmt: skip
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        require(self.parallel == "mesh" or self.fsdp == 1, "fsdp", self.fsdp, "1 unless parallel is mesh")
        for name in ("keep_every", "keep_best", "profile"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(0 <= self.validation < 1, "validation", self.validation, "at least 0 and below 1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "at least 0 and below 4294967296")
        require(self.sample_seconds >= 0, "sample_seconds", self.sample_seconds, "0 or more")
        check_config(self.model)
        for name in ("sample_rate", "channels", "length"):
            ours, theirs = getattr(self.data, name), getattr(self.model, name)
            if ours != theirs:
                raise InputError(f"data.{name} and model.{name} must be equal, not {ours} and {theirs}.")
        if self.autoencoder is not None and self.model.autoencoder is None:
            raise InputError(f"autoencoder is {self.autoencoder}, but only a latent model has one: leave it out.")
        for name in ("prompt", "template"):
            if self.model.text is None and (value := getattr(self.data, name)) is not None:
                raise InputError(f"data.{name} is {value!r}, but the model has no text conditioning: leave it out.")
        require(self.lora >= 0, "lora", self.lora, "0 or more")
        if self.lora and self.init_from is None:
            raise InputError(f"lora is {self.lora}, but adapters need a trained model: use --init-from MODEL.")
        if self.lora and self.trainable:
            raise InputError(f"trainable is {self.trainable}, but adapters are chosen by lora_targets: leave it out.")
        if self.model.text is None and any(self.sample_prompts):
            raise InputError(
                f"sample_prompts is {self.sample_prompts}, but the model has no text conditioning: use empty prompts."
            )


# A run can continue with other values of these settings: the data stay the same, and updates differ only by rounding.
FREE = {
    "grad_accumulation_steps", "parallel", "fsdp", "max_skipped", "log_every", "tensorboard", "wandb",
    "checkpoint_every",
    "keep_checkpoints", "keep_every", "keep_best", "validate_every", "validation_batches", "profile",
    "sample_prompts", "sample_steps", "sample_guidance_scale", "sample_set", "sample_seconds",
    "data.workers", "data.prefetch",
}  # fmt: skip


def as_json(config: TrainConfig) -> dict:
    """Turns the settings into nested dicts for JSON. `archijax.configs.from_dict` restores the model's configuration
    from the entry "model"."""
    settings = {
        field.name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
        for field in dataclasses.fields(config)
        if (value := getattr(config, field.name)) is not config.model
    }
    # JSON turns tuples into lists, as in the file.
    return json.loads(json.dumps({"model": to_dict(config.model), **settings}))


def differences(ours: dict, theirs: dict) -> list[str]:
    """Returns a sentence for each setting that differs between two `as_json` dicts, except the settings in `FREE`."""
    # A schedule that ends at the last step depends on the number of steps.
    free = FREE | ({"steps"} if ours["optimizer"]["learning_rate_schedule"] == "constant" else set())
    pairs = unequal(ours, theirs)
    return [f"{name} is {there} there and {here} here" for name, (here, there) in pairs.items() if name not in free]


def unequal(ours: dict, theirs: dict) -> dict[str, tuple[Any, Any]]:
    """Returns {dotted name: (our value, their value)} for the settings that differ between two nested dicts. A missing
    value is None."""
    ours, theirs = dotted(ours), dotted(theirs)
    pairs = {name: (ours.get(name), theirs.get(name)) for name in sorted(ours.keys() | theirs.keys())}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def dotted(value: Any, name: str = "") -> dict[str, Any]:
    """Turns nested dicts into a flat dict, with names joined by dots."""
    if not isinstance(value, dict):
        return {name: value}
    flat = {}
    for key, inner in value.items():
        flat |= dotted(inner, f"{name}.{key}" if name else key)
    return flat

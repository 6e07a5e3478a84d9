"""The settings of a training run: frozen dataclasses. The text under a field is its help on the command line."""

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
    """One training run, but for where its data lies and where it is written."""

    model: Any
    """The model: a configuration whose `build()` makes it."""
    data: DataConfig = field(default_factory=DataConfig)
    """How audio files become clips and prompts."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How gradients become updates."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """How parameters are averaged."""
    batch_size: int = 32
    """Clips per step, over all devices."""
    grad_accumulation_steps: int = 1
    """Parts that each device takes its clips in, one after the other, for less memory."""
    parallel: Literal["pmap", "mesh"] = "pmap"
    """pmap: every device holds the whole state. mesh: groups of `fsdp` devices share it, split between them."""
    fsdp: int = 1
    """Of mesh: devices that share one copy of parameters, average and optimizer."""
    init_from: str | None = None
    """Model whose weights a new run starts from, as far as they have its names and shapes: a run's folder, a saved
    model's, or a name on the Hugging Face hub."""
    autoencoder: str | None = None
    """Of a latent model: the trained one, a folder or name likewise, with the settings of model.autoencoder."""
    trainable: tuple[str, ...] = ()
    """Parameters that are trained, by their paths such as net, net/decoder or placeholders; empty for all. The
    others stay as init_from has them."""
    lora: int = 0
    """Train adapters of this rank alone, around init_from, which stays as it is; 0 trains the model itself."""
    lora_alpha: float | None = None
    """Scale of the adapters; None is their rank."""
    lora_targets: tuple[str, ...] = ("*/kernel",)
    """What has adapters: patterns of the names of parameters, such as net/*to_q/kernel."""
    steps: int = 1_000_000
    """Steps after which the run is finished."""
    seed: int = 0
    """Root of all randomness: initial parameters, order of the data, crops, noise."""
    max_skipped: int = 20
    """The run stops after so many steps in a row whose loss or gradient is not finite (such updates are skipped)."""
    log_every: int = 50
    """Steps from one line of metrics.jsonl to the next; a line holds the means since the one before."""
    profile: int = 0
    """Steps to trace with jax.profiler once the run is under way, to OUT/profile."""
    tensorboard: bool = False
    """Also write metrics, sounds and spectrograms for TensorBoard, to OUT/tensorboard."""
    wandb: str | None = None
    """Project of Weights & Biases to show them in, too."""
    checkpoint_every: int = 2_000
    """Steps from one checkpoint, and its samples, to the next."""
    keep_checkpoints: int = 3
    """How many of the last checkpoints stay on disk."""
    keep_every: int = 0
    """Checkpoints of steps that this divides stay too; 0 for none."""
    keep_best: int = 0
    """As many of the lowest validation loss, or without validation of the lowest loss, stay too."""
    validation: float = 0.0
    """Part of the files that is held out of training, for the loss on them."""
    validate_every: int = 2_000
    """Steps from one validation to the next; there is one at each checkpoint, too."""
    validation_batches: int = 8
    """Batches that the validation loss is over at most, always the same with the same noise."""
    sample_prompts: tuple[str, ...] = ("",)
    """One sample per prompt is written at each checkpoint; an unconditional model takes only empty prompts, and an
    autoencoder reconstructs as many sounds."""
    sample_steps: int = 50
    """Denoising steps of these samples."""
    sample_guidance_scale: float = 1.0
    """Their classifier-free guidance scale (1: none)."""
    sample_set: tuple[str, ...] = ()
    """Their conditions as NAME=VALUE, such as bpm=120; those that are missing are left out."""
    sample_seconds: float = 0.0
    """Their length in seconds; 0 is the length of the training clips."""

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
            raise InputError(f"autoencoder is {self.autoencoder}, but only a latent model takes one: leave it out.")
        for name in ("prompt", "template"):
            if self.model.text is None and (value := getattr(self.data, name)) is not None:
                raise InputError(f"data.{name} is {value!r}, but the model has no text conditioning: leave it out.")
        require(self.lora >= 0, "lora", self.lora, "0 or more")
        if self.lora and self.init_from is None:
            raise InputError(f"lora is {self.lora}, but adapters are of a trained model: give it by --init-from MODEL.")
        if self.lora and self.trainable:
            raise InputError(f"trainable is {self.trainable}, but of adapters lora_targets says where they are.")
        if self.model.text is None and any(self.sample_prompts):
            raise InputError(
                f"sample_prompts is {self.sample_prompts}, but the model has no text conditioning: use empty prompts."
            )


# A run may be continued with other values of these: they change the data not at all, and updates by rounding alone.
FREE = {
    "grad_accumulation_steps", "parallel", "fsdp", "max_skipped", "log_every", "tensorboard", "wandb",
    "checkpoint_every",
    "keep_checkpoints", "keep_every", "keep_best", "validate_every", "validation_batches", "profile",
    "sample_prompts", "sample_steps", "sample_guidance_scale", "sample_set", "sample_seconds",
    "data.workers", "data.prefetch",
}  # fmt: skip


def as_json(config: TrainConfig) -> dict:
    """The configuration as JSON-able nested dicts; `model` is read back by `archijax.configs.from_dict`."""
    settings = {
        field.name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
        for field in dataclasses.fields(config)
        if (value := getattr(config, field.name)) is not config.model
    }
    # Through JSON and back, so that tuples are lists here as in the file.
    return json.loads(json.dumps({"model": to_dict(config.model), **settings}))


def differences(ours: dict, theirs: dict) -> list[str]:
    """Sentences about the settings in which two `as_json` dicts differ, those that are free aside."""
    # A schedule that ends at the last step depends on which that is.
    free = FREE | ({"steps"} if ours["optimizer"]["learning_rate_schedule"] == "constant" else set())
    pairs = unequal(ours, theirs)
    return [f"{name} is {there} there and {here} here" for name, (here, there) in pairs.items() if name not in free]


def unequal(ours: dict, theirs: dict) -> dict[str, tuple[Any, Any]]:
    """(ours, theirs) of the settings in which nested dicts differ, by dotted names; None where one lacks a setting."""
    ours, theirs = dotted(ours), dotted(theirs)
    pairs = {name: (ours.get(name), theirs.get(name)) for name in sorted(ours.keys() | theirs.keys())}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def dotted(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dicts as one, its names joined by dots."""
    if not isinstance(value, dict):
        return {name: value}
    flat = {}
    for key, inner in value.items():
        flat |= dotted(inner, f"{name}.{key}" if name else key)
    return flat

"""Defines the verb export, which writes a model and the sampling loop as one program that needs only JAX and numpy."""

import importlib.util
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export

from archijax import cli
from archijax.atomic import replacing
from archijax.contract import DenoisingGenerator
from archijax.errors import InputError
from archijax.nn.attention import portable
from archijax.pipeline import Pipeline, SampleSettings
from archijax.pipeline.settings import to_samples
from archijax.pretrained.folder import check_new
from sample.model import OneModel

PLATFORMS = ("cpu", "cuda", "tpu")


@dataclass(frozen=True, kw_only=True)
class Export(OneModel):
    """Writes the text encoder, guidance and all denoising steps as one program. The program runs on CPU, CUDA and TPU,
    with any batch size.

    The files are the program (sampler.jaxexport, in the format of jax.export), the weights (weights.npz), a description
    of the inputs and the output (sampler.json), and run.py, which makes WAV files and needs only jax and numpy. The
    inputs of the program are prompts, guidance scale and seed. The export fixes all other settings.
    """

    out: Path
    """A new or empty folder, to which the files are written."""
    seconds: float | None = None
    """The length of each sound in seconds. The default is the length of the training sounds."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A condition of the model as NAME=VALUE, such as bpm=120. The option can be repeated. Conditions without a value
    are dropped."""
    sampling: tyro.conf.OmitArgPrefixes[SampleSettings] = SampleSettings()
    """The settings of sampling."""

    def run(self) -> None:
        """Writes the folder. Raises InputError for wrong input, and OSError if writing fails."""
        pipeline = self.pipeline()
        length = pipeline.config.length
        if self.seconds is not None:
            length = to_samples("seconds", self.seconds, pipeline.config.sample_rate)
        write(self.out, pipeline, self.sampling, length, cli.named_values(self.set))
        size = sum(path.stat().st_size for path in self.out.iterdir())
        cli.say(f"wrote {self.out}, {size / 1e6:.3g} MB; try: python {self.out / 'run.py'} --help")


def write(
    folder: Path, pipeline: Pipeline, settings: SampleSettings, length: int, conditions: Mapping[str, str] | None = None
) -> None:
    """Writes a program that samples sounds of `length` samples to a new folder. The folder has a temporary name until
    all files are written.

    Raises:
        InputError: the model does not take a setting, or the folder is not empty.
        OSError: the folder cannot be written.
    """
    check_new(folder)
    pipeline.needs(DenoisingGenerator, "generates")
    reader = importlib.util.find_spec("flatbuffers")
    if reader is None:
        raise InputError("jax.export needs the package flatbuffers: pip install flatbuffers")
    settings = pipeline.resolved(settings)
    sample, inputs = sampler(pipeline, settings, length, conditions)
    weights = flatten_dict(pipeline.variables, sep=".")
    arguments = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (weights, inputs))
    with portable():
        program = export.export(jax.jit(sample), platforms=PLATFORMS)(*arguments)
    with replacing(folder) as unfinished:
        unfinished.mkdir()
        (unfinished / "sampler.jaxexport").write_bytes(program.serialize())
        # The weights are outside of the program: a program is limited to 2 GB, and the compiler would fold constants.
        np.savez(unfinished / "weights.npz", **{name: np.asarray(leaf) for name, leaf in weights.items()})
        about = describe(pipeline, settings, length, inputs)
        (unfinished / "sampler.json").write_text(json.dumps(about, indent=2) + "\n")
        shutil.copyfile(Path(__file__).with_name("exported.py"), unfinished / "run.py")
        # jax.export reads its files with flatbuffers, but JAX does not install it. run.py imports this copy.
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(reader.origin).parent, unfinished / "flatbuffers", ignore=ignored)


def sampler(
    pipeline: Pipeline, settings: SampleSettings, length: int, conditions: Mapping[str, str] | None = None
) -> tuple[Callable[[dict[str, jax.Array], dict[str, jax.Array]], jax.Array], dict[str, jax.ShapeDtypeStruct]]:
    """Returns (sample, inputs). The pure function `sample` makes the same sounds as :class:`Generation` with these
    settings.

    Returns:
        `sample` takes a dict of weights and a dict of inputs, and returns sounds [b, length, channels]. `inputs` is a
        dict of the shapes of the inputs, in which the batch size b is a symbol. Which inputs there are depends on the
        model and the settings.
    """
    settings = pipeline.resolved(settings)
    model, config, scale = pipeline.model, pipeline.config, settings.scale(pipeline.guidable)
    (b,) = export.symbolic_shape("b")
    inputs = {"seed": jax.ShapeDtypeStruct((), np.uint32), "items": jax.ShapeDtypeStruct((b,), np.uint32)}
    negative, conditions = None, pipeline.conditions(conditions or {}, 1)
    if pipeline.tokenizer is not None:
        inputs["tokens"] = jax.ShapeDtypeStruct((b, config.text.max_length), np.int32)
        inputs["token_mask"] = jax.ShapeDtypeStruct((b, config.text.max_length), bool)
        if settings.has_negative_prompt and scale is not None:
            negative = pipeline.tokens([settings.negative_prompt])
    if pipeline.guidable and pipeline.tokenizer is not None:
        inputs["empty"] = jax.ShapeDtypeStruct((b,), bool)
    if scale is not None:
        inputs["guidance"] = jax.ShapeDtypeStruct((b,), np.float32)
    names = {"tokens": "tokens", "token_mask": "token_mask", "empty": "embedding_mask"}

    def one(variables: dict[str, Any], seed: jax.Array, inputs: dict[str, jax.Array]) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed), inputs["items"])
        guidance = 1.0 if scale is None else settings.guidance(inputs["guidance"])
        return model.sample(
            variables, key[None], shape=(1, length, config.channels), num_steps=settings.num_steps,
            sampler=settings.make_sampler(), timestep_spacing=settings.timestep_spacing, guidance=guidance,
            negative=negative, clamp=settings.clamp, threshold=settings.threshold,
            window=settings.window(config.sample_rate, model.length_multiple),
            **conditions, **{theirs: inputs[ours][None] for ours, theirs in names.items() if ours in inputs},
        )[0]  # fmt: skip

    def sample(weights: dict[str, jax.Array], inputs: dict[str, jax.Array]) -> jax.Array:
        nested = unflatten_dict(weights, sep=".")
        variables = {collection: nested.get(collection, {}) for collection in pipeline.variables}
        each = {name: value for name, value in inputs.items() if name != "seed"}
        # vmap over items, because nets do not take a symbol for the number of items. The compiled program is batched.
        return jax.vmap(one, in_axes=(None, None, 0))(variables, inputs["seed"], each)

    return sample, inputs


def describe(
    pipeline: Pipeline, settings: SampleSettings, length: int, inputs: dict[str, jax.ShapeDtypeStruct]
) -> dict[str, Any]:
    """Returns the contents of sampler.json, which describes the inputs and the output of the program."""
    config, text = pipeline.config, pipeline.config.text
    meanings = {
        "seed": "root of the noise",
        "items": "numbers of the sounds: each has noise of its own, the same in any batch",
        "tokens": "ids of the prompts, ended by the end token, then padded",
        "token_mask": "false where padded",
        "empty": "true where there is no prompt",
        "guidance": "how strictly the prompt is followed, 1 for not more than trained",
    }
    return {
        "inputs": {
            name: {"shape": [str(n) if not isinstance(n, int) else n for n in leaf.shape],
                   "type": leaf.dtype.name, "meaning": meanings[name]}
            for name, leaf in inputs.items()
        },
        "output": {"shape": ["b", length, config.channels], "type": "float32", "meaning": "sounds, not clipped"},
        "sample_rate": config.sample_rate,
        "guidance": settings.scale(pipeline.guidable),
        "tokenizer": None if text is None else text.tokenizer,
        "max_length": None if text is None else text.max_length,
        "placeholder_tokens": None if text is None else list(text.placeholder_tokens),
        "platforms": PLATFORMS,
        "jax": jax.__version__,
        "settings": asdict(settings),
    }  # fmt: skip

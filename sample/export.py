"""The verb export: a model and a way of sampling as one program that needs JAX and numpy alone."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export

from archijax import cli
from archijax.errors import InputError
from archijax.nn.attention import portable
from archijax.pretrained.folder import check_new, whole_folder
from archijax.sampling import Guidance
from sample.model import Loaded, frames, load
from sample.settings import Settings, shared

PLATFORMS = ("cpu", "cuda", "tpu")


@dataclass(frozen=True, kw_only=True)
class Export(Settings):
    """Writes text encoder, guidance and all denoising steps as one program for CPU, CUDA and TPU, for any batch size.

    The folder has sampler.jaxexport (the program, made by jax.export), weights.npz, sampler.json (what goes in and
    what comes out) and run.py, which makes WAV files with it and needs jax and numpy alone. Prompts, guidance scale
    and seed are chosen when it runs; everything else is fixed here.
    """

    model: Path
    """Folder of the training run or of a saved model, or the name of a model on the Hugging Face hub."""
    out: Path
    """Folder to make; it must not exist, or be empty."""
    length_seconds: float | None = None
    """Seconds of each sound; by default those of the sounds that the model was trained on."""

    def run(self) -> None:
        """Writes the folder. Raises InputError and OSError."""
        loaded = load(self.model)
        length = loaded.config.length
        if self.length_seconds is not None:
            length = frames("length_seconds", self.length_seconds, loaded.config.sample_rate)
        write(self.out, loaded, Settings(**shared(self)), length)
        size = sum(path.stat().st_size for path in self.out.iterdir())
        cli.say(f"wrote {self.out}, {size / 1e6:.3g} MB; try: python {self.out / 'run.py'} --help")


def write(folder: Path, loaded: Loaded, settings: Settings, length: int) -> None:
    """Writes a sampler of sounds of `length` samples to a new folder, which appears when it is complete.

    Raises:
        InputError: a setting that the model does not take, or the folder holds something already.
        OSError: it cannot be written.
    """
    check_new(folder)
    reader = importlib.util.find_spec("flatbuffers")
    if reader is None:
        raise InputError("jax.export needs the package flatbuffers: pip install flatbuffers")
    sample, inputs = sampler(loaded, settings, length)
    weights = flatten_dict(loaded.variables, sep=".")
    arguments = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (weights, inputs))
    with portable():
        program = export.export(jax.jit(sample), platforms=PLATFORMS)(*arguments)
    with whole_folder(folder) as unfinished:
        (unfinished / "sampler.jaxexport").write_bytes(program.serialize())
        # Beside the program, not in it: that may not exceed 2 GB, and weights in it would be constants to fold.
        np.savez(unfinished / "weights.npz", **{name: np.asarray(leaf) for name, leaf in weights.items()})
        about = describe(loaded, settings, length, inputs)
        (unfinished / "sampler.json").write_text(json.dumps(about, indent=2) + "\n")
        tokenize = {None: "", "bytes": ROWS + BYTES}.get(about["tokenizer"], ROWS + TOKENIZER)
        (unfinished / "run.py").write_text(RUN.replace("# TOKENIZE\n", tokenize))
        # What jax.export reads its files by, but does not bring along; found beside run.py by being there.
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(reader.origin).parent, unfinished / "flatbuffers", ignore=ignored)


def sampler(
    loaded: Loaded, settings: Settings, length: int
) -> tuple[Callable[[dict[str, jax.Array], dict[str, jax.Array]], jax.Array], dict[str, jax.ShapeDtypeStruct]]:
    """Sampling as one pure function, the same as :class:`sample.generation.Generation` with these settings.

    Returns:
        (sample, inputs): a function of weights by name and inputs by name that gives sounds [b, length, channels], and
        the shapes of these inputs, b a symbol; which there are depends on the model and the settings.
    """
    model, config, guidance = loaded.model, loaded.config, settings.make_guidance(loaded)
    (b,) = export.symbolic_shape("b")
    inputs = {"seed": jax.ShapeDtypeStruct((), np.uint32), "items": jax.ShapeDtypeStruct((b,), np.uint32)}
    negative = None
    if loaded.tokenizer is not None:
        from archijax.text import tokenize

        inputs["tokens"] = jax.ShapeDtypeStruct((b, config.text.max_length), np.int32)
        inputs["token_mask"] = jax.ShapeDtypeStruct((b, config.text.max_length), bool)
        if model.cond_drop_prob > 0:
            inputs["empty"] = jax.ShapeDtypeStruct((b,), bool)
        if settings.steers_away and guidance is not None:
            tokens, mask = tokenize(loaded.tokenizer, [settings.negative_prompt], config.text.max_length)
            negative = {"tokens": tokens, "token_mask": mask}
    if guidance is not None:
        inputs["guidance"] = jax.ShapeDtypeStruct((b,), np.float32)
    names = {"tokens": "tokens", "token_mask": "token_mask", "empty": "embedding_mask"}

    def one(variables: dict[str, Any], seed: jax.Array, given: dict[str, jax.Array]) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed), given["items"])
        guided = 1.0
        if guidance is not None:
            guided = Guidance(given["guidance"], guidance.rescale, guidance.interval, guidance.sequential)
        return model.sample(
            variables, key[None], shape=(1, length, config.channels), num_steps=settings.num_steps,
            sampler=settings.make_sampler(), timestep_spacing=settings.timestep_spacing, guidance=guided, negative=negative,
            clamp=settings.clamp, threshold=settings.threshold, window=settings.window(loaded),
            **{theirs: given[ours][None] for ours, theirs in names.items() if ours in given},
        )[0]  # fmt: skip

    def sample(weights: dict[str, jax.Array], inputs: dict[str, jax.Array]) -> jax.Array:
        nested = unflatten_dict(weights, sep=".")
        variables = {collection: nested.get(collection, {}) for collection in loaded.variables}
        each = {name: value for name, value in inputs.items() if name != "seed"}
        # Item by item, because nets take no symbol for the number of items; what is compiled is one batch.
        return jax.vmap(one, in_axes=(None, None, 0))(variables, inputs["seed"], each)

    return sample, inputs


def describe(
    loaded: Loaded, settings: Settings, length: int, inputs: dict[str, jax.ShapeDtypeStruct]
) -> dict[str, Any]:
    """What sampler.json says."""
    guidance, text = settings.make_guidance(loaded), getattr(loaded.config, "text", None)
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
        "output": {"shape": ["b", length, loaded.config.channels], "type": "float32", "meaning": "sounds, not clipped"},
        "sample_rate": loaded.config.sample_rate,
        "guidance": None if guidance is None else guidance.scale,
        "tokenizer": None if text is None else text.tokenizer,
        "max_length": None if text is None else text.max_length,
        "placeholder_tokens": None if text is None else list(text.placeholder_tokens),
        "platforms": PLATFORMS,
        "jax": jax.__version__,
        "settings": asdict(settings),
    }  # fmt: skip


RUN = '''\
"""Makes WAV files with the sampler beside this file; needs jax and numpy alone.

    python run.py SEED [PROMPT ...]

or import it and call sample(["warm pad", "drums"], seed=1), float32 [prompts, time, channels]. sampler.json says what
goes into the program and what comes out. JAX reads it for at least half a year of releases after the one that wrote it.
"""

import json
import re
import sys
import wave
from pathlib import Path

import jax
import numpy as np
from jax import export

HERE = Path(__file__).resolve().parent
ABOUT = json.loads((HERE / "sampler.json").read_text())
PROGRAM = jax.jit(export.deserialize(bytearray((HERE / "sampler.jaxexport").read_bytes())).call)
with np.load(HERE / "weights.npz") as file:
    WEIGHTS = jax.device_put(dict(file))


# TOKENIZE
def sample(prompts=("",), seed=0, item=0, guidance=ABOUT["guidance"]):
    count = len(prompts)
    inputs = {"seed": np.uint32(seed), "items": np.full(count, item, np.uint32)}
    if "tokens" in ABOUT["inputs"]:
        inputs["tokens"], inputs["token_mask"] = tokenize(prompts)
    if "empty" in ABOUT["inputs"]:
        inputs["empty"] = np.array([not prompt.strip() for prompt in prompts])
    if "guidance" in ABOUT["inputs"]:
        inputs["guidance"] = np.full(count, guidance, np.float32)
    return np.asarray(PROGRAM(WEIGHTS, inputs))


if __name__ == "__main__":
    if len(sys.argv) < 2 or not sys.argv[1].isdecimal():
        sys.exit(__doc__)
    for number, sound in enumerate(sample(sys.argv[2:] or [""], int(sys.argv[1]))):
        with wave.open(f"{number}.wav", "wb") as file:
            file.setparams((sound.shape[1], 2, ABOUT["sample_rate"], 0, "NONE", ""))
            file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
        print(f"{number}.wav")
'''

ROWS = """\
def rows(prompts, ids_of, padding, end):
    # Words that the model has learned beside those of its vocabulary have ids below zero.
    words, length = ABOUT["placeholder_tokens"], ABOUT["max_length"]
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    tokens, mask = np.full((len(prompts), length), padding, np.int32), np.zeros((len(prompts), length), bool)
    for row, used, prompt in zip(tokens, mask, prompts):
        ids = []
        for piece in re.split(f"({pattern})", prompt) if words else [prompt]:
            ids += [-1 - words.index(piece)] if piece in words else ids_of(piece) if piece else []
        ids = ids[: length - 1] + [end]
        row[: len(ids)], used[: len(ids)] = ids, True
    return tokens, mask


"""

BYTES = """\
def tokenize(prompts):
    return rows(prompts, lambda piece: [byte + 3 for byte in piece.encode()], 0, 1)


"""

TOKENIZER = """\
def tokenize(prompts):
    # The only thing here that needs more than jax and numpy: the vocabulary of a pretrained text encoder.
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ABOUT["tokenizer"])

    def ids_of(piece):
        return tokenizer(piece, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    return rows(prompts, ids_of, tokenizer.pad_token_id, tokenizer.eos_token_id)


"""

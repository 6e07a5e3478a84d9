"""Makes WAV files with the sampler in this folder. The only required packages are jax and numpy.

    python run.py SEED [PROMPT ...]

The command writes one file per prompt. In Python, ``from run import sample`` imports the sampler, and
``sample(["warm pad", "drums"], seed=1)`` returns float32 [prompts, time, channels]. sampler.json describes the inputs
and the output of the program. JAX can read the program for at least half a year after the export.
"""

import json
import re
import sys
import wave
import zlib
from functools import cache
from pathlib import Path

import jax
import numpy as np
from jax import export

HERE = Path(__file__).resolve().parent


@cache
def load():
    """Returns (the contents of sampler.json, the program, the weights of the program)."""
    about = json.loads((HERE / "sampler.json").read_text())
    program = jax.jit(export.deserialize(bytearray((HERE / "sampler.jaxexport").read_bytes())).call)
    with np.load(HERE / "weights.npz") as file:
        return about, program, jax.device_put(dict(file))


def tokenize(prompts, about):
    """Turns prompts into (tokens int32, mask bool), both [prompts, max_length]. ``about`` is the contents of
    sampler.json."""
    if about["tokenizer"] == "bytes":
        padding, end = 0, 1

        def ids_of(piece):
            return [byte + 3 for byte in piece.encode()]

    elif about["tokenizer"] == "words":
        padding, end, hashes = 0, 1, 4094

        def ids_of(piece):
            words = re.findall(r"[^\W\d_]+#?|\d|[^\w\s]", piece)
            return [2 + zlib.crc32((w if len(w) == 1 else w.lower()).encode()) % hashes for w in words]

    else:
        # Only the vocabulary of a pretrained text encoder needs another package than jax and numpy.
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(about["tokenizer"])
        padding, end = tokenizer.pad_token_id, tokenizer.eos_token_id

        def ids_of(piece):
            return tokenizer(piece, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    # Placeholder tokens have negative ids, outside of the vocabulary.
    words, length = about["placeholder_tokens"], about["max_length"]
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    tokens, mask = np.full((len(prompts), length), padding, np.int32), np.zeros((len(prompts), length), bool)
    for row, used, prompt in zip(tokens, mask, prompts, strict=True):
        ids = []
        for piece in re.split(f"({pattern})", prompt) if words else [prompt]:
            ids += [-1 - words.index(piece)] if piece in words else ids_of(piece) if piece else []
        ids = [*ids[: length - 1], end]
        row[: len(ids)], used[: len(ids)] = ids, True
    return tokens, mask


def sample(prompts=("",), seed=0, item=0, guidance=None):
    """Returns a sound for each prompt: float32 [prompts, time, channels], not clipped. Each number `item` gives
    different sounds. `guidance` is the guidance scale; None: the scale in sampler.json."""
    about, program, weights = load()
    count = len(prompts)
    inputs = {"seed": np.uint32(seed), "items": np.full(count, item, np.uint32)}
    if "tokens" in about["inputs"]:
        inputs["tokens"], inputs["token_mask"] = tokenize(prompts, about)
    if "empty" in about["inputs"]:
        inputs["empty"] = np.array([not prompt.strip() for prompt in prompts])
    if "guidance" in about["inputs"]:
        inputs["guidance"] = np.full(count, about["guidance"] if guidance is None else guidance, np.float32)
    return np.asarray(program(weights, inputs))


if __name__ == "__main__":
    if len(sys.argv) < 2 or not sys.argv[1].isdecimal():
        sys.exit(__doc__)
    for number, sound in enumerate(sample(sys.argv[2:] or [""], int(sys.argv[1]))):
        with wave.open(f"{number}.wav", "wb") as file:
            file.setparams((sound.shape[1], 2, load()[0]["sample_rate"], 0, "NONE", ""))
            file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
        print(f"{number}.wav")

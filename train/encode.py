"""Writes latents of sounds: python -m train.encode CONFIG.py --autoencoder MODEL --data DIR --out DIR [overrides]"""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import tyro

from archijax import cli
from archijax.configs import build
from archijax.errors import InputError
from archijax.training.pmap import check_divides
from train.__main__ import load_config
from train.config import TrainConfig
from train.dataset import Crops, Sounds, draw_prompt
from train.initial import autoencoder
from train.latents import (
    check_settings,
    embedding_path,
    fingerprint,
    is_written,
    latent_path,
    record_path,
    records,
    settings,
    text_settings,
    text_time,
    write_array,
    write_record,
)
from train.manifest import Entry, Manifest, check_fields, index
from train.prompts import tokenizer
from train.vocabulary import fields_of, with_found_values

USAGE = """\
usage: python -m train.encode CONFIG.py[:NAME] --autoencoder MODEL --data DIR --out DIR [--texts N]
                              [--shard I --of N] [overrides]

Writes the latents of the audio files under --data to --out. CONFIG.py is the config of a latent training, and MODEL its
trained autoencoder. With --texts N it also draws N prompts per crop, as training does, and writes their embeddings. It
needs a frozen text encoder (model.text.tokenizer other than bytes). Texts can be added to a folder that has only
latents. The same command continues an interrupted run, and encodes new captions without changing latents. With --of N,
N processes share the files, on one machine or many. Each process has its own --shard from 0 to N - 1.

python -m train CONFIG.py --autoencoder MODEL --data OUT trains on the latents instead of sounds. Each time that it uses
a crop, it draws one of the crop's N texts. Without stored texts, it draws and encodes prompts at every step.

exit status: 0 finished, 2 wrong input or unwritable output, 130 stopped by Ctrl-C."""


@dataclass(frozen=True)
class Command:
    """Writes the latents of a folder of sounds, and embeddings of prompts. The same command continues an interrupted
    run."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    data: Path
    """The folder of sound files, with any subfolders."""
    out: Path
    """The folder for the latents."""
    texts: int = 0
    """The number of prompts per crop whose embeddings are written; 0: no embeddings, so that the training encodes
    prompts. The seed decides which prompts are drawn."""
    shard: int = 0
    """The number of this process, counted from 0."""
    of: int = 1
    """The number of processes that share the files."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the program with the given arguments (without the program's name) and returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def program() -> int:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE)
            return 0 if arguments else 2
        path, *rest = arguments
        if path.startswith("-"):
            raise InputError(f"The first argument must be the config file of a latent training, not {path}.")
        if (count := sum(part == "--data" or part.startswith("--data=") for part in rest)) > 1:
            raise InputError(f"--data is given {count} times: run this program once per folder, with its own --out.")
        default = Command(load_config(path), tyro.MISSING, tyro.MISSING)
        command = cli.parse(Command, rest, prog=f"python -m train.encode {path}", default=default)
        encode(command.config, command.data, command.out, command.shard, command.of, command.texts)
        return 0

    return cli.run(program, interrupted="interrupted; the same command continues.")


def encode(config: TrainConfig, data: str | Path, out: str | Path, shard: int = 0, of: int = 1, texts: int = 0) -> None:
    """Writes latents of the files under `data` to `out`; see `train.latents`. The files are shared between `of`
    processes, and this process has the number `shard`.

    For each crop, the embeddings of `texts` prompts are written too. Files that are already encoded are skipped. Files
    that cannot be read are left out and listed on stderr.

    Raises:
        InputError: a setting is wrong, or the data, the autoencoder, the text encoder or the contents of `out` do not
            fit the settings.
        OSError: `out` cannot be written.
    """
    out = Path(out)
    if config.model.autoencoder is None:
        raise InputError("Only a latent model has an autoencoder to encode with: give the config of one.")
    trained = config.autoencoder or config.init_from
    if trained is None:
        raise InputError("Give the trained autoencoder by --autoencoder MODEL, its run or folder, or a latent model's.")
    if not 0 <= shard < of:
        raise InputError(f"--shard {shard} --of {of} does not exist: shards are counted from 0.")
    if texts < 0:
        raise InputError(f"--texts is {texts}, but must be 0 or more.")
    check_divides(config.batch_size, len(jax.local_devices()))
    facts = {"settings": settings(config), "texts": None}
    if texts:
        facts["texts"] = {"count": texts, "settings": text_settings(config)}
    weights = autoencoder(trained, config.model.autoencoder)
    facts["weights"] = fingerprint(weights)
    if texts:
        encoder = config.model.load_frozen()["embedder"]
        facts["texts"]["weights"] = fingerprint(encoder)
    for record in records(out):
        check_settings(out, facts["settings"], record["settings"])
        if record["weights"] != facts["weights"]:
            raise InputError(f"{out} holds latents of another autoencoder: encode into another folder.")
        _check_texts(out, facts["texts"], record.get("texts"))
    fields = fields_of(config)
    manifest = index(data, out / "manifest.json", config.data.captions, config.data.columns, fields)
    check_fields(manifest, fields)
    model = build(with_found_values(config, manifest).model)
    facts |= {
        "shard": shard, "of": of, "files": manifest.digest, "channels": model.autoencoder.latent_channels,
        "frames": config.data.length // model.autoencoder.downsample_factor,
    }  # fmt: skip
    record = record_path(out, shard, of)
    write_record(record, (), finished=False, failed=[], **facts)
    # The records of a run with another number of processes are obsolete.
    for other in set(out.glob("latents-*-of-*.json")) - {record_path(out, number, of) for number in range(of)}:
        other.unlink(missing_ok=True)

    entries = manifest.entries[shard::of]
    to_encode = tuple(entry for entry in entries if not is_written(latent_path(out, entry.name), entry.modified))
    to_embed = tuple(
        entry for entry in entries if texts and not is_written(embedding_path(out, entry.name), text_time(entry))
    )
    count = len(entries) - len({entry.name for entry in to_encode + to_embed})
    cli.say(f"{len(entries)} files, of which {count} are encoded already")
    failed = {}
    if to_encode:
        failed = _encode_files(config, model, weights, Manifest(manifest.root, to_encode), out)
    to_embed = tuple(entry for entry in to_embed if entry.name not in failed)
    if to_embed:
        _embed_files(config, texts, model.model.embedder, encoder, Manifest(manifest.root, to_embed), out)
    done = tuple(entry for entry in entries if entry.name not in failed)
    write_record(record, done, finished=True, failed=sorted(failed.items()), **facts)
    cli.say(f"encoded {len(done)} files into {out}, {len(failed)} could not be read")


def _check_texts(out: Path, ours: dict | None, theirs: dict | None) -> None:
    """Raises InputError if the embeddings in a folder were made with settings ``theirs`` that differ from ``ours``."""
    if theirs is None:
        return
    count = 0 if ours is None else ours["count"]
    if count != theirs["count"]:
        raise InputError(
            f"{out} holds {theirs['count']} texts of every crop, but --texts is {count}: give --texts "
            f"{theirs['count']}, or encode into another folder."
        )
    check_settings(out, ours["settings"], theirs["settings"], "texts")
    if ours["weights"] != theirs["weights"]:
        raise InputError(f"{out} holds texts of another encoder: encode into another folder.")


def _over_devices(function: Callable, variables: Any) -> Callable:
    """Returns a function from a batch on the host to `function(variables, batch)`, which all devices of this process
    compute."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), "items")
    split, everywhere = (jax.NamedSharding(mesh, spec) for spec in (jax.P("items"), jax.P()))
    variables, function = jax.device_put(variables, everywhere), jax.jit(function)
    return lambda *batch: np.asarray(function(variables, *jax.device_put(batch, split)))


def _encode_files(config: TrainConfig, model: Any, weights: dict, manifest: Manifest, out: Path) -> dict[str, str]:
    """Writes the latents of every file of the manifest. Returns {name: reason} for files that cannot be read."""
    crops, sounds, failed = Crops(manifest, config.data), Sounds(manifest, config.data), {}
    silence = np.zeros((config.data.length, config.data.channels), np.float32)

    def encoded(weights, audio):
        return model.autoencoder.encode(weights, audio)[0].astype(jnp.float32)

    latents = _over_devices(encoded, weights)

    def read(crop):
        file, i, _ = crop
        try:
            return manifest.entries[file].name, sounds.read(manifest.entries[file], i * config.data.length)
        except InputError as error:
            return manifest.entries[file].name, error

    def latents_of_crops():
        stream = (
            grain.MapDataset.source(crops)
            .map(read)
            .batch(config.batch_size, batch_fn=list)
            .to_iter_dataset(grain.ReadOptions(config.data.workers, config.data.prefetch))
        )
        for batch in stream:
            audio = [silence if isinstance(sound, InputError) else sound for _, sound in batch]
            # Silence fills up the last batch, so that all batches have one shape and one compilation.
            audio += [silence] * (config.batch_size - len(batch))
            for (path, sound), latent in zip(batch, latents(np.stack(audio)), strict=False):
                if isinstance(sound, InputError) and path not in failed:
                    failed[path] = str(sound)
                    cli.say(f"skipping {path}: {sound}")
                yield latent

    for entry, array in _by_file(manifest, crops, latents_of_crops(), "encoding"):
        if entry.name not in failed:
            write_array(latent_path(out, entry.name), entry.modified, array)
    return failed


def _embed_files(config: TrainConfig, texts: int, embedder: Any, weights: dict, manifest: Manifest, out: Path) -> None:
    """Draws prompts for every file of the manifest, and writes the embeddings."""
    crops, tokenize = Crops(manifest, config.data), tokenizer(config.model)
    # Float32, so that the embeddings do not depend on the type in which the model computes.
    embedder = embedder.clone(dtype=jnp.float32)

    def embedded(weights, tokens, mask):
        return embedder.apply({"params": weights}, tokens, mask).astype(jnp.float16)

    embeddings = _over_devices(embedded, weights)

    def prompt(crop, j):
        file, i, count = crop
        entry = manifest.entries[file]
        rng = np.random.default_rng([config.seed, i, j, *entry.name.encode(errors="surrogateescape")])
        return draw_prompt(entry, config.data, i, count, rng, j)

    def embeddings_of_crops():
        for first in range(0, len(crops), config.batch_size):
            batch = [crops[k] for k in range(first, min(first + config.batch_size, len(crops)))]
            filling = [""] * (config.batch_size - len(batch))
            every = [embeddings(*tokenize([prompt(crop, j) for crop in batch] + filling)) for j in range(texts)]
            yield from np.stack(every, axis=1)[: len(batch)]

    for entry, array in _by_file(manifest, crops, embeddings_of_crops(), "embedding"):
        write_array(embedding_path(out, entry.name), text_time(entry), array)


def _by_file(
    manifest: Manifest, crops: Crops, arrays: Iterable[np.ndarray], what: str
) -> Iterator[tuple[Entry, np.ndarray]]:
    """Yields (file, array [crops * n, ...]). The array concatenates the arrays [n, ...] of all crops of the file."""
    parts = []
    with cli.bar(len(crops), what, "crop") as bar:
        for k, part in enumerate(arrays):
            file, i, count = crops[k]
            parts.append(part)
            if i == count - 1:
                yield manifest.entries[file], np.concatenate(parts)
                parts = []
            bar.update()


if __name__ == "__main__":
    sys.exit(main())

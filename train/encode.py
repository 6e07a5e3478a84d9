"""python -m train.encode CONFIG.py --autoencoder MODEL --data DIR --out DIR [--shard I --of N] [overrides]"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import grain
import jax
import numpy as np
import tyro

from archijax import cli
from archijax.errors import InputError
from train.__main__ import load_config
from train.config import TrainConfig
from train.dataset import Crops, Sounds
from train.initial import autoencoder
from train.latents import (
    check_settings,
    fingerprint,
    latent_path,
    record_path,
    records,
    settings,
    write_latents,
    write_record,
)
from train.manifest import Manifest, index
from train.parallel import check_divides

USAGE = """\
usage: python -m train.encode CONFIG.py[:NAME] --autoencoder MODEL --data DIR --out DIR [--shard I --of N] [overrides]

Writes the latents of the audio files under --data to --out, as CONFIG.py, the config of a latent training, crops them,
with the trained autoencoder MODEL. The same command continues where it was stopped. With --of N the files are shared
by N processes, on one machine or many, each started with its own --shard from 0 to N - 1.

python -m train CONFIG.py --autoencoder MODEL --data OUT trains on them instead of sounds. Prompts are drawn from the
tags and encoded anew at every step, so embeddings of text are not written.

exit status: 0 finished, 2 wrong input or unwritable output, 130 stopped by Ctrl-C."""


@dataclass(frozen=True)
class Command:
    """Writes the latents of a folder of audio. The same command continues where it was stopped."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    data: Path
    """Folder of audio files, nested in any way."""
    out: Path
    """Folder of the latents."""
    shard: int = 0
    """Number of this process, from 0."""
    of: int = 1
    """Processes that share the files."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the program with the given arguments (without its name) and returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def program() -> int:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE)
            return 0 if arguments else 2
        path, *rest = arguments
        if path.startswith("-"):
            raise InputError(f"The first argument must be the config file of a latent training, not {path}.")
        default = Command(load_config(path), tyro.MISSING, tyro.MISSING)
        command = cli.parse(Command, rest, prog=f"python -m train.encode {path}", default=default)
        encode(command.config, command.data, command.out, command.shard, command.of)
        return 0

    return cli.run(program, interrupted="interrupted; the same command continues.")


def encode(config: TrainConfig, data: str | Path, out: str | Path, shard: int = 0, of: int = 1) -> None:
    """Writes the latents of the sound files under `data` to `out`, all or one process's share; see `train.latents`.

    Files that have theirs already are passed over; those that cannot be read are named and left out.

    Raises:
        InputError: a setting, the data, the autoencoder or what lies in `out` does not fit.
        OSError: `out` cannot be written.
    """
    out = Path(out)
    if not hasattr(config.model, "autoencoder"):
        raise InputError("Only a latent model has an autoencoder to encode with: give the config of one.")
    if config.autoencoder is None:
        raise InputError("Give the trained autoencoder by --autoencoder MODEL, its run or folder.")
    if not 0 <= shard < of:
        raise InputError(f"--shard {shard} --of {of} does not exist: shards are counted from 0.")
    check_divides(config.batch_size, len(jax.local_devices()))
    weights = autoencoder(config.autoencoder, config.model.autoencoder)
    facts = {"settings": settings(config), "weights": fingerprint(weights)}
    for record in records(out):
        check_settings(out, facts["settings"], record["settings"])
        if record["weights"] != facts["weights"]:
            raise InputError(f"{out} holds latents of another autoencoder: encode into another folder.")
    manifest = index(data, out / "manifest.json")
    model = config.model.build()
    facts |= {
        "shard": shard, "of": of, "files": manifest.digest, "channels": model.latent_channels,
        "frames": config.data.length // model.downsample_factor,
    }  # fmt: skip
    record = record_path(out, shard, of)
    write_record(record, (), finished=False, failed=[], **facts)
    # Those of a run by another number of processes hold nothing that is not said again.
    for other in set(out.glob("latents-*-of-*.json")) - {record_path(out, number, of) for number in range(of)}:
        other.unlink(missing_ok=True)

    entries = manifest.entries[shard::of]
    todo = tuple(entry for entry in entries if not _is_written(out, entry))
    cli.say(f"{len(entries)} files, of which {len(entries) - len(todo)} are encoded already")
    failed = {}
    if todo:
        failed = _encode_files(config, model, weights, Manifest(manifest.root, todo), out)
    done = tuple(entry for entry in entries if entry.path not in failed)
    write_record(record, done, finished=True, failed=sorted(failed.items()), **facts)
    cli.say(f"encoded {len(done)} files into {out}, {len(failed)} could not be read")


def _is_written(out: Path, entry: Any) -> bool:
    path = latent_path(out, entry.path)
    # As old as the sound that they are of: of another one, be it older or newer, there are none.
    return path.exists() and path.stat().st_mtime_ns == entry.modified


def _encode_files(config: TrainConfig, model: Any, weights: dict, manifest: Manifest, out: Path) -> dict[str, str]:
    """Writes the latents of every file of the manifest; gives the reasons why of some there are none."""
    crops, sounds = Crops(manifest, config.data), Sounds(manifest, config.data)

    def read(crop):
        file, i, _ = crop
        try:
            return crop, sounds.read(manifest.entries[file], i * sounds.length)
        except InputError as error:
            return crop, error

    stream = (
        grain.MapDataset.source(crops)
        .map(read)
        .batch(config.batch_size, batch_fn=list)
        .to_iter_dataset(grain.ReadOptions(config.data.workers, config.data.prefetch))
    )
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), "items")
    spread, everywhere = (jax.NamedSharding(mesh, spec) for spec in (jax.P("items"), jax.P()))
    variables = jax.device_put({"frozen": {"autoencoder": weights}}, everywhere)
    latents_of = jax.jit(model.latents)
    failed, parts = {}, []
    silence = np.zeros((config.data.length, config.data.channels), np.float32)
    with cli.bar(len(crops), "encoding", "crop") as bar:
        for batch in stream:
            audio = [silence if isinstance(sound, InputError) else sound for _, sound in batch]
            # The last batch is filled up, so that one compilation serves all.
            audio += [silence] * (config.batch_size - len(batch))
            made = np.asarray(latents_of(variables, {"audio": jax.device_put(np.stack(audio), spread)}))
            for ((file, i, count), sound), latent in zip(batch, made, strict=False):
                entry = manifest.entries[file]
                parts.append(latent)
                if isinstance(sound, InputError) and entry.path not in failed:
                    failed[entry.path] = str(sound)
                    cli.say(f"skipping {entry.path}: {sound}")
                if i == count - 1:
                    if entry.path not in failed:
                        write_latents(out, entry, np.concatenate(parts))
                    parts = []
            bar.update(len(batch))
    return failed


if __name__ == "__main__":
    sys.exit(main())

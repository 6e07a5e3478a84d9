"""Makes batches of crops and prompts from a manifest. The batches are sharded, seeded and resumable."""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence

import grain
import numpy as np

from archijax.contract import ItemSource
from archijax.errors import InputError
from train.dataset import Crops, DataConfig, Sounds
from train.manifest import Manifest
from train.prompts import Tokenize

# A function from {name: [a value or None for each crop]} to {name: array [b, ...]}.
EncodeFields = Callable[[Mapping[str, list[str | float | None]]], Mapping[str, np.ndarray]]


def batches(
    manifest: Manifest,
    config: DataConfig,
    *,
    batch_size: int,
    seed: int,
    tokenize: Tokenize | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
    source: ItemSource | None = None,
    fields: Sequence[str] = (),
    encode_fields: EncodeFields | None = None,
) -> grain.DatasetIterator:
    """Returns an endless iterator of batches. Each epoch has its own order, which depends only on the seed.

    With several folders, the number of crops from a folder is proportional to the folder's weight. Each folder has its
    own epochs.

    All processes use the same order of crops, cut into batches of batch_size crops. In step k, process i of n gets the
    batch ``k * n + i``. The batches of all processes together thus equal the batch of a single process with
    ``batch_size * n`` crops. A batch can contain the end of an epoch and the start of the next epoch. The number of
    threads does not change the batches.

    The iterator's ``get_state()`` returns a dict for JSON with the number of steps. ``set_state()`` continues at the
    saved step. The number n of processes can change, if ``batch_size * n`` stays the same. ``close()`` ends the threads
    that read files.

    If a file cannot be read, a random crop of another file replaces its crop. The name of the unreadable file is
    printed on stderr once.

    Args:
      manifest: the files, such as the result of `train.manifest.index`.
      config: the settings for crops and prompts.
      batch_size: the number of crops in the batch of this process.
      seed: the seed of all random choices, from 0 to 2**32 - 1.
      tokenize: a function from prompts to tokens [b, n] and mask [b, n] with constant n. This function runs in the
          caller's thread.
      shard_index: the number of this process, from 0.
      shard_count: the number of processes.
      source: the reader of the crops; None: the sounds of the manifest.
      fields: the names of the fields that ``encode_fields`` gets; see `train.dataset.fields_at`.
      encode_fields: a function from the fields of a batch, {name: [a value or None for each crop]}, to a dict of arrays
          [b, ...]. This function runs in the caller's thread.

    Yields:
      Dicts of arrays by name: "audio" float32 [b, t, c] in [-1, 1], or the arrays that the source reads. With
      ``tokenize`` and prompts, a dict also has "tokens" int32 [b, n] and "token_mask" bool [b, n]. The arrays of
      ``encode_fields`` are added.

    Raises:
      InputError: the manifest is empty or an argument is out of range. During the iteration: no file can be read.
    """
    if not manifest.entries:
        raise InputError(f"The manifest of {manifest.root} has no usable file, but needs at least one.")
    if batch_size < 1:
        raise InputError(f"The batch size is {batch_size}, but must be at least 1.")
    if not 0 <= seed < 2**32:
        raise InputError(f"The data seed is {seed}, but must lie between 0 and 2**32 - 1.")
    if not 0 <= shard_index < shard_count:
        raise InputError(f"Process {shard_index} of {shard_count} does not exist: processes are counted from 0.")

    def collate(items):
        columns = {name: [item[name] for item in items] for name in items[0]}
        values = columns.pop("fields", [{}] * len(items))
        arrays = {name: column if name == "prompt" else np.stack(column) for name, column in columns.items()}
        return {**arrays, "fields": {name: [item.get(name) for item in values] for name in fields}}

    def finish(batch):
        columns, prompts = batch.pop("fields"), batch.pop("prompt", None)
        if encode_fields is not None:
            batch.update(encode_fields(columns))
        if tokenize is not None and prompts is not None:
            tokens, mask = tokenize(prompts)
            batch.update(tokens=np.asarray(tokens, np.int32), token_mask=np.asarray(mask, bool))
        return batch

    crops = Crops(manifest, config)
    source = Sounds(manifest, config) if source is None else source
    return iter(
        _order(manifest, crops, seed)
        .random_map(_Loader(manifest, crops, source))
        .batch(batch_size, batch_fn=collate)
        .slice(slice(shard_index, None, shard_count))
        .to_iter_dataset(grain.ReadOptions(num_threads=config.workers, prefetch_buffer_size=config.prefetch))
        # Tokenizers are often not thread-safe. They are fast in comparison with the decoding of sound.
        .map(finish)
    )


def _order(manifest: Manifest, crops: Crops, seed: int) -> grain.MapDataset:
    """Returns the endless sequence of crop numbers. Each folder is shuffled anew in every epoch."""
    sources = np.array([entry.source for entry in manifest.entries])
    orders, weights = [], []
    for number in np.unique(sources):
        files = np.flatnonzero(sources == number)
        first, last = crops.ends[files[0]] - crops.counts[files[0]], crops.ends[files[-1]]
        order = grain.MapDataset.range(int(first), int(last)).seed((seed + int(number)) % 2**32)
        orders.append(order.shuffle().repeat())
        weights.append(manifest.weights[number])
    return orders[0] if len(orders) == 1 else grain.MapDataset.mix(orders, weights).seed(seed)


class _Loader:
    """Reads an item. If the item cannot be read, a random item of the same folder replaces it. Several threads call the
    loader."""

    def __init__(self, manifest, crops, source):
        self.manifest, self.crops, self.source = manifest, crops, source
        self.failed, self.lock = set(), threading.Lock()

    def __call__(self, number, rng):
        crop = self.crops[number]
        try:
            return self._read(*crop, rng)
        except InputError as error:
            self._report(crop[0], error)
        source = self.manifest.entries[crop[0]].source
        # The random numbers, and thus the replacement, depend only on the crop's position in the order.
        for file in rng.permutation(len(self.crops.counts)):
            if self.manifest.entries[file].source != source:
                continue
            try:
                count = int(self.crops.counts[file])
                return self._read(int(file), int(rng.integers(count)), count, rng)
            except InputError as error:
                self._report(int(file), error)
        raise InputError(f"None of the {len(self.crops.counts)} sound files in {self.manifest.root} can be read.")

    def _read(self, file, i, count, rng):
        return self.source.item(self.manifest.entries[file], i, count, rng)

    def _report(self, file, error):
        with self.lock:
            if file not in self.failed:
                self.failed.add(file)
                print(f"replacing: {error} ({len(self.failed)} files have failed)", file=sys.stderr)

"""Reads training items from one or several folders of sounds or latents. Each folder has a weight."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from archijax.cli import weighted
from archijax.errors import InputError
from train.config import TrainConfig
from train.dataset import Sounds
from train.latents import Latents
from train.manifest import Entry, Manifest, check_fields, check_folder
from train.vocabulary import fields_of


class Sources:
    """Reads the items of all data folders. The class is an `archijax.contract.ItemSource`.

    Attributes:
        manifest: the items of all folders.

    Args:
        config: the settings of the run.
        data: the folders, as "DIR" or "DIR:WEIGHT".
        index: a function (folder, number of the folder) that returns the manifest of the sounds in the folder.

    Raises:
        InputError: a folder does not fit the settings, or some folders have sounds and other folders have latents.
    """

    def __init__(self, config: TrainConfig, data: Sequence[str], index: Callable[[Path, int], Manifest]):
        folders, weights = zip(*map(weighted, data), strict=True)
        # All folders are checked first, because indexing a folder can take long.
        for folder in folders:
            check_folder(folder)
        self.latents = [Latents(folder, config) for folder in folders if Latents.lie_in(folder)]
        if self.latents and len(self.latents) < len(folders):
            raise InputError("Some of the folders of --data hold latents and others sounds: all must be of one kind.")
        if len({bool(latents.texts) for latents in self.latents}) > 1:
            raise InputError("Some of the latents have texts and others have none: encode all with the same --texts.")
        if len(folders) > 1 and config.data.captions is not None:
            raise InputError(
                f"data.captions is {config.data.captions}, but is for one folder: put a metadata.csv into each."
            )
        if self.latents:
            manifests = [latents.manifest for latents in self.latents]
            self._readers = self.latents
        else:
            manifests = [index(folder, number) for number, folder in enumerate(folders)]
            self._readers = [Sounds(manifest, config.data) for manifest in manifests]
        self.manifest = joined(manifests, weights)
        check_fields(self.manifest, fields_of(config))

    def item(self, file: Entry, crop: int, crops: int, rng: np.random.Generator) -> dict[str, np.ndarray | str | dict]:
        """Reads the item of a crop from the data folder that contains the sound file of the crop."""
        return self._readers[file.source].item(file, crop, crops, rng)

    def check(self, frozen: Mapping[str, Any]) -> None:
        """Raises InputError if latents or embeddings were made with frozen variables other than `frozen`."""
        for latents in self.latents:
            latents.check(frozen)


def joined(manifests: Sequence[Manifest], weights: Sequence[float]) -> Manifest:
    """Joins the manifests of several folders into one. Raises InputError if a folder occurs twice."""
    if len(manifests) == 1:
        return manifests[0]
    roots = [manifest.root for manifest in manifests]
    if len(set(roots)) < len(roots):
        raise InputError(f"{max(roots, key=roots.count)} is there twice: give it once, with its weight.")
    return Manifest(
        ", ".join(roots),
        tuple(replace(entry, source=number) for number, part in enumerate(manifests) for entry in part.entries),
        tuple(skipped for part in manifests for skipped in part.skipped),
        tuple(weights),
    )

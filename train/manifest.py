"""The list of sound files in a folder, kept as JSON so that the next run reads only what has changed."""

import hashlib
import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from archijax.atomic import replacing
from archijax.audio import ffmpeg, files
from archijax.audio.formats import FFMPEG
from archijax.errors import InputError, listed
from train.captions import SIDECARS, TABLES, Notes

ALWAYS = frozenset({"caption", "title", "seconds_start", "seconds_total"})  # fields that need no table
_MARKS = frozenset({"config.json", "manifest.json", "checkpoints"})  # what tells the folder of a run
_WRITTEN = frozenset({"checkpoints", "samples", "tensorboard", "profile"})  # the folders that a run writes into its own


@dataclass(frozen=True)
class Entry:
    """One item: a usable file or a part of one, and what is written about it.

    Of the file: path relative to the root, with slashes, size in bytes, time of modification in ns, sample rate,
    channels and tags. Of the item: its frames, the first of them and, of a part, those of the whole file; its captions
    and fields (`train.captions`).
    """

    path: str
    size: int
    modified: int
    frames: int
    sample_rate: int
    channels: int
    tags: dict[str, str]
    first: int = 0
    whole: int | None = None
    captions: tuple[str, ...] = ()
    fields: dict[str, str | float] = field(default_factory=dict)
    source: int = 0
    """Which of several folders it is of."""

    @property
    def name(self) -> str:
        """Tells the items of a manifest apart."""
        return self.path if self.whole is None else f"{self.path}@{self.first}-{self.first + self.frames}"

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


def read_entry(content: Mapping[str, Any]) -> Entry:
    """An entry of what `asdict` made of it, and JSON of that."""
    return Entry(**{**content, "captions": tuple(content["captions"])})


@dataclass(frozen=True)
class Manifest:
    """The items under ``root``, sorted by path and place in their file; (path, reason) of files that are not usable."""

    root: str
    entries: tuple[Entry, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    weights: tuple[float, ...] = (1.0,)
    """Of the folders, where there are several: in these proportions crops are taken of them."""

    @property
    def seconds(self) -> float:
        return sum(entry.seconds for entry in self.entries)

    @property
    def digest(self) -> str:
        """Tells two sets of items apart; the training data depends on nothing else of them."""
        facts = [(e.source, e.name, e.size, e.frames, e.captions, e.fields) for e in self.entries]
        return hashlib.sha256(json.dumps([self.weights, facts]).encode()).hexdigest()


def index(
    folder: str | Path,
    manifest_path: str | Path,
    table: str | Path | None = None,
    columns: Sequence[str] = (),
    fields: Sequence[str] = (),
) -> Manifest:
    """Lists the sound files in a folder and below, of `files.SUFFIXES` in any case, and what is written about them.

    Left out are hidden files and folders, the folder of the manifest, and folders that other runs have written: what a
    run makes is never what it learns from. So are, if the folder is one of these itself, the parts that a run writes.

    Only files that are new, or differ in size or time from the manifest of the last run, are opened. Files of which
    nothing decodes are named on stderr and left out. The manifest is rewritten if anything has changed.

    Args:
        folder: of the sounds.
        manifest_path: where the list is kept.
        table: of captions and fields, in place of those in the folder; see `train.captions.Notes`, as for the others.
        columns: of the tables.
        fields: those that are used.

    Raises:
        InputError: no such folder, no usable file in it, wrong tables, or the manifest cannot be written.
    """
    folder, manifest_path = Path(folder), Path(manifest_path)
    check_folder(folder)
    there = _walk(folder, manifest_path.parent)
    # Wrong tables are told before the files are looked through, which can take long.
    tables = there.tables if table is None else [Path(table)]
    notes = Notes(folder, [path for path, *_ in there.sounds], tables, columns, fields)
    old = _load(manifest_path)
    results = _examined(folder, there.sounds, old.entries if old else ())
    headers = [result for result in results if isinstance(result, Entry)]
    skipped = tuple(sorted(there.skipped + [result for result in results if not isinstance(result, Entry)]))
    for path, reason in skipped:
        print(f"skipping {path}: {reason}", file=sys.stderr)
    undecoded = there.undecoded
    if not headers:
        kinds = ", ".join(sorted(files.SUFFIXES))
        found = f"{_counted(undecoded)} need ffmpeg" if undecoded else f"{len(skipped)} skipped"
        raise InputError(f"{folder} holds no usable sound file ({found}); looked for {kinds}.")
    manifest = Manifest(str(folder.resolve()), _items(folder, headers, notes, there.sidecars), skipped)
    hours = manifest.seconds / 3600
    facts = [f"{len(headers)} files", f"{hours:.2f} hours", f"{len(skipped)} files skipped"]
    foreign = Counter(Path(entry.path).suffix.lower() for entry in headers)
    foreign = Counter({suffix: count for suffix, count in foreign.items() if suffix in FFMPEG})
    facts += [f"{_counted(foreign)} read through ffmpeg"] if foreign else []
    facts += [f"{_counted(undecoded)} left out, which need ffmpeg"] if undecoded else []
    print(f"{folder}: {', '.join(facts + _written(manifest, notes))}", file=sys.stderr)
    if manifest != old:
        _save(manifest, manifest_path)
    return manifest


def _examined(folder, sounds, entries):
    """For each (path, size, modified) the entry of the whole file, or (path, reason) if it is not usable."""
    known = {
        (entry.path, entry.size, entry.modified): replace(
            entry, frames=entry.whole or entry.frames, first=0, whole=None, captions=(), fields={}
        )
        for entry in entries
    }
    fresh = [file for file in sounds if file not in known]
    # libsndfile and the disk work outside of Python's lock: more threads than cores hide a slow disk.
    pool = ThreadPoolExecutor(16)
    try:
        examined = pool.map(lambda file: _examine(folder, *file), fresh)
        bar = tqdm(examined, total=len(fresh), desc="indexing", unit="file", disable=not fresh)
        known.update(zip(fresh, bar, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)
    return [known[file] for file in sounds]


def _items(folder, headers, notes, sidecars):
    """The items of the files, with what is written about them."""
    items, beyond = {}, []
    for header in headers:
        for note in notes.of(header.path, [folder / path for path in sidecars.get(header.path, ())]):
            item = header
            if (note.start, note.end) != (None, None):
                first = round((note.start or 0.0) * header.sample_rate)
                last = header.frames if note.end is None else round(note.end * header.sample_rate)
                frames = min(last, header.frames) - first
                if frames < 1:
                    beyond.append(f"{header.path} from {note.start or 0.0:g} s")
                    continue
                item = replace(header, first=first, frames=frames, whole=header.frames)
            # Parts that end beyond the end of the file may be the same.
            captions, fields = (known.captions, known.fields) if (known := items.get(item.name)) else ((), {})
            items[item.name] = replace(item, captions=captions + note.captions, fields={**fields, **note.fields})
    if beyond:
        print(f"{len(beyond)} parts begin after the end of their file: {listed(beyond, 3)}", file=sys.stderr)
    if not items:
        raise InputError(
            f"No part of a file in {folder} that the tables name holds sound: {listed(beyond, 1)} has none."
        )
    return tuple(sorted(items.values(), key=lambda item: (item.path, item.first, item.frames)))


def check_folder(folder):
    """Raises InputError if there is no such folder."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}; give the folder that holds the sound files.")


def check_fields(manifest, names):
    """Raises InputError for a field that no item has."""
    there = set().union(*({*entry.tags, *entry.fields} for entry in manifest.entries))
    if unknown := [name for name in names if name not in there | ALWAYS]:
        known = listed(sorted(there), 20) or "none"
        raise InputError(f'No item in {manifest.root} has the field "{unknown[0]}"; there are: {known}.')


def _written(manifest, notes):
    """What the summary says of captions; nothing where there are none."""
    items, captioned = len(manifest.entries), sum(bool(entry.captions) for entry in manifest.entries)
    for reason in notes.unreadable:
        print(f"skipping what is written beside a sound: {reason}", file=sys.stderr)
    facts = []
    if captioned:
        count = sum(len(entry.captions) for entry in manifest.entries)
        facts = [f"{count} captions of {captioned} items", f"{items - captioned} items without a caption"]
    facts += [f"{notes.empty} empty captions"] if notes.empty else []
    return facts + ([f"{len(notes.unreadable)} unreadable captions"] if notes.unreadable else [])


def _counted(suffixes):
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(suffixes.items()))


class _There(NamedTuple):
    """What a folder holds.

    Sorted (path, size, modified) of what could be sound; (path, reason) of what cannot even be looked at; the numbers
    of files, by suffix, that would need ffmpeg where it is not installed; tables; the paths of files beside sounds.
    """

    sounds: list[tuple[str, int, int]]
    skipped: list[tuple[str, str]]
    undecoded: Counter
    tables: list[Path]
    sidecars: dict[str, list[str]]


def _walk(folder, own):
    """What is in a folder, but for what the run in the folder `own` and other runs have written there."""
    sounds, skipped, visited, undecoded, tables, sidecars = [], [], set(), Counter(), [], {}
    missing = frozenset() if ffmpeg.installed() else FFMPEG
    own = own.resolve()

    def relative(path):
        return Path(path).relative_to(folder).as_posix()

    def unlisted(error):
        skipped.append((relative(error.filename), f"the folder cannot be listed ({error.strerror})."))

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=unlisted):
        status = os.stat(parent)
        # A link back to a folder that has been seen would be followed forever.
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        at_root = parent == os.fspath(folder)
        is_run = {*folders, *names} >= _MARKS or Path(parent).resolve() == own
        if is_run and not at_root:
            folders.clear()
            continue
        left_out = _WRITTEN if is_run else ()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in left_out)
        tables += [Path(parent, name) for name in TABLES if name in names]
        beside = set(names)
        for name in names:
            stem, suffix = os.path.splitext(name)
            suffix = suffix.lower()
            if name.startswith(".") or suffix not in files.SUFFIXES:
                continue
            if suffix in missing:
                undecoded[suffix] += 1
                continue
            path = os.path.join(parent, name)
            try:
                status = os.stat(path)
            except OSError as error:
                skipped.append((relative(path), f"{path} cannot be opened ({error.strerror})."))
                continue
            if stat.S_ISREG(status.st_mode):
                sounds.append((relative(path), status.st_size, status.st_mtime_ns))
                if written := [stem + end for end in SIDECARS if stem + end in beside]:
                    sidecars[relative(path)] = [relative(os.path.join(parent, name)) for name in written]
    return _There(sorted(sounds), skipped, undecoded, sorted(tables), sidecars)


def _examine(folder, path, size, modified):
    """The Entry of a file, or (path, reason) if it is not usable."""
    try:
        header = files.verify(folder / path)
    except InputError as error:
        return path, str(error)
    return Entry(path, size, modified, header.frames, header.sample_rate, header.channels, header.tags)


def _load(path):
    """The manifest of an earlier run, None if there is none or it is not readable as one."""
    try:
        content = json.loads(path.read_text())
        entries = tuple(read_entry(entry) for entry in content["entries"])
        return Manifest(content["root"], entries, tuple((name, reason) for name, reason in content["skipped"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(manifest, path):
    try:
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(manifest), indent=1))
    except OSError as error:
        raise InputError(f"The manifest {path} cannot be written: {error.strerror}.") from error

"""Lists the sound files in a folder. The list is stored as JSON, so the next run reads only changed files."""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from archijax.atomic import replacing
from archijax.audio import files
from archijax.audio.formats import FFMPEG
from archijax.audio.place import Place
from archijax.errors import InputError, listed
from train.captions import Notes
from train.contents import Contents, Shard, Sound, place

ALWAYS = frozenset({"caption", "title", "seconds_start", "seconds_total"})  # fields that need no table


@dataclass(frozen=True)
class Entry:
    """Describes an item of a manifest: a readable sound file, or a part of one, with captions and fields.

    The file is described by the path relative to the root (with slashes), the size in bytes, the modification time in
    ns, the sample rate, the number of channels and the tags. The item is described by the number of frames, the first
    frame, the captions and the fields (see `train.captions`). If the item is a part, `whole` is the number of frames of
    the whole file.
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
    """The index of the data folder that contains the file."""
    shard: str = ""
    """The path of the tar file that contains the file, relative to the root. For a file in a tar file, `path` is the
    name of the member."""
    offset: int = 0
    """The position in bytes of the file in the tar file."""

    @property
    def name(self) -> str:
        """Returns a name that no other item of the manifest has."""
        return self.path if self.whole is None else f"{self.path}@{self.first}-{self.first + self.frames}"

    def place(self, root: Path) -> Place:
        """Returns the place of the bytes of the sound: the sound file, or a part of a tar shard."""
        return place(root, self.path, self.size, self.shard, self.offset)

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


def read_entry(content: Mapping[str, Any]) -> Entry:
    """Returns the Entry for ``content``, a result of `asdict` that was stored as JSON."""
    return Entry(**{**content, "captions": tuple(content["captions"])})


@dataclass(frozen=True)
class Manifest:
    """Lists the items in the folder ``root``, sorted by path and first frame. `skipped` has (path, reason) for unusable
    files."""

    root: str
    entries: tuple[Entry, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    weights: tuple[float, ...] = (1.0,)
    """The weights of the data folders. The number of crops from a folder is proportional to the folder's weight."""
    shards: dict[str, Shard] = field(default_factory=dict)
    """The tar files in the folder, by path."""

    @property
    def seconds(self) -> float:
        return sum(entry.seconds for entry in self.entries)

    @property
    def digest(self) -> str:
        """Returns a hash of everything in the manifest that determines the training data."""
        facts = [(e.source, e.name, e.size, e.frames, e.captions, e.fields) for e in self.entries]
        return hashlib.sha256(json.dumps([self.weights, facts]).encode()).hexdigest()


def index(
    folder: str | Path,
    manifest_path: str | Path,
    table: str | Path | None = None,
    columns: Sequence[str] = (),
    fields: Sequence[str] = (),
) -> Manifest:
    """Returns the Manifest of a folder: the sound files in the folder and the subfolders, with captions and fields.

    Sound files have a suffix in `files.SUFFIXES`, in upper or lower case. Tar files can also hold sounds and caption
    files (.txt and .json). The members of a tar file count as files of the folder, and are read without unpacking.

    Hidden files and folders, the folder of the manifest and the folders of runs are left out. A run thus never trains
    on the results of runs. If ``folder`` is a run's folder, the subfolders that the run has written are left out.

    The function opens only new files, and files whose size or modification time differs from the last manifest. Files
    that cannot be decoded are left out and listed on stderr. If anything has changed, the manifest is written again.

    Args:
        folder: the folder of the sounds.
        manifest_path: the path of the JSON file that stores the manifest.
        table: a table of captions and fields, in place of the tables in the folder; see `train.captions.Notes`.
        columns: texts "ROLE=COLUMN", which give roles to columns of tables; see `train.captions.Notes`.
        fields: the fields that the training uses.

    Raises:
        InputError: the folder does not exist or has no usable file, a table is wrong, or the manifest cannot be
            written.
    """
    folder, manifest_path = Path(folder), Path(manifest_path)
    check_folder(folder)
    old = _load(manifest_path)
    there = Contents(folder, manifest_path.parent, old.shards if old else {})
    # Errors in tables are reported before the files are opened, which can take long.
    tables = there.tables if table is None else [Path(table)]
    notes = Notes(folder, [sound.path for sound in there.sounds], tables, columns, fields)
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
    items = _items(folder, headers, notes, there.sidecars)
    manifest = Manifest(str(folder.resolve()), items, skipped, shards=there.shards)
    hours = manifest.seconds / 3600
    facts = [f"{len(headers)} files", f"{hours:.2f} hours", f"{len(skipped)} files skipped"]
    foreign = Counter(Path(entry.path).suffix.lower() for entry in headers)
    foreign = Counter({suffix: count for suffix, count in foreign.items() if suffix in FFMPEG})
    facts += [f"{len(there.shards)} tar shards"] if there.shards else []
    facts += [f"{_counted(foreign)} read through ffmpeg"] if foreign else []
    facts += [f"{_counted(undecoded)} left out, which need ffmpeg"] if undecoded else []
    print(f"{folder}: {', '.join(facts + _written(manifest, notes))}", file=sys.stderr)
    if manifest != old:
        _save(manifest, manifest_path)
    return manifest


def _examined(folder, sounds, entries):
    """Returns a list with one element per sound: the entry of the whole file, or (path, reason) if the file is not
    usable."""
    known = {
        Sound(entry.path, entry.size, entry.modified, entry.shard, entry.offset): replace(
            entry, frames=entry.whole or entry.frames, first=0, whole=None, captions=(), fields={}
        )
        for entry in entries
    }
    fresh = [file for file in sounds if file not in known]
    # libsndfile and the disk work without Python's global lock, so more threads than cores hide a slow disk.
    pool = ThreadPoolExecutor(16)
    try:
        examined = pool.map(lambda sound: _examine(folder, sound), fresh)
        bar = tqdm(examined, total=len(fresh), desc="indexing", unit="file", disable=not fresh)
        known.update(zip(fresh, bar, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)
    return [known[file] for file in sounds]


def _items(folder, headers, notes, sidecars):
    """Makes the items of the files, with captions and fields."""
    items, beyond = {}, []
    for header in headers:
        for note in notes.of(header.path, sidecars.get(header.path, ())):
            item = header
            if (note.start, note.end) != (None, None):
                first = round((note.start or 0.0) * header.sample_rate)
                last = header.frames if note.end is None else round(note.end * header.sample_rate)
                frames = min(last, header.frames) - first
                if frames < 1:
                    beyond.append(f"{header.path} from {note.start or 0.0:g} s")
                    continue
                item = replace(header, first=first, frames=frames, whole=header.frames)
            # Parts that end after the end of the file are cut there, and can then be equal.
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
    """Raises InputError if `folder` is not an existing folder."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}; give the folder that holds the sound files.")


def check_fields(manifest, names):
    """Raises InputError if a name in `names` is not a field of any item."""
    there = set().union(*({*entry.tags, *entry.fields} for entry in manifest.entries))
    if unknown := [name for name in names if name not in there | ALWAYS]:
        known = listed(sorted(there), 20) or "none"
        raise InputError(f'No item in {manifest.root} has the field "{unknown[0]}"; there are: {known}.')


def _written(manifest, notes):
    """Returns the texts about captions for the printed summary; [] if there are no captions."""
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


def _examine(folder, sound):
    """Returns the Entry of a file, or (path, reason) if the file is not usable."""
    try:
        header = files.verify(sound.place(folder))
    except InputError as error:
        return sound.path, str(error)
    facts = header.frames, header.sample_rate, header.channels, header.tags
    return Entry(sound.path, sound.size, sound.modified, *facts, shard=sound.shard, offset=sound.offset)


def _load(path):
    """Reads the manifest that an earlier run stored. Returns None if there is no valid manifest."""
    try:
        content = json.loads(path.read_text())
        entries = tuple(read_entry(entry) for entry in content["entries"])
        shards = {
            path: Shard(size, modified, tuple((name, offset, count) for name, offset, count in members))
            for path, (size, modified, members) in content["shards"].items()
        }
        skipped = tuple((name, reason) for name, reason in content["skipped"])
        return Manifest(content["root"], entries, skipped, shards=shards)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _save(manifest, path):
    try:
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(manifest), indent=1))
    except OSError as error:
        raise InputError(f"The manifest {path} cannot be written: {error.strerror}.") from error

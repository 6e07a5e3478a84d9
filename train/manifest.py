"""The list of sound files in a folder, kept as JSON so that the next run reads only what has changed."""

import hashlib
import json
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from archijax.atomic import replacing
from archijax.audio import files
from archijax.errors import InputError


@dataclass(frozen=True)
class Entry:
    """One usable file: path relative to the root, with slashes; size in bytes, time of modification in ns, header."""

    path: str
    size: int
    modified: int
    frames: int
    sample_rate: int
    channels: int
    tags: dict[str, str]

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


@dataclass(frozen=True)
class Manifest:
    """The usable files under ``root``, sorted by path, and (path, reason) of those that are not usable."""

    root: str
    entries: tuple[Entry, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def seconds(self) -> float:
        return sum(entry.seconds for entry in self.entries)

    @property
    def digest(self) -> str:
        """Tells two sets of files apart; the order of the training data depends on nothing else of them."""
        facts = [(entry.path, entry.size, entry.frames) for entry in self.entries]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def index(folder: str | Path, manifest_path: str | Path) -> Manifest:
    """Lists the sound files in a folder and below, in any case and format of `files.SUFFIXES`, hidden ones left out.

    Only files that are new, or differ in size or time from the manifest of the last run, are opened. Files that are
    empty, cut off or not sound are named on stderr and left out. The manifest is rewritten if anything has changed.

    Raises InputError: no such folder, no usable file in it, or the manifest cannot be written.
    """
    folder, manifest_path = Path(folder), Path(manifest_path)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}; give the folder that holds the sound files.")
    old = _load(manifest_path)
    known = {(entry.path, entry.size, entry.modified): entry for entry in old.entries} if old else {}
    files_there, skipped = _walk(folder)
    fresh = [file for file in files_there if file not in known]
    # libsndfile and the disk work outside of Python's lock: more threads than cores hide a slow disk.
    pool = ThreadPoolExecutor(16)
    try:
        examined = pool.map(lambda file: _examine(folder, *file), fresh)
        bar = tqdm(examined, total=len(fresh), desc="indexing", unit="file", disable=not fresh)
        known.update(zip(fresh, bar, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)
    results = [known[file] for file in files_there]
    entries = tuple(result for result in results if isinstance(result, Entry))
    skipped = tuple(sorted(skipped + [result for result in results if not isinstance(result, Entry)]))
    for path, reason in skipped:
        print(f"skipping {path}: {reason}", file=sys.stderr)
    if not entries:
        kinds = ", ".join(sorted(files.SUFFIXES))
        raise InputError(f"{folder} holds no usable sound file ({len(skipped)} skipped); looked for {kinds}.")
    manifest = Manifest(str(folder.resolve()), entries, skipped)
    hours = manifest.seconds / 3600
    print(f"{folder}: {len(entries)} files, {hours:.2f} hours, {len(skipped)} files skipped", file=sys.stderr)
    if manifest != old:
        _save(manifest, manifest_path)
    return manifest


def _walk(folder):
    """Sorted (path, size, modified) of what could be sound, and (path, reason) of what cannot even be looked at."""
    sounds, skipped, visited = [], [], set()

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
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in files.SUFFIXES:
                continue
            path = os.path.join(parent, name)
            try:
                status = os.stat(path)
            except OSError as error:
                skipped.append((relative(path), f"{path} cannot be opened ({error.strerror})."))
                continue
            if stat.S_ISREG(status.st_mode):
                sounds.append((relative(path), status.st_size, status.st_mtime_ns))
    return sorted(sounds), skipped


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
        entries = tuple(Entry(**entry) for entry in content["entries"])
        return Manifest(content["root"], entries, tuple((name, reason) for name, reason in content["skipped"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(manifest, path):
    try:
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(manifest), indent=1))
    except OSError as error:
        raise InputError(f"The manifest {path} cannot be written: {error.strerror}.") from error

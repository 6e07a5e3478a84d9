"""Lists what a folder of sounds contains: sound files, tar shards, tables, and caption files beside the sounds."""

import os
import stat
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from archijax.audio import ffmpeg, files
from archijax.audio.formats import FFMPEG
from archijax.audio.place import Place
from archijax.errors import InputError
from train.captions import SIDECARS, TABLES

_MARKS = frozenset({"config.json", "manifest.json", "checkpoints"})  # their names show that a folder is a run
_WRITTEN = frozenset({"checkpoints", "samples", "tensorboard", "profile"})  # the folders that a run writes
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class Sound(NamedTuple):
    """Describes a file that may be a sound: the path, the size in bytes and the modification time in ns.

    The path is relative to the folder of sounds, with slashes. For a member of a tar shard, `path` is the name of the
    member, `offset` is its position in the shard, `shard` is the path of the shard, and `modified` is the modification
    time of the shard.
    """

    path: str
    size: int
    modified: int
    shard: str = ""
    offset: int = 0

    def place(self, folder: Path) -> Place:
        """Returns the place of the bytes of the sound: the sound file, or a part of a tar shard."""
        return place(folder, self.path, self.size, self.shard, self.offset)


class Shard(NamedTuple):
    """Describes a tar file: its size, its modification time, and (name, offset, size) for each sound or caption file in
    it."""

    size: int
    modified: int
    members: tuple[tuple[str, int, int], ...]


def place(folder: Path, path: str, size: int, shard: str, offset: int) -> Place:
    """Returns the place of the bytes of a sound: the file ``path``, or the ``size`` bytes that begin at ``offset`` in
    the tar file ``shard``."""
    return Place(folder / shard, offset, offset + size, path) if shard else Place(folder / path)


class Contents:
    """Lists the contents of a folder, except the files that training runs wrote. `own` is the folder of the current
    run.

    Attributes:
        sounds: the sound files, sorted by path.
        skipped: (path, reason) for each file or folder that cannot be opened.
        undecoded: a dict from suffixes to the numbers of files that cannot be decoded because ffmpeg is not installed.
        tables: the files that contain tables of captions.
        sidecars: a dict from the path of each sound to the caption files beside it.
        shards: a dict from paths to tar files.

    Args:
        known: a dict from paths to the shards that the last run found. A shard that has not changed is not read again.

    Raises:
        InputError: a shard is cut off or damaged.
    """

    def __init__(self, folder: Path, own: Path, known: Mapping[str, Shard]):
        self.folder, self._known = folder, known
        self.sounds, self.skipped, self.undecoded = [], [], Counter()
        self.tables, self.sidecars, self.shards = [], {}, {}
        self._missing = frozenset() if ffmpeg.installed() else FFMPEG
        self._walk(own.resolve())
        self._unpack()
        self.sounds.sort()
        self.tables.sort()

    def _relative(self, path: str) -> str:
        return Path(path).relative_to(self.folder).as_posix()

    def _unlisted(self, error: OSError) -> None:
        self.skipped.append((self._relative(error.filename), f"the folder cannot be listed ({error.strerror})."))

    def _walk(self, own: Path) -> None:
        visited = set()
        for parent, folders, names in os.walk(self.folder, followlinks=True, onerror=self._unlisted):
            status = os.stat(parent)
            # Without this check, a link to a parent folder would be followed forever.
            if (status.st_dev, status.st_ino) in visited:
                folders.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            at_root = parent == os.fspath(self.folder)
            is_run = {*folders, *names} >= _MARKS or Path(parent).resolve() == own
            if is_run and not at_root:
                folders.clear()
                continue
            left_out = _WRITTEN if is_run else ()
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in left_out)
            self.tables += [Path(parent, name) for name in TABLES if name in names]
            beside = set(names)
            for name in names:
                if not name.startswith("."):
                    self._look_at(parent, name, beside)

    def _look_at(self, parent: str, name: str, beside: set[str]) -> None:
        """Adds a sound to `sounds` and the caption files of the sound to `sidecars`, or adds a tar file to `shards`."""
        stem, suffix = os.path.splitext(name)
        path = os.path.join(parent, name)
        if name.lower().endswith(_PACKED):
            self.skipped.append(
                (self._relative(path), f"{path} is compressed: unpack it to a .tar, which can be sought in.")
            )
        if suffix.lower() != ".tar" and not self._is_sound(suffix):
            return
        try:
            status = os.stat(path)
        except OSError as error:
            self.skipped.append((self._relative(path), f"{path} cannot be opened ({error.strerror})."))
            return
        if not stat.S_ISREG(status.st_mode):
            return
        path = self._relative(path)
        if suffix.lower() == ".tar":
            known = self._known.get(path)
            same = known is not None and (known.size, known.modified) == (status.st_size, status.st_mtime_ns)
            members = known.members if same else _members(self.folder / path, status.st_size)
            self.shards[path] = Shard(status.st_size, status.st_mtime_ns, members)
            return
        self.sounds.append(Sound(path, status.st_size, status.st_mtime_ns))
        if written := [stem + end for end in SIDECARS if stem + end in beside]:
            self.sidecars[path] = [Place(Path(parent, one)) for one in written]

    def _is_sound(self, suffix: str) -> bool:
        """Returns whether files with this suffix can be read. If they cannot be read because ffmpeg is missing, adds 1
        to ``undecoded``."""
        if suffix.lower() in self._missing:
            self.undecoded[suffix.lower()] += 1
        return suffix.lower() in files.SUFFIXES and suffix.lower() not in self._missing

    def _unpack(self) -> None:
        """Adds the members of the shards to `sounds` and `sidecars`."""
        names = Counter([sound.path for sound in self.sounds])
        names.update(name for shard in self.shards.values() for name, _, _ in shard.members)
        for path, shard in self.shards.items():
            there = {name: (offset, size) for name, offset, size in shard.members}
            for name, (offset, size) in there.items():
                stem, suffix = os.path.splitext(name)
                if suffix in SIDECARS or not self._is_sound(suffix):
                    continue
                # A name that occurs twice gets the path of its shard as a prefix.
                shown = name if names[name] == 1 else f"{path}/{name}"
                self.sounds.append(Sound(shown, size, shard.modified, path, offset))
                beside = [stem + end for end in SIDECARS if stem + end in there]
                if beside:
                    self.sidecars[shown] = [
                        place(self.folder, one, there[one][1], path, there[one][0]) for one in beside
                    ]


def _members(path: Path, size: int) -> tuple[tuple[str, int, int], ...]:
    """Returns (name, offset, size) for each sound and caption in a tar file. Raises InputError if the tar file is
    incomplete."""
    kept, end = [], 0
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                end = member.offset_data + member.size
                if end > size:
                    raise InputError(
                        f"{path} is cut off: its member {member.name} goes on behind its end. Copy it again."
                    )
                name = os.path.normpath(member.name)
                hidden = any(part.startswith(".") for part in name.split("/"))
                suffix = os.path.splitext(name)[1].lower()
                if member.isreg() and not hidden and (suffix in files.SUFFIXES or suffix in SIDECARS):
                    kept.append((name, member.offset_data, member.size))
            place = tar.offset
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{path} is cut off, or is no tar file ({error}): copy it again.") from None
    with path.open("rb") as file:
        file.seek(place)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise InputError(f"{path} is cut off or damaged behind {end} bytes, where no member begins: copy it again.")
    return tuple(kept)

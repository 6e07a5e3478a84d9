"""Files and folders that are there whole or not at all."""

import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_HOST = re.sub(r"\W", "_", socket.gethostname())


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary name beside ``path`` to write a file or make a folder at, and renames it when the block ends.

    A file takes the place of an older one, a folder that of an empty one. Parent folders appear. Two writers of one
    path do not disturb each other: the last one wins. If the block fails, what it wrote is removed; what a killed
    process of this machine left in the folder is removed when the next process first writes there.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    unfinished = path.parent / f".{_HOST}.{os.getpid()}.{secrets.token_hex(4)}.part"
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        _remove(unfinished)


@cache  # a folder of a hundred thousand latents is listed once, not a hundred thousand times
def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(f".{_HOST}.*.part"):
        number = path.name.split(".")[2]
        if number.isdecimal() and not _is_running(int(number)):
            _remove(path)


def _is_running(number: int) -> bool:
    if os.name != "posix":  # elsewhere the question would end the process
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

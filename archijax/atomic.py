"""Writes files and folders under temporary names, and renames them when they are complete."""

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
    """Yields a temporary path, at which the block writes a file or a folder. At the end of the block, the temporary
    path is renamed to ``path``.

    Example: ``with replacing("a.txt") as unfinished: unfinished.write_text("x")``. A new file replaces an old file, and
    a new folder replaces an empty folder. Parent folders are created. If two programs write the same file at once, the
    program that ends last determines the contents. If the block fails, the temporary file or folder is removed. If a
    process is killed, the next process on this machine that writes to the same folder removes the temporary files of
    the killed process.
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


@cache  # so that a folder of a hundred thousand latents is listed only once
def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(f".{_HOST}.*.part"):
        number = path.name.split(".")[2]
        if number.isdecimal() and not _is_running(int(number)):
            _remove(path)


def _is_running(number: int) -> bool:
    if os.name != "posix":  # on other systems os.kill would end the process
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

import subprocess
import sys

import pytest

from archijax.atomic import replacing

KILLED = """
import os, sys
from archijax.atomic import replacing

with replacing(sys.argv[1]) as unfinished:
    unfinished.mkdir()
    (unfinished / "half").write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_a_file_appears_whole_and_a_failed_one_leaves_the_old(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with replacing(path) as unfinished:
        unfinished.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"

    def fail():
        with replacing(path) as unfinished:
            unfinished.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_takes_the_place_of_an_empty_one_alone(tmp_path):
    def write(folder):
        with replacing(folder) as unfinished:
            unfinished.mkdir()
            (unfinished / "file").write_text("whole")

    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert (tmp_path / "empty" / "file").read_text() == "whole"
    with pytest.raises(OSError, match="not empty"):
        write(tmp_path / "empty")
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "file.txt"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "folder")])
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    assert (left / "half").exists()
    with replacing(tmp_path / "file.txt") as unfinished:
        unfinished.write_text("whole")
    assert list(tmp_path.iterdir()) == [tmp_path / "file.txt"]

import pytest

from archijax.atomic import replacing


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

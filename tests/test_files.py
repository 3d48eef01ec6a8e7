"""Files that are whole or not there."""

import errno
import os
from pathlib import Path

import pytest

from fartrack.files import beside, clear_leftovers, local_path, replacing, whole_file, write_whole


def test_text_and_bytes(tmp_path):
    write_whole(tmp_path / "a.txt", "hün\n")
    assert (tmp_path / "a.txt").read_bytes() == b"h\xc3\xbcn\n"
    write_whole(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["a" * 251 + ".txt", "\u00fc" * 125 + "b.txt"])
def test_any_legal_name(tmp_path, name):
    """What was added to the name for the time of writing made it too long; that cost the labels of a whole run."""
    write_whole(tmp_path / name, "a")
    assert (tmp_path / name).read_text() == "a"
    with whole_file(tmp_path / name) as file:
        file.write("b")
    assert (tmp_path / name).read_text() == "b"
    assert [p.name for p in tmp_path.iterdir()] == [name]
    other = tmp_path / f"{name[:-5]}c.txt"
    assert beside(tmp_path / name, "").name != beside(other, "").name  # both may be written at once


def test_a_full_disk_is_said_of_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    """The system says "No space left on device" and not where; who has several disks has to know."""
    (tmp_path / "a.txt").write_text("old")
    write = Path.write_bytes

    def full(path, data):
        write(path, data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as caught:
        write_whole(tmp_path / "a.txt", b"new")
    assert (caught.value.errno, caught.value.strerror) == (errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_file_that_was_wanted_is_named_not_the_temporary_one(tmp_path):
    (tmp_path / "file").touch()
    for path, kind in ((tmp_path / "nowhere/a", FileNotFoundError), (tmp_path / "file/a", NotADirectoryError)):
        with pytest.raises(kind) as caught:
            write_whole(path, "x")
        assert caught.value.filename == str(path)


def test_what_fails_leaves_the_old_one_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a.txt") as file:
        file.write("half")
        1 // 0  # noqa: B018
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_two_at_once_write_one_file(tmp_path):
    """Threads of one process had one temporary name, and the second found it gone."""
    with whole_file(tmp_path / "a.txt") as first, whole_file(tmp_path / "a.txt") as second:
        first.write("first")
        second.write("second")
    assert (tmp_path / "a.txt").read_text() == "first"  # which ended last
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="permissions")
def test_the_umask_says_who_may_read(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", "a")
        with whole_file(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o640, 0o640]


def test_what_a_writer_that_was_killed_leaves_is_cleared(tmp_path):
    """A file that was written piece by piece had another name, which nobody knew for a leftover."""
    writing = replacing(tmp_path / "a.txt")
    writing.__enter__().touch()  # and no end
    assert [p.suffix for p in tmp_path.iterdir()] == [".part"]
    clear_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_among_the_leftovers_stays(tmp_path):
    """`.x.part` may be somebody's folder: every run in that place ended with "Is a directory"."""
    (tmp_path / ".x.part").mkdir()
    (tmp_path / ".a.txt.1.part").touch()
    clear_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".x.part"]


def test_where_a_source_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a b.mp4", "a%20b.mp4"):
        assert local_path((tmp_path / "a b.mp4").as_uri()) == tmp_path / "a b.mp4"
        assert local_path(f"file://{tmp_path}/{name}") == tmp_path / "a b.mp4"
    assert local_path(f"file://localhost{(tmp_path / 'a b.mp4').as_uri()[7:]}") == tmp_path / "a b.mp4"
    assert local_path("file:///C:/a%20b.mp4") == Path("C:/a b.mp4")  # it was looked for in a folder called C:
    assert local_path(" a.mp4 ") == Path("a.mp4")  # copied with blanks around it
    (tmp_path / " a.mp4 ").touch()
    assert local_path(" a.mp4 ") == Path(" a.mp4 ")
    (tmp_path / "a%20b.mp4").touch()
    assert local_path(f"file://{tmp_path}/a%20b.mp4") == tmp_path / "a%20b.mp4"
    assert local_path("~/a.mp4") == Path.home() / "a.mp4"

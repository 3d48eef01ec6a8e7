"""How programs end: exit codes, one line for each mistake, names on any console."""

import io
import sys

import cv2
import pytest

from fartrack.errors import InputError
from fartrack.guard import guarded


def failing(error):
    """A program that does."""

    def run():
        raise error

    return run


def caused(error, cause):
    error.__cause__ = cause
    return error


def within(error, context):
    error.__context__ = context
    return error


def group(*errors):
    return ExceptionGroup("files that failed", errors)


UNAVAILABLE = "fartrack: b.csv: Resource temporarily unavailable\n"  # as a share says it, which lacks no memory


def short(why, where=""):
    return (
        f"fartrack: {where}not enough memory (or threads) to go on ({why}): close other programs, or take "
        "smaller frames, a smaller model or fewer threads\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a.mp4: broken\nin two"), 2, "fartrack: a.mp4: broken in two\n"),
        (FileNotFoundError("a.mp4: no such file"), 2, "fartrack: a.mp4: no such file\n"),
        (FileNotFoundError(2, "No such file or directory", "b.csv"), 2, "fartrack: b.csv: No such file or directory\n"),
        (
            OSError(28, "No space left on device", "b.csv"),
            2,
            "fartrack: b.csv: No space left on device: free some space, or write elsewhere\n",
        ),
        (FileNotFoundError(2, "No such file", "out of memory.mp4"), 2, "fartrack: out of memory.mp4: No such file\n"),
        (BlockingIOError(11, "write could not complete"), 2, "fartrack: write could not complete\n"),
        (BlockingIOError(11, "Resource temporarily unavailable", "b.csv"), 2, UNAVAILABLE),
        (MemoryError(), 2, short("MemoryError")),
        (OSError(12, "Cannot allocate memory", "a/b.csv"), 2, short("Cannot allocate memory", "a/b.csv: ")),
        (RuntimeError("can't start new thread"), 2, short("can't start new thread")),
        (RuntimeError("Exception from plugin.cpp:54:\nstd::bad_alloc\n\n"), 2, short("std::bad_alloc")),
        (
            cv2.error("OpenCV(5) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes\n"),
            2,
            short("OpenCV(5) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes"),
        ),
        (KeyboardInterrupt(), 130, "fartrack: stopped\n"),
        (caused(ImportError("numpy failed to import"), KeyboardInterrupt()), 130, "fartrack: stopped\n"),
        (within(RuntimeError("no module"), caused(SystemError(), KeyboardInterrupt())), 130, "fartrack: stopped\n"),
        (within(InputError("b.csv: disk full"), KeyboardInterrupt()), 130, "fartrack: b.csv: disk full\n"),
        (within(InputError("b.csv: disk full"), SystemExit(143)), 143, "fartrack: b.csv: disk full\n"),
        (within(InputError("no such option"), SystemExit(2)), 2, "fartrack: no such option\n"),
        (within(group(InputError("a"), InputError("b")), SystemExit(143)), 143, "fartrack: a\nfartrack: b\n"),
        (group(InputError("a"), within(InputError("b"), KeyboardInterrupt())), 130, "fartrack: a\nfartrack: b\n"),
        (group(InputError("a"), group(OSError("b"), InputError("c"))), 2, "fartrack: a\nfartrack: b\nfartrack: c\n"),
        (group(MemoryError(), InputError("b")), 2, short("MemoryError") + "fartrack: b\n"),
    ],
)
def test_failures(capsys, error, code, line):
    """One line and an exit code; Ctrl-C counts as that also where a library that was loading made an error of it."""
    assert guarded(failing(error)) == code
    assert capsys.readouterr().err == line


def test_names_that_the_console_lacks(monkeypatch):
    """A video called so must not end in a traceback where the terminal knows ASCII alone, or the name is no UTF-8."""

    def naming():
        print("out/h\u00fcnd\udcff.mp4")
        return 0

    for encoding, said in (("ascii", rb"out/h\xfcnd\udcff.mp4"), ("utf-8", b"out/h\xc3\xbcnd" + rb"\udcff.mp4")):
        stream = io.TextIOWrapper(io.BytesIO(), encoding, newline="\n")
        monkeypatch.setattr(sys, "stdout", stream)
        assert guarded(naming) == 0
        assert stream.buffer.getvalue() == said + b"\n"
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # of a notebook, say, which takes every character
    assert guarded(naming) == 0


def test_without_a_console(monkeypatch):
    """Services, cron and desktops close it, and Python has None there: a traceback at the end of the work."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert guarded(lambda: print("fartrack 0.1.0") or 0) == 0
    assert guarded(failing(InputError("no such command"))) == 2
    for stream in (sys.stdout, sys.stderr):
        stream.close()


@pytest.mark.parametrize("bug", [ZeroDivisionError(), group(InputError("a"), group(ZeroDivisionError(), OSError("b")))])
def test_bugs_are_not_hidden(bug):
    """Nor where they are beside files that failed."""
    with pytest.raises(type(bug)):
        guarded(failing(bug))

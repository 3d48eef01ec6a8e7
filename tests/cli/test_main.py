"""The command's manners: exit codes, one line per mistake, help that is quick."""

import importlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass, is_dataclass
from pathlib import Path

import cv2
import pytest

import fartrack
from fartrack.cli import main as module
from fartrack.cli.main import COMMANDS, main
from fartrack.errors import InputError


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_manual(capsys, arguments):
    assert main(arguments) == 0
    said = capsys.readouterr().out
    for name, (_, what) in COMMANDS.items():
        assert name in said
        assert what in said
    assert "examples:" in said
    assert all(f" {code} " in said[said.index("exit codes:") :] for code in (0, 1, 2, 130))
    assert max(map(len, said.splitlines())) <= 120


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fartrack {fartrack.__version__}\n"


def test_home_in_options(monkeypatch):
    """`--out=~/x` made a folder called ~ in the working directory: a shell expands it only where a word begins."""
    from fartrack.cli.track import Track
    from fartrack.cli.train import Train
    from fartrack.files import at_home
    from fartrack.training.options import Frame

    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    track = Track("~/a.mp4", ("1,2,3,4",), label=("a~/b", "~"), model="~/m.onnx", out=Path("~/x"), boxes=Path("~"))
    there = at_home(track)
    assert (there.source, there.model, there.out) == ("/home/me/a.mp4", "/home/me/m.onnx", Path("/home/me/x"))
    assert (there.boxes, there.label, there.box) == (Path("/home/me"), track.label, track.box)
    nested = Train(Frame(data=Path("~/pack")))
    assert at_home(nested).stage.data == Path("/home/me/pack")
    assert at_home("old=nanotrackv2:~/n") == "old=nanotrackv2:/home/me/n"
    for other in ("a=b~/c", "http://there/~/x", "x:~"):
        assert at_home(other) == other


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys, name):
    where, _, kind = COMMANDS[name][0].partition(":")
    command = getattr(importlib.import_module(where), kind)
    assert is_dataclass(command)
    assert callable(command.run)
    assert main([name, "--help"]) == 0
    assert f"usage: fartrack {name}" in capsys.readouterr().out
    assert main(["help", name]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trakc"], "no command 'trakc': did you mean track?"),
        (["xyzzy"], "no command 'xyzzy': choose one of track"),
        (["--frobnicate"], "no command '--frobnicate'"),
        (["track"], "Missing from fartrack track: SOURCE (see"),
        (["track", "a.mp4", "--boxx", "1,2,3,4"], "--boxx, 1,2,3,4; did you mean --box"),
        (["track", "a.mp4", "b.mp4"], "b.mp4"),
        (["track", "a.mp4", "--start", "soon"], "--start"),
        (["track", "a.mp4", "--box"], "--box"),
        (["models", "--all"], "--all"),
    ],
)
def test_wrong_use_is_one_line_and_2(capsys, arguments, message):
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("fartrack: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert "│" not in said.err


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_wrong_use_in_any_terminal(encoding):
    """tyro draws its boxes with other characters, or in colour, where it can."""
    code = "import sys; from fartrack.cli.main import main; sys.exit(main(['track', 'a.mp4', '--boxx', '1']))"
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "FORCE_COLOR": "1"}
    said = run(code, env=environment)
    assert said.returncode == 2
    assert said.stderr == "fartrack: Unrecognized options: --boxx, 1; did you mean --box? (see fartrack track --help)\n"


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
def test_failures(monkeypatch, capsys, error, code, line):
    """One line and an exit code; Ctrl-C counts as that also where a library that was loading made an error of it."""

    @dataclass(frozen=True)
    class Failing:
        def run(self):
            raise error

    monkeypatch.setattr(module, "Failing", Failing, raising=False)
    monkeypatch.setitem(COMMANDS, "fail", ("fartrack.cli.main:Failing", "fails"))
    assert main(["fail"]) == code
    assert capsys.readouterr().err == line


def test_names_that_the_console_lacks(monkeypatch):
    """A video called so must not end in a traceback where the terminal knows ASCII alone, or the name is no UTF-8."""

    @dataclass(frozen=True)
    class Naming:
        def run(self):
            print("out/h\u00fcnd\udcff.mp4")
            return 0

    monkeypatch.setattr(module, "Naming", Naming, raising=False)
    monkeypatch.setitem(COMMANDS, "name", ("fartrack.cli.main:Naming", "names"))
    for encoding, said in (("ascii", rb"out/h\xfcnd\udcff.mp4"), ("utf-8", b"out/h\xc3\xbcnd" + rb"\udcff.mp4")):
        stream = io.TextIOWrapper(io.BytesIO(), encoding, newline="\n")
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["name"]) == 0
        assert stream.buffer.getvalue() == said + b"\n"
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # of a notebook, say, which takes every character
    assert main(["name"]) == 0


def test_without_a_console(monkeypatch):
    """Services, cron and desktops close it, and Python has None there: a traceback at the end of the work."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert main(["--version"]) == 0
    assert main(["nothing"]) == 2
    for stream in (sys.stdout, sys.stderr):
        stream.close()


def test_bugs_are_not_hidden(monkeypatch):
    @dataclass(frozen=True)
    class Buggy:
        def run(self):
            return 1 // 0

    monkeypatch.setattr(module, "Buggy", Buggy, raising=False)
    monkeypatch.setitem(COMMANDS, "bug", ("fartrack.cli.main:Buggy", "fails"))
    with pytest.raises(ZeroDivisionError):
        main(["bug"])


def test_bugs_beside_files_that_failed_are_not_hidden(monkeypatch):
    def failing(_):
        raise group(InputError("a"), group(ZeroDivisionError(), OSError("b")))

    monkeypatch.setattr(module, "_run", failing)
    with pytest.raises(ExceptionGroup):
        main([])


def run(code, **more):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, **more)


def test_help_loads_nothing_heavy():
    code = """
import sys
from fartrack.cli.main import main
main(["--help"])
print([name for name in ("torch", "cv2", "av", "onnxruntime", "numpy", "tyro", "rich") if name in sys.modules])
main(["track", "--help"])
print([name for name in ("torch", "cv2", "av", "onnxruntime") if name in sys.modules])
"""
    said = run(code)
    assert said.returncode == 0, said.stderr
    assert [line for line in said.stdout.splitlines() if line.startswith("[")] == ["[]", "[]"]


def test_broken_pipe_is_quiet():
    command = f"{sys.executable} -c 'import sys; from fartrack.cli.main import main; sys.exit(main([\"--help\"]))'"
    said = subprocess.run(
        ["bash", "-c", f"({command}; echo code $? >&2) | true; sleep 0.1"], capture_output=True, text=True, timeout=300
    )
    assert said.stderr in ("code 141\n", "code 0\n")  # the pipe may still have taken it


def test_data_given_several_times_is_all_taken():
    """Of two the second alone was trained on, without a word."""
    assert module._together(["frame", "--data", "a", "--out", "o", "--data", "b", "c", "--steps", "1"], "--data") == [
        *("frame", "--data", "a", "b", "c", "--out", "o", "--steps", "1")
    ]
    assert module._together(["frame", "--steps", "1"], "--data") == ["frame", "--steps", "1"]
    assert module._together(["--data=a", "--out", "o"], "--data") == ["--data=a", "--out", "o"]
    assert module._together(["--data=a", "--out", "o", "--data=b"], "--data") == ["--data", "a", "b", "--out", "o"]

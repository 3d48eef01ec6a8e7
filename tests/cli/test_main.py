"""The command's manners: exit codes, one line per mistake, help that is quick."""

import importlib
import os
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import pytest

import fartrack
from fartrack.cli import main as module
from fartrack.cli.main import COMMANDS, main


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

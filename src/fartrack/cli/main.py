"""The `fartrack` command: finds the subcommand, and reads its options."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import re
import sys
from collections.abc import Sequence
from typing import Any

from fartrack import __version__
from fartrack.errors import InputError
from fartrack.files import at_home
from fartrack.guard import guarded

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (where its dataclass is, what it does); modules are imported only when their command is used
    "track": ("fartrack.cli.track:Track", "follow an object through a video: boxes, a video with them, a strip"),
    "demo": ("fartrack.cli.demo:Demo", "track the packaged clip, to see that everything works"),
    "models": ("fartrack.cli.models:Models", "list the packaged models with their size and scores"),
    "evaluate": ("fartrack.cli.evaluate:Evaluate", "run trackers over a benchmark: accuracy and speed in one table"),
    "report": ("fartrack.cli.report:Report", "turn results into a page with curves, bars and the worst failures"),
    "benchmark": ("fartrack.cli.benchmark:Benchmark", "measure speed here, beside the released layout and OpenCV"),
    "import": ("fartrack.cli.import_:Import", "make a model file out of a checkpoint of the paper's authors"),
    "export": ("fartrack.cli.export:Export", "write a model as ONNX or in OpenVINO's format, checked against PyTorch"),
    "web": ("fartrack.cli.web:Web", "serve the tracker as a web page that runs in the browser"),
    "train": ("fartrack.cli.train:Train", "train the tracker, stage by stage, and make model files of it"),
    "ablate": ("fartrack.cli.ablate:Ablate", "train small versions under one budget and compare them"),
    "trax": ("fartrack.cli.trax:Trax", "speak TraX, so that the VOT toolkit can run the tracker"),
}

MANUAL = """\
fartrack {version} - single-object tracking on a plain CPU: draw a box, it follows

usage: fartrack COMMAND [OPTIONS]
       fartrack COMMAND --help

commands:
{commands}

examples:
  fartrack track dog.mp4 --box 310,120,80,140     follow what is in the box (x,y,w,h in pixels of frame 0)
  fartrack track dog.mp4 --select                 draw the box in a browser instead
  fartrack track frames/ --start 40 --box 9,9,50,50 --out out/run1
                                                  a folder of images, box in frame 40, results in out/run1
  fartrack track 0 --select                       a webcam, until Ctrl-C
  fartrack track rtsp://camera/stream --select --host 0.0.0.0
                                                  a camera; draw the box from another machine
  fartrack demo                                   the packaged clip

exit codes: 0 done, 1 a part failed and is named, the rest is done (evaluate), 2 something given is wrong (one line
            says what), 130 stopped with Ctrl-C, 143 with SIGTERM (results are kept)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv` by default) and return the exit code."""
    return guarded(lambda: _run(list(sys.argv[1:] if argv is None else argv)))


def _run(args: list[str]) -> int:
    if args and args[0] == "help":
        args = [*args[1:2], "--help"]
    if not args or args[0] in ("-h", "--help"):
        print(_manual(), end="")
        return 0
    if args[0] in ("-V", "--version"):
        print(f"fartrack {__version__}")
        return 0
    name = args[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(COMMANDS)}"
        raise InputError(f"there is no command {name!r}: {hint} (see fartrack --help)")
    module, _, kind = COMMANDS[name][0].partition(":")
    command = _parse(getattr(importlib.import_module(module), kind), name, _together(args[1:], "--data"))
    return 0 if command is None else int(at_home(command).run())


def _together(args: list[str], option: str) -> list[str]:
    """All that an option is given, at its first place: of ``--data A --data B`` the second alone would count."""
    joined = f"{option}="
    words = [w for arg in args for w in ([option, arg[len(joined) :]] if arg.startswith(joined) else [arg])]
    if words.count(option) < 2:
        return args
    rest: list[str] = []
    given: list[str] = []
    taking = False
    for word in words:
        taking = word == option or (taking and not word.startswith("-"))
        (given if taking else rest).append(word)
    place = words.index(option)
    return [*rest[:place], option, *(word for word in given if word != option), *rest[place:]]


def _parse(kind: type, name: str, args: list[str]) -> Any:
    """The command with its options, or None after its help was printed."""
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, prog=f"fartrack {name}", args=args, config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as stop:
        if not stop.code:
            return None
        raise InputError(f"{_gist(said.getvalue())} (see fartrack {name} --help)") from None


def _gist(boxed: str) -> str:
    """One line of the box that tyro draws around a mistake: what it was, and what may have been meant."""
    # A title, what went wrong, a rule, advice. How borders and rules look depends on the terminal.
    plain = re.sub(r"\x1b\[[0-9;]*m", "", boxed)
    lines = [line[1:-1].removeprefix(" ").rstrip() for line in plain.splitlines()[1:]]
    rules = [i for i, line in enumerate(lines) if line and not line.strip("─- ")]
    lines = lines[1:] if rules[:1] == [0] else lines
    end = next((i - (rules[0] == 0) for i in rules if i > 0), len(lines))
    what = " ".join(line.strip() for line in lines[:end] if not line.startswith(8 * " "))  # deeper: help texts
    rest = " ".join(lines[end:])
    meant = re.search(r"Perhaps you meant:.*?(--[\w-]+)", rest)
    return f"{what}; did you mean {meant[1]}?" if meant else what


def _manual() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}   {what}" for name, (_, what) in COMMANDS.items())
    return MANUAL.format(version=__version__, commands=commands)


if __name__ == "__main__":
    sys.exit(main())

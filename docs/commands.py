"""Write docs/commands.md from what `fartrack --help` and `fartrack COMMAND --help` print."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path

from fartrack.cli.main import COMMANDS, main

PAGE = Path(__file__).with_name("commands.md")
INTRODUCTION = """\
# Every command

<!-- Written by docs/commands.py (`make docs`) from the commands' own help: change the help, not this page. -->

"""


def help_of(*words: str) -> str:
    """What a command prints with --help, in plain text 120 columns wide."""
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR", "TERM")}
    os.environ |= {"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}
    try:
        with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")) as said:
            code = main([*words, "--help"])
            said.flush()
            text = said.buffer.getvalue().decode()  # type: ignore[attr-defined]
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    if code:
        raise SystemExit(f"fartrack {' '.join(words)} --help gives exit code {code}")
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def page() -> str:
    """The whole page."""
    return INTRODUCTION + f"```\n{help_of().strip()}\n```\n" + "".join(section(name) for name in COMMANDS)


def section(*words: str) -> str:
    """A command: usage, what it does, and tables of its options; its subcommands follow."""
    usage, about, boxes = parse(help_of(*words))
    text = f"\n{'#' * (len(words) + 1)} fartrack {' '.join(words)}\n\n```\n{usage}\n```\n\n{plain(about)}\n"
    below = []
    for title, (note, rows) in boxes.items():
        if "subcommands" in title:
            names = re.search(r"\{([\w,]+)\}", usage)  # the box itself mixes names with notes
            below += names[1].split(",") if names else []
            continue
        shown = [row for row in rows if not row[0].startswith("-h,")]
        if shown:
            heading = "" if title in ("options", "positional arguments") else title.removesuffix(" options").strip()
            text += f"\n{heading.capitalize()}. {plain(note)}".rstrip() + "\n" if heading else ""
            text += "\n| | | default |\n|---|---|---|\n" + "".join(line(*row) for row in shown)
    return text + "".join(section(*words, name) for name in dict.fromkeys(below))


def line(option: str, what: str) -> str:
    """A row of a table."""
    default = re.search(r"\s*\((?:default: (.*)|required|repeatable)\)$", what)
    value = ""
    if default:
        what = what[: default.start()]
        value = default[0].strip(" ()") if default[1] is None else "" if default[1] in ("None", "False") else default[1]
        value = f"`{value}`" if default[1] is not None and value else value
    option = option.replace("{None}|", "")
    return f"| `{option}` | {plain(what)} | {value} |\n".replace("  ", " ")


def plain(text: str) -> str:
    """Text that Markdown leaves alone: no tags, no columns of a table."""
    return text.replace("<", "&lt;").replace("|", "\\|")


def parse(text: str) -> tuple[str, str, dict[str, tuple[str, list[tuple[str, str]]]]]:
    """Usage, description and the boxes with what they say of themselves and their options, out of tyro's help."""
    head, *rest = re.split(r"^\W{2} (?=[\w' -]+ [─-]{3})", text, flags=re.MULTILINE)
    usage, _, about = head.strip().removeprefix("usage: ").partition("\n\n")
    boxes: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for box in rest:
        title, *lines = box.splitlines()
        group, rows = "", list[list[str]]()
        for row in (entry[1:].rstrip(" │|") for entry in lines if entry[:1] in "│|"):
            if not row.strip():
                continue
            if not row.strip(" ─-"):  # a rule: what stood above it is about the whole box
                group, rows = " ".join(" ".join(words).strip() for words in rows), []
                continue
            option, _, what = row.strip().partition("  ")
            if row.startswith(" ") and not row.startswith("  "):
                rows.append([option, what.strip()])
            elif rows:
                rows[-1][1] = f"{rows[-1][1]} {row.strip()}".strip()
        boxes.setdefault(title.strip(" ─-╮+"), (group, []))[1].extend((option, what) for option, what in rows)
    return usage, about.strip(), boxes


if __name__ == "__main__":
    new = page()
    stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != new
    if stale:
        PAGE.write_text(new, encoding="utf-8", newline="\n")
    print(f"{PAGE}: {'written' if stale else 'up to date'}", file=sys.stderr)

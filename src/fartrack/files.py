"""Files that are whole or not there."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

LONG = 100
"""Bytes of a name; a file system takes 255, or 143 where it encrypts them."""


def beside(path: Path, tail: str) -> Path:
    """A hidden name in a file's folder for what becomes the file, legal where the file's own is: a long one is cut."""
    full = path.name.encode("utf-8", "surrogatepass")
    name = path.name if len(full) <= LONG else f"{path.name[: LONG // 4]}.{zlib.crc32(full):08x}"
    return path.with_name(f".{name}{tail}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden name to write a file under: it becomes the file when the block ends well, and is removed otherwise.

    Each call has a name of its own, so that two threads may write one file, and two machines of which both say that
    they are process 7. An older file stays until then.

    Raises:
        OSError: with this path, which the system leaves out where the disk is full.
    """
    temporary = beside(path, f".{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        try:
            yield temporary
            temporary.replace(path)
        finally:
            with suppress(OSError):  # the first error says more
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; an older one stays until the new one is there. Text is UTF-8.

    Raises:
        OSError: with this path.
    """
    with replacing(path) as temporary:
        if isinstance(content, str):
            temporary.write_text(content, encoding="utf-8", newline="\n")
        else:
            temporary.write_bytes(content)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """The same for a text that is written piece by piece; its folder is made.

    Raises:
        OSError: with this path.
    """
    with replacing(path) as temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="") as file:
            yield file


def clear_leftovers(folder: Path) -> None:
    """Remove the files that writers that were killed left behind; nobody may be writing there."""
    for leftover in folder.glob(".*.part"):
        if leftover.is_symlink() or not leftover.is_dir():  # folders are not of `replacing`
            leftover.unlink(missing_ok=True)


def identity(path: Path) -> tuple[int, int] | Path:
    """What a file or folder is, however it is called: device and number, or the path where nothing is there.

    One file can have several names: hard links, a folder that is mounted twice, letters of the other case.
    """
    try:
        there = path.stat()
    except (OSError, ValueError):  # such as a circle of links
        return path
    return (there.st_dev, there.st_ino) if there.st_ino else path  # some file systems do not count theirs


def suffix_of(path: Path) -> str:
    """What kind of file it is, however its name is written."""
    return path.suffix.lower()


def readable(name: str) -> str:
    """A file's name as text that can be written anywhere, on one line.

    Bytes that are no UTF-8 and control characters, which XML has no words for, become replacement characters.
    """
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]", "\ufffd", text)


def local_path(source: str | Path) -> Path:
    """Where a source that is no camera and no stream lies: a path, or one in an address (`file:///my%20clip.mp4`)."""
    given = str(source)
    trimmed = given.strip()
    # A drive of Windows stands behind one slash more (`file:///C:/a.mp4`).
    plain = re.sub(r"^file://(localhost(?=/))?(/(?=[a-z]:[/\\]))?", "", trimmed, flags=re.IGNORECASE)
    path = Path(given if plain == trimmed else plain)
    if os.path.exists(path):  # noqa: PTH110  # Path.exists raises where a folder may not be looked into
        return path
    return Path(plain if plain == trimmed else unquote(plain)).expanduser()


def at_home(value: Any) -> Any:
    """A command with `~/` in its paths made the home folder: shells leave it as it is in `--out=~/x` and `NAME:~/x`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        was = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        now = {name: at_home(one) for name, one in was.items()}
        return dataclasses.replace(value, **now) if now != was else value
    if type(value) is tuple:
        return tuple(at_home(one) for one in value)
    if value == Path("~") or (isinstance(value, str | Path) and re.match(r"~[/\\]", os.fspath(value))):
        return type(value)(Path(value).expanduser())
    if isinstance(value, str) and (named := re.match(r"((?:[\w.-]+[=:])+)(~[/\\].*)", value)):
        return named[1] + at_home(named[2])
    return value

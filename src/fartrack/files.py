"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; an older one stays until the new one is there. Text is UTF-8.

    Raises:
        OSError: with this path, which the system leaves out where the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            if isinstance(content, str):
                temporary.write_text(content, encoding="utf-8", newline="\n")
            else:
                temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def clear_leftovers(folder: Path) -> None:
    """Remove the files that writers that were killed left behind; nobody may be writing there."""
    for leftover in folder.glob(".*.part"):
        if leftover.is_symlink() or not leftover.is_dir():  # folders are not of `write_whole`
            leftover.unlink(missing_ok=True)


def readable(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are no UTF-8 become replacement characters."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

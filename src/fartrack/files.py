"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; an older one stays until the new one is there. Text is UTF-8."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if isinstance(content, str):
            temporary.write_text(content, encoding="utf-8", newline="\n")
        else:
            temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def clear_leftovers(folder: Path) -> None:
    """Remove what writers that were killed left behind; nobody may be writing there."""
    for leftover in folder.glob(".*.part"):
        leftover.unlink(missing_ok=True)

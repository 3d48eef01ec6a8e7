"""Options of `fartrack track` that are more than a word."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fartrack.errors import InputError

if TYPE_CHECKING:
    from fartrack.geometry import Box


def parse_box(text: str) -> Box:
    """The four numbers of `X,Y,W,H`."""
    try:
        x, y, w, h = (float(part) for part in re.split(r"[,;\s]+", text.strip(" \t()[]")))
    except ValueError:
        raise InputError(f"box {text!r} is not four numbers: give X,Y,W,H in pixels, such as 310,120,80,140") from None
    return x, y, w, h


def parse_labels(texts: Sequence[str], count: int) -> list[str]:
    """A name for each of so many objects."""
    for text in texts:
        if not text.strip() or not text.isprintable():
            raise InputError(f"--label {text!r} cannot be written into label files: {_cause(text)}")
    if len(texts) not in (0, 1, count):
        objects = f"{count} object" + "s" * (count != 1)
        raise InputError(f"--label is given {len(texts)} times for {objects}: give one label, or one for each")
    return list(texts) if len(texts) > 1 else list(texts or ("target",)) * count


def _cause(text: str) -> str:
    """Why a label is none, and what to do."""
    if not re.search(r"[\ud800-\udfff]", text):
        return "give a name of one line"
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return "its bytes are no UTF-8; type it in a terminal that uses UTF-8"
    return f"it is no text in this locale, which knows {encoding} alone; set LC_ALL=C.UTF-8 or PYTHONUTF8=1"


def parse_formats(texts: Sequence[str]) -> tuple[str, ...]:
    """The formats of `--format cvat,coco --format mot`, each once."""
    from fartrack.formats import FORMATS

    names = [name for text in texts for name in re.split(r"[,;|\s]+", text.strip().lower()) if name]
    for name in names:
        if name not in FORMATS:
            raise InputError(f"--format {name}: not known; choose from {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(names))

"""The program in docs/deployment.md, as it stands there and with the lines changed that the manual changes."""

import re
from pathlib import Path

DEPLOYMENT = Path(__file__).parents[1] / "docs" / "deployment.md"


def program(change=None):
    """Its text; `change` names the kind of the block whose lines replace others: "diff" (OpenCV), "udiff" (static)."""
    text = _block("python")
    if change is None:
        return text
    for old, new in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", _block(change), re.MULTILINE):
        before, after = (re.sub("^.", "", part, flags=re.MULTILINE) for part in (old, new))
        assert text.count(before) == 1
        text = text.replace(before, after)
    return text


def _block(kind):
    (text,) = re.findall(rf"```{kind}\n(.*?)```", DEPLOYMENT.read_text(encoding="utf-8"), re.DOTALL)
    return text

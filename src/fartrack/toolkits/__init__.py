"""Adapters to the benchmark toolkits of the field. Each imports its toolkit and nothing else imports them."""

from __future__ import annotations

import os
import re
from pathlib import Path


def name_of(model: str | os.PathLike[str]) -> str:
    """A tracker's name in a toolkit, which makes folders of it and may know ASCII alone: `fartrack-pico`."""
    return "fartrack-" + re.sub(r"[^A-Za-z0-9._-]", "_", Path(model).stem)

"""The clip that comes with the package. Nothing here needs a package: the plain install, without onnx, has it too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CLIP = Path(__file__).parents[1] / "demo" / "clip.mp4"


def about() -> dict[str, Any]:
    """What its card says: title, source and licence, and the target's box (x, y, w, h) in the first frame."""
    return json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))

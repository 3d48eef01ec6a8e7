"""Make the pictures of the documentation that show the tracker at work: `make pictures`."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

import fartrack
from fartrack.cli.demo import CLIP
from fartrack.video.explain import Explainer

IMAGES = Path(__file__).with_name("images")
FRAME = 128
"""Of the packaged clip, which explain.png shows."""


def explain(path: Path, model: str | Path = "pico", frame: int = FRAME) -> None:
    """Write one frame of the packaged clip as `fartrack track --explain` shows it."""
    box = json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))["box"]
    explainer = None
    for result in fartrack.track(CLIP, box, model=model, explain=True):
        explainer = explainer or Explainer(result.image.shape[1], result.image.shape[0], lowest=720)
        explainer.scores.append((result.frame, result.score, result.found))
        if result.frame == frame:
            explainer.scores.pop()  # draw() adds it
            args = (result.image, result.box, result.score, result.frame, result.found, result.insight)
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), explainer.draw(*args), [cv2.IMWRITE_PNG_COMPRESSION, 9])
            return


if __name__ == "__main__":
    explain(IMAGES / "explain.png")
    print(IMAGES / "explain.png")

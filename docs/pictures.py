"""Make the pictures of the documentation that show the tracker at work: `make pictures`."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cv2

import fartrack
from fartrack.cli.demo import CLIP
from fartrack.video.draw import draw_result
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


def tracked(path: Path, model: str | Path = "pico", every: int = 3, scale: float = 0.75) -> None:
    """Write the packaged clip with its boxes and scores as a moving picture, at the clip's own pace."""
    about = json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))
    moving = cv2.Animation()
    times = []
    for result in fartrack.track(CLIP, about["box"], model=model):
        if result.frame % every == 0:
            small = cv2.resize(result.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            box = tuple(scale * v for v in result.box)
            moving.frames = [*moving.frames, draw_result(small, box, result.score, result.frame, result.found)]
            times.append(result.time)
    shown = [round(1000 * (after - before)) for before, after in pairwise(times)]
    moving.durations = [*shown, shown[-1]]
    path.parent.mkdir(exist_ok=True)
    cv2.imwriteanimation(str(path), moving, [cv2.IMWRITE_WEBP_QUALITY, 50])


if __name__ == "__main__":
    for make, name in ((tracked, "tracked.webp"), (explain, "explain.png")):
        make(IMAGES / name)
        print(IMAGES / name)

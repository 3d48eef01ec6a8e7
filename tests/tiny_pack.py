"""A tiny training pack drawn here: coloured shapes on textured ground, with tracks, masks, sprites and backgrounds."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np

from fartrack.config import ModelConfig

TINY = ModelConfig(
    name="test", depth=3, width=48, heads=3, templates=3, template_size=32, search_size=64, patch=8, bins=40
)


def ground(rng, width, height):
    """A textured background."""
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def draw_shape(image, box, colour, kind):
    """An ellipse or a rectangle with an edge; returns its mask."""
    x, y, w, h = (round(v) for v in box)
    mask = np.zeros(image.shape[:2], np.uint8)
    if kind:
        cv2.ellipse(mask, (x + w // 2, y + h // 2), (w // 2, h // 2), 0, 0, 360, 1, -1)
    else:
        mask[max(0, y) : y + h, max(0, x) : x + w] = 1
    image[mask > 0] = colour
    image[(mask > 0) & ((np.indices(mask.shape).sum(0) // 4) % 2 == 0)] = 255 - np.array(colour)
    return mask


def write_shard(path: Path, rng, stills=24, tracks=5, frames=5, edit=None) -> None:
    """Write a shard; `edit(rows, files)` may spoil it before it is written."""
    rows, files = [], {}

    def add(name, image, source, objects, mask=None, track=None):
        files[f"{name}.webp"] = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 95])[1].tobytes()
        row = {"file": f"{name}.webp", "source": source, "mask": None, "objects": objects}
        row |= {"width": image.shape[1], "height": image.shape[0]}
        if mask is not None:
            files[f"{name}.png"] = cv2.imencode(".png", mask)[1].tobytes()
            row |= {"mask": f"{name}.png", "mask_label": "human"}
        if track is not None:
            row["track"] = track
        rows.append(row)

    def random_box(width, height):
        w, h = rng.integers(16, 40, 2)
        return [int(rng.integers(0, width - w)), int(rng.integers(0, height - h)), int(w), int(h)]

    for i in range(stills):
        width, height = (int(v) for v in rng.integers(120, 160, 2))
        image, box = ground(rng, width, height), random_box(width, height)
        mask = draw_shape(image, box, rng.integers(0, 256, 3).tolist(), i % 2)
        kind = {"box": box, "class": f"shape{i % 2}", "label": "human"}
        if i % 3:
            add(f"still{i}", image, f"photo{i % 2}", [kind])
        else:
            add(f"still{i}", image, "masked", [kind | {"mask": 1}], mask)
    for t in range(tracks):
        background, box = ground(rng, 140, 120), random_box(140, 120)
        colour, step = rng.integers(0, 256, 3).tolist(), rng.uniform(-3, 3, 2)
        for f in range(frames):
            image = background.copy()
            now = [box[0] + step[0] * f, box[1] + step[1] * f, *box[2:]]
            draw_shape(image, now, colour, t % 2)
            objects = [{"box": [float(v) for v in now], "class": "thing", "label": "human"}]
            add(f"track{t}-{f}", image, "track/drawn", objects, track={"id": f"t{t}", "frame": 3 * f})
    for i in range(3):
        image = np.zeros((60, 60, 4), np.uint8)
        cv2.circle(image, (30, 30), 24, (*rng.integers(0, 256, 3).tolist(), 255), -1)
        add(f"sprite{i}", image, "sprite", [{"box": [6, 6, 49, 49], "class": f"s{i}", "label": "alpha"}])
    for i in range(3):
        add(f"background{i}", ground(rng, 150, 130), "background/drawn", [])
    if edit:
        edit(rows, files)
    with tarfile.open(path, "w") as tar:
        for name, data in {**files, "index.jsonl": "\n".join(map(json.dumps, rows)).encode()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

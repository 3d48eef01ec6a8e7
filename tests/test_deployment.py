"""The program in docs/deployment.md, run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import fartrack
from small import BOX, frames, network

DOCS = Path(__file__).parents[1] / "docs" / "deployment.md"


def program():
    (text,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return text


def test_is_thirty_lines():
    lines = [line for line in program().splitlines() if line]
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 120


def test_gives_the_boxes_of_the_tracker(tmp_path):
    pytest.importorskip("torch")
    from fartrack.config import PICO
    from fartrack.export import state_of
    from fartrack.graph import build

    config = PICO.replace(depth=1)  # its width is written in the program
    model, script = tmp_path / "model.onnx", tmp_path / "alone.py"
    model.write_bytes(build(state_of(network(config)), config).SerializeToString())
    script.write_text(program(), encoding="utf-8")
    images = frames(12)
    for i, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{i:03d}.png"), image)
    tracker = fartrack.Tracker(model, threads=1)
    tracker.init(images[0], BOX)
    expected = [tracker.update(image)[1] for image in images[1:]]
    run = [sys.executable, script, model, tmp_path / "%03d.png", ",".join(map(str, BOX))]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    given = [[float(v) for v in line.split(",")] for line in done.stdout.splitlines()]
    np.testing.assert_allclose(given, expected, atol=0.02)

"""The program in docs/deployment.md, run as it stands there."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

import fartrack
from manual import program
from small import BOX, frames, network


def test_is_thirty_lines():
    lines = [line for line in program().splitlines() if line]
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 120


def run(folder, net, images, text=None, **changes):
    """A program and `fartrack.Tracker` with a file of other rules: what it prints, and the rows expected."""
    from fartrack.export import state_of
    from fartrack.graph import build

    model, script = folder / "model.onnx", folder / "alone.py"
    model.write_bytes(build(state_of(net), net.config.replace(**changes)).SerializeToString())
    script.write_text(text or program(), encoding="utf-8")
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / f"{i:03d}.png"), image)
    tracker = fartrack.Tracker(model, threads=1)
    tracker.init(images[0], BOX)
    expected = [(*tracker.update(image)[1], tracker.score) for image in images[1:]]
    command = [sys.executable, script, model, folder / "%03d.png", ",".join(map(str, BOX))]
    return subprocess.run(command, capture_output=True, text=True, check=False), expected


def check(done, expected):
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    given = np.array([[float(v) for v in line.split(",")] for line in done.stdout.splitlines()])
    np.testing.assert_allclose(given[:, :4], np.array(expected)[:, :4], atol=0.02)
    np.testing.assert_allclose(given[:, 4], np.array(expected)[:, 4], atol=0.002)


@pytest.mark.parametrize("changes", [{}, {"keep": 0.5}, {"template_factor": 1.5, "margin": 30.0}], ids=str)
def test_gives_the_boxes_of_the_tracker(changes, tmp_path):
    """With pico's own weights, whose boxes depend on every one of these.

    A few frames: where two words tie, a rounding decides, and from there on the boxes differ by more.
    """
    pytest.importorskip("torch")
    from fartrack.models import find, load_network

    check(*run(tmp_path, load_network(find("pico")), frames(5), **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "joint", "search_size": 224, "search_factor": 4.0, "bins": 200},
        {"templates": 3, "template_size": 96, "keep": 1.0},
    ],
    ids=str,
)
def test_takes_every_size_from_the_file(changes, tmp_path):
    """And nothing is said of frames that are all black."""
    pytest.importorskip("torch")
    from fartrack.config import PICO

    images = frames(7)
    images[3:5] = [np.zeros_like(images[0])] * 2
    check(*run(tmp_path, network(PICO.replace(depth=1, **changes)), images))


@pytest.mark.skipif(not hasattr(cv2.dnn, "ENGINE_NEW"), reason="OpenCV before 5")
@pytest.mark.parametrize("changes", [{}, {"attention": "joint"}], ids=str)
def test_with_opencv_alone(changes, tmp_path):
    pytest.importorskip("torch")
    from fartrack.config import PICO
    from fartrack.models import find, load_network

    text = program("diff")
    assert "onnxruntime" not in text and "session" not in text
    net = network(PICO.replace(depth=1, **changes)) if changes else load_network(find("pico"))
    check(*run(tmp_path, net, frames(5), text))


@pytest.mark.parametrize(
    "changes",
    [{"memory": "exponential"}, {"decoding": "release"}, {"trajectory": 2}, {"trust": 0.5}, {"withhold": True}],
    ids=str,
)
def test_refuses_other_rules_in_one_line(changes, tmp_path):
    pytest.importorskip("torch")
    from fartrack.config import PICO

    done, _ = run(tmp_path, network(PICO.replace(depth=1, **changes)), frames(2))
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]  # above it may stand what libraries say of this machine
    assert line.startswith(f"{tmp_path / 'model.onnx'} asks for other rules") and "Traceback" not in done.stderr

"""The tracker in C++ (examples/cpp) beside the Python package; needs OpenCV 5 for C++: `make test-cpp` builds one."""

import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

import fartrack
from fartrack.models import find
from small import BOX, frames, network

CPP = Path(__file__).parents[2] / "examples" / "cpp"
CLIP = Path(fartrack.__file__).parent / "demo" / "clip.mp4"

pytestmark = pytest.mark.skipif(
    not (os.environ.get("OpenCV_DIR") and shutil.which("cmake")),  # noqa: SIM112  (CMake's name)
    reason="OpenCV_DIR names no OpenCV 5 for C++, or there is no CMake",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Compiled with what compilers warn of as errors."""
    build = tmp_path_factory.mktemp("cpp")
    subprocess.run(["cmake", "-S", CPP, "-B", build, "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"], check=True)
    subprocess.run(["cmake", "--build", build], check=True)
    return build / "track"


def run(program, model, images, box, folder):
    """Rows x, y, w, h, score of the program and of `fartrack.Tracker` in the same engine."""
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / f"{i:04d}.png"), image)
    done = subprocess.run(
        [program, model, folder / "%04d.png", ",".join(map(str, box))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    tracker = fartrack.Tracker(model, runtime="opencv")
    tracker.init(images[0], box)
    expected = [(*tracker.update(image)[1], tracker.score) for image in images[1:]]
    return np.array([[float(v) for v in row.split(",")] for row in done.stdout.splitlines()]), np.array(expected)


@pytest.mark.parametrize("model", ["femto", "pico", "nano", "tiny"])
def test_packaged_models(program, model, tmp_path):
    """Nearly two hundred frames: for the last of them not every template is remembered any more."""
    capture = cv2.VideoCapture(str(CLIP))
    images = [image for read, image in iter(capture.read, (False, None)) if read]
    given, expected = run(program, find(model), images, (309, 121, 112, 268), tmp_path)
    assert len(given) == len(images) - 1 > 150
    differ = np.abs(given - expected)
    assert (differ.max(1) < 0.001).mean() > 0.95  # where two words tie, a rounding decides
    assert np.median(differ) < 0.0005 and differ.max() < 2


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "joint", "search_size": 224, "search_factor": 4.0, "bins": 200},
        {"templates": 3, "template_size": 96, "keep": 1.0, "lighten": 150.0, "template_tint": 0.4},
        {"keep": 0.8, "template_size": 80},  # 20 tokens stay of 25, and not 21
        {"search_factor": 40.0, "lighten": 50.0, "score_shape": -2.0, "attention": "oneway"},
    ],
    ids=str,
)
def test_other_models(program, changes, tmp_path):
    """Sizes, factors and rules of the file; crops that reach far out of the frame."""
    from fartrack.config import PICO
    from fartrack.export import state_of
    from fartrack.graph import build

    net = network(PICO.replace(depth=1, **changes))
    model = tmp_path / "model.onnx"
    model.write_bytes(build(state_of(net), net.config).SerializeToString())
    given, expected = run(program, model, frames(40), BOX, tmp_path)
    np.testing.assert_allclose(given[:, :4], expected[:, :4], atol=0.02)
    np.testing.assert_allclose(given[:, 4], expected[:, 4], atol=0.002)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.onnx", str(CLIP), "1,2,30,40"], "none.onnx is no fartrack model file"),
        ([str(find("pico")), "none.mp4", "1,2,30,40"], "none.mp4 cannot be read as a video"),
        ([str(find("pico")), str(CLIP), "1,2"], "usage: track MODEL.onnx VIDEO X,Y,W,H"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(program, arguments, says, tmp_path):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr.splitlines()[-1]

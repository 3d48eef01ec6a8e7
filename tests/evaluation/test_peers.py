"""Other trackers behind the same two calls."""

import pickle
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.evaluation.peers import (
    Imported,
    Nano,
    NanoInOpenCV,
    OpenCVs,
    OpenCVTracker,
    Ours,
    labelled,
    parse_model,
    score_of,
)
from template_tracker import TemplateTracker, moving_square


class FakeOpenCV:
    """Finds the target in the first frame after the start and then never again."""

    def __init__(self):
        self.frames = 0

    def init(self, frame, box):
        assert all(isinstance(value, int) for value in box)
        self.start = box

    def update(self, frame):
        self.frames += 1
        return (True, (5, 6, 7, 8)) if self.frames == 1 else (False, (0, 0, 0, 0))


def test_opencv_trackers_keep_the_last_box_and_start_afresh():
    tracker = OpenCVTracker(FakeOpenCV)
    frame = np.zeros((50, 50, 3), np.uint8)
    for _ in range(2):
        tracker.init(frame, (1.4, 2.6, 10.0, 0.2))
        assert tracker._tracker.start == (1, 3, 10, 1)
        assert tracker.update(frame) == (True, (5.0, 6.0, 7.0, 8.0))
        assert tracker.update(frame) == (False, (5.0, 6.0, 7.0, 8.0))
    assert score_of(tracker) is None


@pytest.mark.parametrize("name", ["csrt", "kcf", "mil"])
def test_opencv_by_name(name):
    if not hasattr(cv2, f"Tracker{name.upper()}"):
        with pytest.raises(InputError, match="opencv-contrib-python-headless<5"):
            parse_model(name).open()
        return
    frames, boxes = moving_square(3)
    tracker = parse_model(name).open()
    tracker.init(frames[0], boxes[0])
    found, box = tracker.update(frames[1])
    assert len(box) == 4
    assert found in (True, False)


@pytest.mark.skipif(sys.platform == "win32", reason="its random numbers cannot be set there")
@pytest.mark.skipif(not hasattr(cv2, "TrackerMIL"), reason="not in this OpenCV")
def test_mil_gives_the_same_boxes_again():
    """It draws from OpenCV's random numbers and from the C library's: every run of a sequence was another."""
    frames, boxes = moving_square(8)

    def run():
        tracker = parse_model("mil").open()
        tracker.init(frames[0], boxes[0])
        return [tracker.update(frame)[1] for frame in frames[1:]]

    assert run() == run()


def test_scores():
    assert score_of(TemplateTracker()) == 0.0

    class OpenCVStyle:
        def getTrackingScore(self):
            return 0.25

    assert score_of(OpenCVStyle()) == 0.25

    class WithoutOne:
        def getTrackingScore(self):
            return -1.0  # OpenCV 5's MIL: an AUROC was computed of it

    assert score_of(WithoutOne()) is None


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("csrt", OpenCVs("csrt", "csrt")),
        ("pico", Ours("pico", "pico")),
        ("runs/a/best.onnx", Ours("best", "runs/a/best.onnx")),
        ("mine=runs/a/best.onnx", Ours("mine", "runs/a/best.onnx")),
        ("./x=y/pico.onnx", Ours("pico", "./x=y/pico.onnx")),
        ("nanotrackv3:/some/where", Nano("nanotrackv3", "nanotrackv3", "/some/where")),
        ("n=nanotrackv2-opencv:/some/where", NanoInOpenCV("n", "/some/where")),
        ("template_tracker:TemplateTracker", Imported("TemplateTracker", "template_tracker", "TemplateTracker")),
    ],
)
def test_names(text, model):
    assert parse_model(text) == model
    assert pickle.loads(pickle.dumps(model.open)).__self__ == model  # it is opened in other processes


def test_a_path_with_an_equals_sign_is_no_label(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lr=1.onnx").touch()
    assert labelled("lr=1.onnx") == ("", "lr=1.onnx") and labelled("lr=2.onnx") == ("lr", "2.onnx")


def test_another_runtime_is_another_row():
    assert parse_model("pico", "openvino").label == "pico-openvino"
    assert parse_model("csrt", "openvino").label == "csrt"


def test_looking_elsewhere_is_another_row():
    """Or its results would be taken for those of the paper's tracker, and the other way round."""
    plain, seeks = parse_model("pico"), parse_model("pico", seek=True)
    assert (seeks.label, parse_model("csrt", seek=True).label) == ("pico-seek", "csrt")
    assert parse_model("a=pico").fingerprint() != parse_model("a=pico", seek=True).fingerprint()
    assert seeks.open().seek and not plain.open().seek


@pytest.mark.skipif(sys.platform == "win32", reason="no such names")
def test_a_file_with_a_colon_in_its_path_is_ours(tmp_path, monkeypatch):
    """As all whole paths have on Windows: its other runtime, and `--seek`, were the same row."""
    monkeypatch.chdir(tmp_path)
    Path("12:30").mkdir()
    Path("12:30/a.onnx").touch()
    assert parse_model("12:30/a.onnx", "openvino", seek=True).label == "a-openvino-seek"


@pytest.mark.parametrize("text", ["", "x=", "=pico", "..=pico"])
def test_names_that_are_none(text):
    with pytest.raises(InputError, match="--model"):
        parse_model(text)


def test_anything_with_init_and_update():
    model = parse_model("template_tracker:TemplateTracker")
    assert isinstance(model.open(), TemplateTracker)
    assert model.fingerprint()["model"] == "template_tracker:TemplateTracker"
    with pytest.raises(InputError, match=r"no_such_module:x: No module named"):
        parse_model("no_such_module:x").open()
    with pytest.raises(InputError, match="it makes no tracker"):
        parse_model("collections:OrderedDict").open()


@pytest.mark.parametrize(
    ("name", "program", "says"),
    [
        ("half", "def make(:", r"SyntaxError: invalid syntax \(half\.py, line 1\)"),
        ("hungry", "import os\nos.nothing", r"AttributeError: .* \(.*hungry\.py, line 2\)"),
        ("weak", "def make():\n    raise OSError('no weights')", r"OSError: no weights \(.*weak\.py, line 2\)"),
    ],
)
def test_what_is_wrong_in_ones_own_program(tmp_path, monkeypatch, name, program, says):
    monkeypatch.chdir(tmp_path)
    Path(f"{name}.py").write_text(program)
    with pytest.raises(InputError, match=f"--model {name}:make: {says}"):
        parse_model(f"{name}:make").open()


def test_a_tracker_that_was_changed_is_another(tmp_path, monkeypatch):
    """Its old results were taken for those of the new program."""
    monkeypatch.chdir(tmp_path)
    Path("my_own.py").write_text("class Mine: pass")
    before = parse_model("my_own:Mine").fingerprint()
    assert parse_model("my_own:Mine").fingerprint() == before
    Path("my_own.py").write_text("class Mine: better = True")
    assert parse_model("my_own:Mine").fingerprint() != before
    assert parse_model("sys:x").fingerprint() == {"model": "sys:x"}  # it has no file


def test_files_are_part_of_the_fingerprint(tmp_path):
    for part in ("backbone", "head"):
        (tmp_path / f"nanotrack_{part}.onnx").write_bytes(b"1")
    before = parse_model(f"nanotrackv2:{tmp_path}").fingerprint()
    (tmp_path / "nanotrack_head.onnx").write_bytes(b"2")
    assert parse_model(f"nanotrackv2:{tmp_path}").fingerprint() != before

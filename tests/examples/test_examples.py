"""Every example runs, and is short."""

import contextlib
import importlib.util
import itertools
import re
import runpy
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest

import fartrack
import fartrack.tracker
from fartrack.errors import InputError
from fartrack.formats import Video, read_boxes
from fartrack.video import reader, select
from fartrack.video.frame import Frame
from fartrack.video.writer import VideoWriter
from template_tracker import TemplateTracker, moving_square

FOLDER = Path(__file__).resolve().parents[2] / "examples"
MANUAL = FOLDER.parent / "docs" / "deployment.md"
EXAMPLES = sorted(FOLDER.glob("*.py"))


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def tracker(monkeypatch, tmp_path):
    """The small tracker instead of the network."""
    monkeypatch.setattr(fartrack.tracker, "Tracker", lambda model="pico": TemplateTracker())
    monkeypatch.chdir(tmp_path)


def video(path, frames):
    with VideoWriter(path, frames[0].shape[1], frames[0].shape[0]) as writer:
        for i, frame in enumerate(frames):
            writer.write(frame, i / 25)
    return path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_about_40_lines(path):
    assert len(path.read_text().splitlines()) < 42


@pytest.mark.parametrize("name", ["detector", "folder", "newest", "stream", "two_targets"])
def test_without_arguments_they_say_how(name):
    done = subprocess.run([sys.executable, FOLDER / f"{name}.py"], capture_output=True, text=True, timeout=120)
    if name == "two_targets" and "No module named 'supervision'" in done.stderr:
        pytest.skip("no supervision")
    assert done.returncode == 1 and f"python examples/{name}.py" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("detector", ["none.mp4"], "none.mp4"),
        ("newest", ["none.mp4", "10,40,20,20"], "none.mp4"),
        ("newest", ["clip.mp4", "left,40,20,20"], "'left'"),
        ("stream", ["none.mp4", "10,40,20,20"], "none.mp4"),
        ("two_targets", ["none.mp4", "new.mp4", "10,40,20,20"], "none.mp4"),
        ("two_targets", ["clip.mp4", "new.mp4", "left,40,20,20"], "'left'"),
        ("webcam", ["none.mp4"], "none.mp4"),
        ("webcam", ["99"], "webcam 99"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(monkeypatch, tmp_path, name, arguments, says):
    video(tmp_path / "clip.mp4", moving_square(2)[0])
    monkeypatch.setitem(sys.modules, "supervision", MagicMock())
    monkeypatch.setattr(fartrack, "MultiTracker", lambda model: MagicMock(), raising=False)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit, match=says) as ended:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert len(ended.value.code.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_all_have_a_test():
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES} <= tests


def test_webcam(monkeypatch, tmp_path, capsys):
    """Drawn at the start and after 30 frames without the target; the recording has every frame."""
    frames, boxes = moving_square(60, step=1, hidden=range(10, 45))
    camera = iter(frames)

    def open_webcam(number, start):
        return reader.VideoSource(
            f"webcam {number}",
            reader._webcam_frames(lambda: (True, next(camera)), lambda: None, "webcam 0", start),
            fps=Fraction(25),
            time_base=Fraction(1, 90_000),
            live=True,
        )

    drawn = []

    def draw(image):
        drawn.append(next(i for i, frame in enumerate(frames) if frame is image))
        if drawn[-1] > 0 and len(drawn) > 2:
            raise KeyboardInterrupt
        return boxes[drawn[-1]]

    monkeypatch.setattr(reader, "_open_webcam", open_webcam)
    monkeypatch.setattr(select, "select_box", draw)
    with pytest.raises((RuntimeError, StopIteration, InputError)):  # the fake camera runs dry
        load("webcam").main("0")
    assert drawn == [0, 40]
    said = capsys.readouterr().out.splitlines()
    assert said[5].startswith("frame 5: at") and said[30].startswith("frame 30: lost near")
    with reader.frames_from_source(next(tmp_path.glob("webcam-*.mp4"))) as recorded:
        assert sum(1 for _ in recorded) == 60


def test_webcam_writes_over_nothing(tmp_path):
    """`webcam.py clip.mp4 clip.mp4` left a person without the clip."""
    (tmp_path / "clip.mp4").write_text("precious")
    with pytest.raises(SystemExit, match=r"clip\.mp4 is there already: give another name"):
        load("webcam").main("clip.mp4", "clip.mp4")
    assert (tmp_path / "clip.mp4").read_text() == "precious"


def test_folder(tmp_path, capsys):
    """What is wrong with one video or its box is one line that names it; the others are tracked all the same."""
    frames, boxes = moving_square(8)
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c", "d", "e"):
        video(tmp_path / "in" / f"{name}.mp4", frames)
        (tmp_path / "in" / f"{name}.txt").write_text("10,40,20,20")
    (tmp_path / "in" / "b.txt").write_text("900,40,20,20")
    (tmp_path / "in" / "c.txt").unlink()
    (tmp_path / "in" / "d.txt").write_text("left, top, width, height")
    assert load("folder").main("in", "results") == 3
    said = capsys.readouterr()
    assert said.out == "a.mp4: 8 frames, found in 8\ne.mp4: 8 frames, found in 8\n"
    outside, missing, words = said.err.splitlines()
    assert outside.startswith("b.mp4") and "lies outside the 160 x 120 frame" in outside
    assert missing.startswith("c.mp4") and "c.txt" in missing
    assert words.startswith("d.mp4") and "'left'" in words
    for kind in ("csv", "xml"):
        (track,) = read_boxes(tmp_path / "results" / f"a.{kind}", Video("a.mp4", 160, 120, 25, 8))
        assert np.allclose([box.xywh for box in track.boxes], boxes, atol=2)
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == ["a.csv", "a.xml", "e.csv", "e.xml"]


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch], ids=["missing", "empty", "a file"])
def test_folder_without_videos(monkeypatch, tmp_path, make):
    make(tmp_path / "in")
    monkeypatch.setattr(sys, "argv", ["folder.py", "in", "results"])
    with pytest.raises(SystemExit, match="in is no folder with"):
        runpy.run_path(str(FOLDER / "folder.py"), run_name="__main__")
    assert not (tmp_path / "results").exists()


def test_folder_of_other_videos(tmp_path, capsys):
    """Of two that differ only in their kind, neither writes over the other's results."""
    (tmp_path / "in").mkdir()
    clip = video(tmp_path / "clip.mp4", moving_square(3)[0]).read_bytes()
    for name, box in (("a.mp4", "a.mp4.txt"), ("A.MOV", "A.MOV.txt"), ("b.MP4", "b.txt")):
        (tmp_path / "in" / name).write_bytes(clip)
        (tmp_path / "in" / box).write_text("10,40,20,20")
    assert load("folder").main("in", "results") == 0
    expected = {f"{name}.{kind}" for name in ("a.mp4", "A.MOV", "b") for kind in ("csv", "xml")}
    assert {path.name for path in (tmp_path / "results").iterdir()} == expected


def test_stream(tmp_path, capsys):
    """Two connections: the target is not drawn again, the boxes go on; then there is nobody there."""
    frames, _ = moving_square(6)
    video(tmp_path / "stream.mp4", frames)
    stream = load("stream")
    stream.main("stream.mp4", "10,40,20,20", attempts=2, wait=0)
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 5 + 6
    assert said.out.splitlines()[4].split()[1] == "25,40,20,20"
    assert said.err.splitlines() == ["the stream ended"] * 2
    stream.main("rtsp://127.0.0.1:9/none", "10,40,20,20", attempts=2, wait=0)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith("rtsp://127.0.0.1:9/none: the stream") for line in said)


def test_stream_with_a_wrong_box(tmp_path):
    """It does not get better with another connection: the example went on for ever."""
    video(tmp_path / "stream.mp4", moving_square(6)[0])
    stream = load("stream")

    class Refuses(TemplateTracker):
        def init(self, frame, box):
            raise InputError("box lies outside")

    stream.Tracker = lambda model: Refuses()
    for box, says in (("900,40,20,20", "lies outside"), ("left,0,1,1", "'left'")):
        with pytest.raises(SystemExit, match=says):
            stream.main("stream.mp4", box, wait=0)


def test_stream_from_the_shell(tmp_path, capsys):
    """There everything is text."""
    stream = load("stream")
    stream.main("rtsp://127.0.0.1:9/none", "10,40,20,20", "2", "0")
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_newest(monkeypatch):
    """Frames that nobody took are dropped, the last one comes, and what ended the camera is said."""
    newest = load("newest")
    taken, ended = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def camera(address):
        def frames():
            yield Frame(0, 0.0, None)
            assert taken.wait(60)
            yield from (Frame(i, i / 25, None) for i in range(1, 6))
            ended.set()
            raise InputError(f"{address}: it breaks off")

        yield frames()

    monkeypatch.setattr(newest, "frames_from_source", camera)
    frames = newest.newest("a camera")
    assert next(frames).index == 0
    taken.set()
    assert ended.wait(60)
    assert next(frames).index == 5
    with pytest.raises(InputError, match="a camera: it breaks off"):
        next(frames)


def test_detector(tmp_path, capsys):
    frames, boxes = moving_square(12, hidden=(7, 8))
    still = frames[8]  # nothing on it
    video(tmp_path / "clip.mp4", [still, *frames[1:]])
    load("detector").main("clip.mp4")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "frame 0: nothing"
    x, y, w, h = eval(said[1].partition(": ")[2])
    assert x < boxes[1][0] and y < 40 and x + w > boxes[1][0] + 20 and y + h > 60  # found by its motion
    assert said[7] == "frame 7: nothing"
    assert "nothing" not in said[11]  # found again


def test_detector_compares_with_the_frame_before(tmp_path, capsys):
    """Not with the one from before the tracking, where the target has long left: the tracker began there again."""
    frames, boxes = moving_square(40, hidden=(30, 31, 32))
    video(tmp_path / "clip.mp4", [frames[31], *frames[1:]])
    load("detector").main("clip.mp4")
    said = capsys.readouterr().out.splitlines()
    assert said[31].endswith("nothing")
    again = next(line for line in said[32:] if "nothing" not in line)
    x, _, w, _ = eval(again.partition(": ")[2])
    assert x + w > boxes[33][0] and x > boxes[5][0] + 30


def test_detector_of_ones_own(tmp_path, capsys):
    frames, boxes = moving_square(6)
    video(tmp_path / "clip.mp4", frames)
    asked = []

    def detect(image):
        asked.append(image.shape)
        return boxes[1] if len(asked) == 2 else None

    load("detector").main("clip.mp4", detect)
    assert len(asked) == 2
    assert capsys.readouterr().out.splitlines()[5] == "frame 5: [25, 40, 20, 20]"


def test_two_targets(monkeypatch, tmp_path, capsys):
    pytest.importorskip("supervision")
    if "MultiTracker" not in fartrack.__all__:
        pytest.skip("fartrack.MultiTracker is not there yet")
    frames, _ = moving_square(6)
    video(tmp_path / "clip.mp4", frames)

    class Several:
        def __init__(self, model):
            self.targets, self.ids = {}, itertools.count(1)

        def add(self, frame, box):
            id = next(self.ids)
            self.targets[id] = TemplateTracker()
            self.targets[id].init(frame, box)
            return id

        def update(self, frame):
            return {id: (*one.update(frame), one.score) for id, one in self.targets.items()}

    monkeypatch.setattr(fartrack, "MultiTracker", Several, raising=False)
    load("two_targets").main("clip.mp4", "drawn.mp4", "10,40,20,20", "100,80,30,30")
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 5
    assert all(" 1 at [" in line and ", 2 " in line for line in said)
    with reader.frames_from_source(tmp_path / "drawn.mp4") as recorded:
        drawn = [frame.image for frame in recorded]
    assert len(drawn) == 5
    assert np.abs(drawn[0].astype(int) - frames[1]).max() > 60  # something is drawn


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["clip.mp4", "clip.mp4", "10,40,20,20"], "clip.mp4 is there already"),
        (["clip.mp4", "drawn.mp4"], "python examples/two_targets.py video.mp4 new.mp4"),
        (["clip.mp4", "10,40,20,20", "100,80,30,30"], "python examples/two_targets.py"),
        ([], "python examples/two_targets.py"),
    ],
    ids=["its own source", "no boxes", "no output", "nothing"],
)
def test_two_targets_writes_over_nothing(tmp_path, arguments, says):
    """Someone who tries the example on a video of their own still has it afterwards, and no file that was not named."""
    pytest.importorskip("supervision")
    (tmp_path / "clip.mp4").write_text("precious")
    with pytest.raises(SystemExit, match=says):
        load("two_targets").main(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    assert (tmp_path / "clip.mp4").read_text() == "precious"


LIKE_OURS = {"score_shape": -1.5, "lighten": 150.0}


@pytest.mark.parametrize(
    "changes",
    [None, LIKE_OURS, LIKE_OURS | {"update_interval": 2, "score_bias": 50.0}],  # the last is always sure
    ids=["paper", "packaged", "fewer templates"],
)
def test_onnx_alone(changes, tmp_path, monkeypatch):
    """The same boxes and scores as fartrack.Tracker, frame by frame, with a small network of the real shape."""
    torch = pytest.importorskip("torch")
    from fartrack.config import OURS, ModelConfig
    from fartrack.export import export
    from fartrack.network import FARTrack

    monkeypatch.undo()
    torch.manual_seed(0)
    model = tmp_path / "model.onnx"
    export(FARTrack(ModelConfig(depth=2, **({} if changes is None else OURS | changes))), model, "fp32")
    frames, _ = moving_square(17)  # from the eleventh on not every frame gives a template
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for frame in frames:
        writer.write(frame)
    writer.release()
    capture = cv2.VideoCapture(str(path))
    decoded = [capture.read()[1] for _ in frames]
    tracker = fartrack.Tracker(model, threads=1)
    tracker.init(decoded[0], (10, 40, 20, 20))
    expected = [(*tracker.update(frame)[1], tracker.score) for frame in decoded[1:]]
    command = [sys.executable, FOLDER / "onnx_alone.py", model, path, "10,40,20,20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = np.array([[float(v) for v in line.split(",")] for line in done.stdout.splitlines()])
    assert np.allclose(rows[:, :4], np.array(expected)[:, :4], atol=0.02)
    assert np.allclose(rows[:, 4], np.array(expected)[:, 4], atol=0.002)


def test_onnx_alone_is_the_manuals_program():
    (manual,) = re.findall(r"```python\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    first, *program = (line for line in manual.splitlines() if line)
    text = (FOLDER / "onnx_alone.py").read_text(encoding="utf-8").partition("import onnxruntime\n")[2]
    assert first == "import json, sys, cv2, numpy as np, onnxruntime"
    assert program == [line for line in text.splitlines() if line]

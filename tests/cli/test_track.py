"""`fartrack track`: what it writes, and what it says when something given is wrong."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import fartrack.tracker
from fartrack.cli.labels import Labels
from fartrack.cli.main import main
from fartrack.cli.outputs import untouched
from fartrack.errors import InputError
from fartrack.multitracker import MultiTracker
from fartrack.video import writer
from fartrack.video.reader import frames_from_source
from fartrack.video.writer import VideoWriter
from template_tracker import TemplateTracker
from videos import clip, cut_off, picture, quadrants, write_images, write_video

BOX = "8,20,24,24"


class CommandTracker(TemplateTracker):
    """The small tracker, opened as the command does it, and measured."""

    def __init__(self, model="pico", runtime="onnxruntime", threads=None, explain=False, seek=False):
        super().__init__()
        self.network_seconds = 0.0

    def update(self, frame):
        self.network_seconds += 0.001
        return super().update(frame)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty working folder, and the small tracker in place of the network."""
    monkeypatch.setattr(fartrack.tracker, "Tracker", CommandTracker)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def complaint(capfd, *arguments):
    """The one line that a wrong command gets."""
    assert main(["track", *map(str, arguments)]) == 2
    said = capfd.readouterr()
    assert said.err.startswith("fartrack: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    return said.err


def test_a_single_frame(folder, capfd):
    clip("a.mp4", 1)
    assert main(["track", "a.mp4", "--box", BOX]) == 0
    assert capfd.readouterr().out.splitlines()[0] == "1 frame, the object found in 1"


def test_what_is_written(folder, capfd):
    clip("a.mp4", 20)
    assert main(["track", "a.mp4", "--box", BOX]) == 0
    said = capfd.readouterr()
    assert said.err == ""  # no progress where nobody looks
    lines = said.out.splitlines()
    assert lines[0] == "20 frames, the object found in 20"
    assert lines[1].endswith("1000.0 the network alone")
    assert [Path(line) for line in lines[2:]] == [
        Path("out/a") / name for name in ("boxes.csv", "tracked.mp4", "strip.png")
    ]
    assert sorted(p.name for p in Path("out/a").iterdir()) == ["boxes.csv", "strip.png", "tracked.mp4"]

    text = Path("out/a/boxes.csv").read_text()
    assert text.startswith("frame,x,y,w,h,score,found\n0,8,20,24,24,1,1\n")
    rows = rows_of("out/a/boxes.csv")
    assert [int(row["frame"]) for row in rows] == list(range(20))
    for i, row in enumerate(rows):
        assert [float(row[k]) for k in "xywh"] == pytest.approx([8 + i, 20, 24, 24], abs=1)
        assert 0 <= float(row["score"]) <= 1
        assert row["found"] == "1"

    with frames_from_source("out/a/tracked.mp4") as video:
        assert (video.width, video.height, video.count) == (96, 64, 20)
        assert [frame.time for frame in video] == [i / 25 for i in range(20)]
    assert cv2.imread("out/a/strip.png").shape[0] > 100


def test_several_boxes(folder, capfd, tiny_model):
    """Several objects in one video, each followed as it would be alone."""
    clip("a.mp4", 8)
    command = ["track", "a.mp4", "--model", str(tiny_model.onnx), "--threads", "1", "--format", "mot"]
    assert main([*command, "--box", BOX, "--box", "50,30,20,20", "--label", "cat", "--label", "dog"]) == 0
    assert "8 frames, objects found: 1 in " in capfd.readouterr().out
    assert Path("out/a/mot/gt/labels.txt").read_text().split() == ["cat", "dog"]
    rows = rows_of("out/a/boxes.csv")
    assert [(row["frame"], row["id"]) for row in rows] == [(str(i), id) for i in range(8) for id in "12"]
    images = [frame.image for frame in frames_from_source("a.mp4")]
    tracker = MultiTracker(tiny_model.onnx, threads=1)
    for box in ((8, 20, 24, 24), (50, 30, 20, 20)):
        tracker.add(images[0], box)
    last = [tracker.update(image) for image in images[1:]][-1]
    for row, (found, box, _) in zip(rows[-2:], last.values(), strict=True):
        assert [float(row[k]) for k in "xywh"] == pytest.approx(box, abs=0.01) and row["found"] == str(int(found))
    assert len(next(Path("out/a").rglob("*.txt")).read_text().splitlines()) == 16
    with frames_from_source("out/a/tracked.mp4") as video:
        assert len(list(video)) == 8
    assert "--explain" in complaint(capfd, "a.mp4", "--box", BOX, "--box", "50,30,20,20", "--explain")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a\nb"], "cannot be written into label files"),
        (["d\x07g"], "cannot be written into label files"),
        (["d\udcffg"], "cannot be written into label files: its bytes are no UTF-8"),
        ([" "], "cannot be written into label files"),
        (["a", "b"], "given 2 times for 1 object: give one label, or one for each"),
    ],
)
def test_labels_that_cannot_be_are_refused_before_the_work(folder, capfd, labels, message):
    clip("a.mp4", 3)
    given = [word for label in labels for word in ("--label", label)]
    assert message in complaint(capfd, "a.mp4", "--box", BOX, *given)
    assert not Path("out").exists()


def test_results_of_another_run_stay(folder, capfd):
    """Two videos of one name, or a webcam's second recording: the first cannot be made again."""
    for name in ("a.mp4", "a.mkv"):
        clip(name, 3)
    assert main(["track", "a.mp4", "--box", BOX]) == 0
    first = {p.name: p.read_bytes() for p in Path("out/a").iterdir()}
    assert main(["track", "a.mkv", "--box", BOX, "--no-video"]) == 0
    assert str(Path("out/a-2/boxes.csv")) in capfd.readouterr().out
    assert {p.name: p.read_bytes() for p in Path("out/a").iterdir()} == first
    assert sorted(p.name for p in Path("out/a-2").iterdir()) == ["boxes.csv", "strip.png"]
    assert untouched(Path("out/c")) == Path("out/c") and untouched(Path("out/c")) == Path("out/c-2")  # two at once
    for name in ("Girl", "Biker"):  # as data sets have them
        write_images(folder / name / "img", map(picture, range(3)))
        assert main(["track", f"{name}/img", "--box", BOX, "--no-video"]) == 0
        assert Path("out", name, "boxes.csv").exists()


def test_what_is_left_of_an_earlier_run_is_named(folder, capfd):
    """Labels of another object beside the new table look as if they were of the new one."""
    clip("a.mp4", 3)
    assert main(["track", "a.mp4", "--box", BOX, "--out", "here", "--format", "cvat"]) == 0
    assert capfd.readouterr().err == ""
    assert main(["track", "a.mp4", "--box", "10,20,24,24", "--out", "here", "--no-video"]) == 0
    said = capfd.readouterr()
    assert said.err == "fartrack: here also holds tracked.mp4, cvat.xml of an earlier run\n"
    assert "tracked.mp4" not in said.out


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no UTF-8")
def test_names_that_are_no_text(folder, capfd):
    """Of old archives and cameras; OpenCV's own writing ends the process at such a path."""
    clip("a.mp4", 3)
    name = os.fsdecode(b"vid\xe9o.mp4")
    Path("a.mp4").rename(name)
    assert main(["track", name, "--box", BOX, "--no-video", "--format", "yolo,cvat,mot,coco"]) == 0
    assert len(list(Path("out/vid\ufffdo").rglob("*.jpg"))) == 3


def test_no_video(folder, capfd):
    clip("a.mp4", 5)
    assert main(["track", "a.mp4", "--box", BOX, "--no-video", "--out", "there/deep"]) == 0
    assert sorted(p.name for p in Path("there/deep").iterdir()) == ["boxes.csv", "strip.png"]
    assert "tracked.mp4" not in capfd.readouterr().out


def test_no_rows_before_start(folder):
    clip("a.mp4", 20)
    assert main(["track", "a.mp4", "--box", "20,20,24,24", "--start", "12"]) == 0
    assert [int(row["frame"]) for row in rows_of("out/a/boxes.csv")] == list(range(12, 20))
    with frames_from_source("out/a/tracked.mp4") as video:
        assert [frame.time for frame in video] == pytest.approx([i / 25 for i in range(8)], abs=1e-4)


def test_phone_video_comes_out_upright(folder):
    write_video("a.mp4", [quadrants()] * 4, rotation=-90)
    assert main(["track", "a.mp4", "--box", "4,4,30,30"]) == 0
    with frames_from_source("out/a/tracked.mp4") as video:
        assert (video.width, video.height) == (48, 64)
        corner = next(video).image[60, 4:8].mean(axis=0)  # bottom left: what lay at the bottom right is white
        assert corner.min() > 200


def test_variable_frame_rate_is_kept(folder):
    ticks = [0, 40, 50, 190, 200, 201, 1000]
    write_video("a.mkv", map(picture, range(7)), ticks=ticks, time_base=Fraction(1, 1000), format="matroska")
    assert main(["track", "a.mkv", "--box", BOX]) == 0
    with frames_from_source("out/a/tracked.mp4") as video:
        assert [frame.time for frame in video] == pytest.approx([tick / 1000 for tick in ticks])


def test_odd_size(folder):
    write_images(folder / "frames", [picture(i, 97, 65) for i in range(6)])
    assert main(["track", "frames", "--box", BOX]) == 0
    with av.open("out/frames/tracked.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.pix_fmt) == (98, 66, "yuv420p")
        assert stream.average_rate == 25


def test_lost_targets_have_rows_too(folder, capfd):
    images = [picture(i) if i < 4 else np.full((64, 96, 3), 90, np.uint8) for i in range(8)]
    write_images(folder / "frames", images)
    assert main(["track", "frames", "--box", BOX, "--no-video"]) == 0
    assert [row["found"] for row in rows_of("out/frames/boxes.csv")] == list("11110000")
    assert "8 frames, the object found in 4" in capfd.readouterr().out


def test_select(folder, monkeypatch):
    clip("a.mp4", 5)
    asked = []

    def select_box(frame, *, host, port):
        asked.append((frame.shape, host, port))
        return 8.0, 20.0, 24.0, 24.0

    monkeypatch.setattr("fartrack.video.select.select_box", select_box)
    assert main(["track", "a.mp4", "--select", "--host", "0.0.0.0", "--port", "8000", "--start", "1"]) == 0
    assert asked == [((64, 96, 3), "0.0.0.0", 8000)]
    assert rows_of("out/a/boxes.csv")[0]["frame"] == "1"


def test_cancelled_select_leaves_old_results(folder, monkeypatch, capfd):
    clip("a.mp4", 5)
    assert main(["track", "a.mp4", "--box", BOX]) == 0
    before = {p.name: p.read_bytes() for p in Path("out/a").iterdir()}
    capfd.readouterr()

    def select_box(frame, **_):
        raise InputError("no box was drawn: cancelled in the browser")

    monkeypatch.setattr("fartrack.video.select.select_box", select_box)
    assert "cancelled" in complaint(capfd, "a.mp4", "--select")
    assert {p.name: p.read_bytes() for p in Path("out/a").iterdir()} == before


# What keeps what there is


def test_broken_video_keeps_all_rows(folder, capfd):
    whole = clip("a.mp4", 40, options={"movflags": "+faststart"})
    cut_off(whole, folder / "b.mp4")
    line = complaint(capfd, "b.mp4", "--box", BOX)
    rows = rows_of("out/b/boxes.csv")
    assert len(rows) >= 15
    assert f"b.mp4: it breaks off at frame {len(rows)} " in line
    with frames_from_source("out/b/tracked.mp4") as video:
        assert len(list(video)) == len(rows)
    assert Path("out/b/strip.png").exists()


def test_frames_that_change_size_keep_all_rows(folder, capfd):
    write_images(folder / "frames", [picture(0), picture(1), picture(2), picture(3, 98, 64)])
    line = complaint(capfd, "frames", "--box", BOX)
    assert "frame 3 is 98 x 64" in line
    assert len(rows_of("out/frames/boxes.csv")) == 3
    with frames_from_source("out/frames/tracked.mp4") as video:
        assert len(list(video)) == 3


def test_rows_are_flushed_as_it_goes(folder, monkeypatch):
    """After every frame its row is in the file, for whoever reads along, or for the power that goes."""
    clip("a.mp4", 10)
    seen = []

    class Watching(CommandTracker):
        def update(self, frame):
            seen.append(len(rows_of("out/a/boxes.csv")))
            return super().update(frame)

    monkeypatch.setattr(fartrack.tracker, "Tracker", Watching)
    assert main(["track", "a.mp4", "--box", BOX]) == 0
    assert seen == list(range(1, 10))


@pytest.mark.parametrize("error", [ZeroDivisionError, MemoryError])
def test_bugs_and_too_little_memory_keep_what_there_is(folder, monkeypatch, capfd, error):
    clip("a.mp4", 10)

    class Buggy(CommandTracker):
        def update(self, frame):
            if self.network_seconds > 0.0045:
                raise error
            return super().update(frame)

    monkeypatch.setattr(fartrack.tracker, "Tracker", Buggy)
    if error is MemoryError:
        assert "not enough memory (or threads)" in complaint(capfd, "a.mp4", "--box", BOX)
    else:
        with pytest.raises(error):
            main(["track", "a.mp4", "--box", BOX])
    assert len(rows_of("out/a/boxes.csv")) == 6
    with frames_from_source("out/a/tracked.mp4") as video:
        assert len(list(video)) == 6


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("stop", "exit_code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_stopping(folder, stop, exit_code):
    """A real Ctrl-C or `docker stop`, in a process of its own: table and video agree, and are whole."""
    clip("a.mp4", 600)
    here = Path(__file__).parents[1]
    code = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background hands on that it is ignored
sys.path[:0] = [{str(here)!r}, {str(here.parent / "src")!r}]
import fartrack.tracker
from template_tracker import TemplateTracker
class Slow(TemplateTracker):
    network_seconds = 0.0
    def __init__(self, *_): super().__init__()
    frames = 0
    def update(self, frame):
        self.frames += 1
        time.sleep(0.005 if self.frames < 30 else 0.5)  # long before the last frame the signal is there
        return super().update(frame)
fartrack.tracker.Tracker = Slow
from fartrack.cli.main import main
sys.exit(main(["track", "a.mp4", "--box", {BOX!r}]))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    table = Path("out/a/boxes.csv")
    give_up = time.monotonic() + 120
    try:
        while not (table.exists() and len(table.read_text().splitlines()) > 25):
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.01)
        process.send_signal(getattr(signal, stop))
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == exit_code
    assert err == ("fartrack: stopped\n" if stop == "SIGINT" else "")
    rows = rows_of(table)
    assert 25 <= len(rows) < 600
    assert out.startswith(f"{len(rows)} frames")
    with frames_from_source("out/a/tracked.mp4") as video:
        assert len(list(video)) == len(rows)
    assert sorted(p.name for p in Path("out/a").iterdir()) == ["boxes.csv", "strip.png", "tracked.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("stop", ["SIGINT", "SIGTERM"])
def test_stopping_while_the_files_are_finished(folder, monkeypatch, stop):
    """An impatient second Ctrl-C, or `docker stop` at the end, cost the whole video, or the labels."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    clip("a.mp4", 5)
    real = {VideoWriter: VideoWriter.close, Labels: Labels.write}

    def close(self):
        signal.raise_signal(getattr(signal, stop))
        return real[VideoWriter](self)

    def write(self, *arguments):
        signal.raise_signal(getattr(signal, stop))
        return real[Labels](self, *arguments)

    monkeypatch.setattr(VideoWriter, "close", close)
    monkeypatch.setattr(Labels, "write", write)
    try:
        assert main(["track", "a.mp4", "--box", BOX, "--format", "cvat,coco"]) == 0  # nothing is missing
    finally:
        assert signal.signal(signal.SIGINT, usual) is signal.default_int_handler
    assert sorted(p.name for p in Path("out/a").iterdir()) == [
        "boxes.csv", "coco.json", "cvat.xml", "strip.png", "tracked.mp4",
    ]  # fmt: skip
    with frames_from_source("out/a/tracked.mp4") as video:
        assert len(list(video)) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="limits")
def test_a_full_disk_keeps_whole_rows_and_is_said_of_the_file(folder):
    """The table ended in half a row, whose score was another, and the message named no file."""
    clip("a.mp4", 60)
    here = Path(__file__).parents[1]
    code = f"""
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.dont_write_bytecode = True
sys.path[:0] = [{str(here)!r}, {str(here / "cli")!r}, {str(here.parent / "src")!r}]
import fartrack.tracker
from test_track import CommandTracker
fartrack.tracker.Tracker = CommandTracker
from fartrack.cli.main import main
sys.exit(main(["track", "a.mp4", "--box", {BOX!r}, "--no-video"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("fartrack: out/a/boxes.csv: File too large") or "strip.png: File" in done.stderr
    text = Path("out/a/boxes.csv").read_text()
    assert text.endswith("\n") and 900 < len(text) <= 1000
    assert {line.count(",") for line in text.splitlines()} == {6}


# What is wrong


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("1,2,3", "not four numbers"),
        ("1,2,3,4,5", "not four numbers"),
        ("a,b,c,d", "not four numbers"),
        ("", "not four numbers"),
        ("1,2,nan,4", "not a finite number"),
        ("1,2,inf,4", "not a finite number"),
        ("1,2,0,4", "no area"),
        ("1,2,3,-4", "no area"),
        ("96,2,3,4", "outside the 96 x 64 frame"),
        ("1,64,3,4", "outside the 96 x 64 frame"),
        ("-10,2,9,4", "outside the 96 x 64 frame"),
        ("10,10,2,2", "box 10,10,2,2 is too small to follow: give one"),
    ],
)
def test_wrong_boxes(folder, capfd, box, message):
    clip("a.mp4", 3)
    assert message in complaint(capfd, "a.mp4", "--box", box)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file or folder"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_text("hello\n" * 99), "not a video"),
        (lambda path: path.mkdir(), "no images in this folder"),
        (lambda path: cut_off(clip(path.with_name("b.mp4")), path), "not a video"),
    ],
)
def test_wrong_sources(folder, capfd, make, message):
    make(folder / "a.mp4")
    line = complaint(capfd, "a.mp4", "--box", BOX)
    assert message in line
    assert "a.mp4" in line
    assert not Path("out").exists()


def test_start_beyond_the_end(folder, capfd):
    clip("a.mp4", 3)
    assert "start frame 3 is beyond its end" in complaint(capfd, "a.mp4", "--box", BOX, "--start", 3)
    assert "negative" in complaint(capfd, "a.mp4", "--box", BOX, "--start", -3)


def test_no_box(folder, capfd):
    clip("a.mp4", 3)
    assert "--box X,Y,W,H" in complaint(capfd, "a.mp4")
    assert "--box X,Y,W,H" in complaint(capfd, "a.mp4", "--box", BOX, "--select")


def test_output_folder_that_cannot_be_written(folder, capfd):
    clip("a.mp4", 3)
    Path("file").write_text("in the way")
    for out in ("file", "file/out"):
        line = complaint(capfd, "a.mp4", "--box", BOX, "--out", out)
        assert f"{out}: cannot write there" in line
        assert "--out" in line


@pytest.mark.skipif(sys.platform == "win32", reason="links")
@pytest.mark.parametrize("out", ["loop", "loop/in"])
def test_output_folder_that_is_a_link_to_itself(folder, capfd, out):
    clip("a.mp4", 2)
    Path("loop").symlink_to("loop")
    said = complaint(capfd, "a.mp4", "--box", BOX, "--out", out)
    assert f"{Path(out)}: cannot write there (" in said and "choose another folder with --out" in said


def test_what_is_in_the_way_is_said_before_the_work(folder, capfd):
    """A folder called tracked.mp4, or a file called mot, cost the video or the labels of a whole run."""
    clip("a.mp4", 3)
    for name in ("boxes.csv", "tracked.mp4", "strip.png"):
        Path("here", name).mkdir(parents=True)
        line = complaint(capfd, "a.mp4", "--box", BOX, "--out", "here")
        assert f"{name}: it is a folder and has to become a file" in line and "--out" in line
        Path("here", name).rmdir()
    Path("here/mot").touch()
    line = complaint(capfd, "a.mp4", "--box", BOX, "--out", "here", "--format", "cvat,mot")
    assert "mot: it is a file and has to become a folder" in line
    assert [p.name for p in Path("here").iterdir()] == ["mot"]
    assert main(["track", "a.mp4", "--box", BOX, "--out", "here"]) == 0  # nobody asked for it


def test_frames_too_large_for_a_video(folder, capfd):
    """Such as of a line camera: it ended at the first frame, and asked whether the disk was full."""
    write_images(folder / "wide", [picture(i, 16_385, 64) for i in range(2)])
    line = complaint(capfd, "wide", "--box", BOX)
    assert "H.264 has no frames of 16385 x 64" in line and "--no-video" in line
    assert not Path("out").exists()
    assert main(["track", "wide", "--box", BOX, "--no-video"]) == 0


def test_ffmpeg_without_an_encoder(folder, capfd, monkeypatch):
    """A build without x264: a traceback, an empty table and an empty `.tracked.mp4.part` were all there was."""
    clip("a.mp4", 3)
    monkeypatch.setattr(writer, "ENCODER", "libx264_not_here")
    line = complaint(capfd, "a.mp4", "--box", BOX)
    assert "no H.264 encoder" in line and "pip install --force-reinstall av" in line and "--no-video" in line
    assert not Path("out").exists()
    with pytest.raises(InputError, match=r"a\.mp4: this FFmpeg has no H\.264 encoder"):
        VideoWriter("here/a.mp4", 96, 64)
    assert main(["track", "a.mp4", "--box", BOX, "--no-video"]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no such names")
def test_names_with_colons_and_blanks(folder, capfd):
    """Cameras call recordings by their time, and FFmpeg takes what stands before a colon for a protocol."""
    clip("a.mp4", 3)
    for name in ("12:30:05.mp4", " a.mp4", "a.mp4 "):
        Path(name).write_bytes(Path("a.mp4").read_bytes())
        assert main(["track", name, "--box", BOX, "--out", f"of:{name}"]) == 0
        assert Path(f"of:{name}", "tracked.mp4").exists()
    assert capfd.readouterr().err == ""


def test_results_do_not_overwrite_the_source(folder, capfd):
    write_images(folder / "frames", map(picture, range(3)))
    assert "would mix with the source" in complaint(capfd, "frames", "--box", BOX, "--out", "frames")
    clip("tracked.mp4", 3)
    before = Path("tracked.mp4").read_bytes()
    assert "would mix with the source" in complaint(capfd, "tracked.mp4", "--box", BOX, "--out", ".")
    assert Path("tracked.mp4").read_bytes() == before
    address = Path("tracked.mp4").resolve().as_uri()  # as a desktop's clipboard has it
    assert "would mix with the source" in complaint(capfd, address, "--box", BOX, "--out", ".")
    assert Path("tracked.mp4").read_bytes() == before
    assert main(["track", address, "--box", BOX, "--no-video"]) == 0
    assert Path("out/tracked/boxes.csv").exists()


def test_results_do_not_overwrite_what_is_given_under_another_name(folder, capfd):
    """A hard link: the table was written through it, over a person's corrections or the video itself."""
    clip("a.mp4", 3)
    Path("corrected.csv").write_text(content := "frame,x,y,w,h\n0,8,20,24,24\n")
    Path("here").mkdir()
    os.link("corrected.csv", "here/boxes.csv")
    line = complaint(capfd, "a.mp4", "--boxes", "corrected.csv", "--out", "here")
    assert "here: the results could overwrite corrected.csv" in line and "--out" in line
    assert Path("corrected.csv").read_text() == content
    Path("here/boxes.csv").unlink()
    os.link("a.mp4", "here/boxes.csv")
    assert "would mix with the source a.mp4" in complaint(capfd, "a.mp4", "--box", BOX, "--out", "here")
    assert Path("a.mp4").stat().st_size > 99


def test_yolo_does_not_overwrite_the_images_it_reads(folder, capfd):
    """They are JPEG: each run over them would have made them worse."""
    clip("a.mp4", 3)
    arguments = ["--box", BOX, "--out", "here", "--no-video", "--format", "yolo"]
    assert main(["track", "a.mp4", *arguments]) == 0
    images = Path("here/yolo/images/train")
    before = (images / "frame_000001.jpg").read_bytes()
    assert "would mix with the source" in complaint(capfd, images, *arguments)
    assert (images / "frame_000001.jpg").read_bytes() == before
    assert main(["track", str(images), "--box", BOX, "--out", "here", "--no-video"]) == 0  # reads, and writes beside


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nope"], "nope"),
        (["--model", "nope.onnx"], "nope.onnx"),
        (["--model", "notes.onnx"], "notes.onnx"),
        (["--model", "empty.onnx"], "empty.onnx"),
    ],
)
def test_wrong_models(folder, capfd, monkeypatch, options, message):
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    clip("a.mp4", 3)
    Path("notes.onnx").write_text("not a model")
    Path("empty.onnx").write_text("")
    assert message in complaint(capfd, "a.mp4", "--box", BOX, *options)
    assert not Path("out").exists()


def test_runtime_that_is_not_installed(folder, capfd, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    clip("a.mp4", 3)
    Path("a.onnx").write_text("never opened")
    find = fartrack.runtime.importlib.util.find_spec
    monkeypatch.setattr(
        fartrack.runtime.importlib.util, "find_spec", lambda name, *a: None if name == "openvino" else find(name, *a)
    )
    line = complaint(capfd, "a.mp4", "--box", BOX, "--model", "a.onnx", "--runtime", "openvino")
    assert "pip install" in line
    assert "unknown" in complaint(capfd, "a.mp4", "--box", BOX, "--model", "a.onnx", "--runtime", "abacus")


# The packaged clip


def test_demo(folder, capfd, monkeypatch):
    class Still(CommandTracker):
        def update(self, frame):  # looking for something that large takes seconds
            return True, self.box

    monkeypatch.setattr(fartrack.tracker, "Tracker", Still)
    assert main(["demo"]) == 0
    said = capfd.readouterr().out
    about = json.loads((Path(fartrack.__file__).parent / "demo" / "clip.json").read_text())
    assert about["licence"] in said
    assert f"{about['frames']} frames" in said
    assert len(rows_of("out/demo/boxes.csv")) == about["frames"]


def test_demo_clip_is_small_and_its_papers_are_in_order():
    path = Path(fartrack.__file__).parent / "demo" / "clip.mp4"
    assert path.stat().st_size < 2_000_000
    about = json.loads(path.with_suffix(".json").read_text())
    assert {"title", "box", "frames", "happens", "source", "author", "licence"} <= set(about)
    with frames_from_source(path) as video:
        assert video.count == about["frames"]
        x, y, w, h = about["box"]
        assert x >= 0 and y >= 0 and x + w <= video.width and y + h <= video.height

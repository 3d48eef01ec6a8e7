"""`fartrack track` writes labelling formats, and takes corrections back."""

import errno
import json
import pkgutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import fartrack.tracker
from fartrack import corrections
from fartrack.cli.labels import Corrections, _paired
from fartrack.cli.main import main
from fartrack.errors import InputError
from fartrack.formats import FORMATS, Box, Track, Video, read_boxes, write_boxes
from fartrack.video.reader import frames_from_source
from fartrack.video.writer import VideoWriter
from template_tracker import TemplateTracker, moving_square


class CommandTracker(TemplateTracker):
    """The small tracker, opened as the command does it."""

    def __init__(self, model="pico", runtime="onnxruntime", threads=None, explain=False, seek=False):
        super().__init__()
        self.network_seconds = 0.0

    def update(self, frame):
        found, box = super().update(frame)
        self.score *= 0.99  # as of a network: never quite 1
        return found, box


COUNT = 12
VIDEO = Video("clip", 160, 120, 25.0, COUNT)


@pytest.fixture
def clip(monkeypatch, tmp_path):
    """A folder of images to track in, the target hidden in frames 8 and 9; the true boxes."""
    monkeypatch.setattr(fartrack.tracker, "Tracker", CommandTracker)
    monkeypatch.chdir(tmp_path)
    frames, boxes = moving_square(COUNT, hidden=(8, 9))
    folder = tmp_path / "clip"
    folder.mkdir()
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{i:04d}.png"), frame)
    return boxes


def boxes_of(track):
    return {box.frame: box.xywh for box in track.boxes if box.found}


def test_all_formats_at_once(clip, tmp_path, capsys):
    arguments = ["track", "clip", "--box", "10,40,20,20", "--no-video", "--label", "dog", "--out", "results"]
    assert main([*arguments, "--format", "cvat,coco", "--format", "mot", "--format", "yolo"]) == 0
    said = capsys.readouterr().out
    for name, format in FORMATS.items():
        path = tmp_path / "results" / format.target
        assert f"results/{format.target}" in said
        (track,) = read_boxes(path, VIDEO)
        assert track.label == ("target" if name == "csv" else "dog")
        found = boxes_of(track)
        assert sorted(found) == [*range(8), 10, 11]
        assert np.allclose([found[f] for f in sorted(found)], [clip[f] for f in sorted(found)], atol=0.01)
    assert len(list((tmp_path / "results" / "yolo" / "images").rglob("*.jpg"))) == COUNT


@pytest.mark.parametrize("older", [False, True])
def test_yolo_holds_this_runs_files_only(clip, tmp_path, capsys, older):
    """Those of another video stayed, and their boxes were read back as this one's."""
    cut = tmp_path / "cut"
    cut.mkdir()
    for i in range(4):
        (tmp_path / "clip" / f"{i:04d}.png").rename(cut / f"{i + 50}.png")
    arguments = ["--box", "10,40,20,20", "--no-video", "--out", "results", "--format", "yolo"]
    assert main(["track", "cut", *arguments]) == 0
    yolo = tmp_path / "results" / "yolo"
    if older:
        (yolo / "written.txt").unlink()
    else:
        (yolo / "labels" / "train" / "mine.txt").touch()
        (yolo / "images" / "train" / "mine.jpg").touch()
    assert main(["track", "clip", *arguments]) == 0
    expected = {f"{i:04d}" for i in range(4, COUNT)} | (set() if older else {"mine"})
    for place in ("labels", "images"):
        assert {file.stem for file in (yolo / place / "train").iterdir()} == expected


@pytest.mark.parametrize("own", [None, "mine_001", f"frame_{COUNT:06d}"])
def test_yolo_of_an_older_version_is_known(clip, tmp_path, own):
    """Frames without the target are not in train.txt: a run into one's own folder was refused for them.

    What somebody put beside them, an image and its label, must not go.
    """
    with VideoWriter("clip.mp4", 160, 120) as writer:
        for i in range(COUNT):
            writer.write(cv2.imread(f"clip/{i:04d}.png"), i / 25)
    arguments = ["--box", "10,40,20,20", "--no-video", "--out", "results", "--format", "yolo"]
    assert main(["track", "clip.mp4", *arguments]) == 0
    yolo = tmp_path / "results" / "yolo"
    assert len((yolo / "train.txt").read_text().splitlines()) < COUNT
    (yolo / "written.txt").unlink()
    if own:
        (yolo / "images" / "train" / f"{own}.jpg").touch()
        (yolo / "labels" / "train" / f"{own}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
        assert main(["track", "clip", *arguments]) == 2
        assert (yolo / "labels" / "train" / f"{own}.txt").read_text()
        return
    (tmp_path / "clip" / f"{COUNT - 1:04d}.png").rename(tmp_path / "last.png")
    assert main(["track", "clip", *arguments]) == 0
    for place in ("labels", "images"):
        there = sorted(file.stem for file in (yolo / place / "train").iterdir())
        assert there == [f"{i:04d}" for i in range(COUNT - 1)]


@pytest.mark.parametrize(
    "place", ["labels/train/7.txt", "images/train/7.jpg", "data.yaml", "train.txt", "images/train/frame_000000.jpg"]
)
def test_yolo_of_others_is_not_mixed_with(clip, tmp_path, capsys, place):
    path = tmp_path / "results" / "yolo" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(b"names: [h\xf6rse]\n")
    arguments = ["track", "clip", "--box", "10,40,20,20", "--no-video", "--out", "results"]
    assert main([*arguments, "--format", "yolo"]) == 2
    said = capsys.readouterr().err
    assert place in said and "choose another" in said
    assert main(arguments) == 0 and path.exists()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_bytes(b"\xff")])
def test_yolo_with_a_record_that_is_none_is_refused_before_the_work(clip, tmp_path, capsys, make):
    """The earlier table was cut by then."""
    arguments = ["track", "clip", "--box", "10,40,20,20", "--no-video", "--out", "results", "--format", "yolo"]
    assert main(arguments) == 0
    before = Path("results/boxes.csv").read_bytes()
    record = tmp_path / "results" / "yolo" / "written.txt"
    record.unlink()
    make(record)
    capsys.readouterr()
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "written.txt: " in said and said.count("\n") == 1
    assert Path("results/boxes.csv").read_bytes() == before


def test_a_format_that_fails_costs_no_other(clip, tmp_path, monkeypatch, capsys):
    """The formats after it were left out, and those before it were said to be of an earlier run."""

    def full(path, tracks, video):
        (path / "gt").mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device", str(path / "gt" / "gt.txt"))

    monkeypatch.setitem(FORMATS, "mot", replace(FORMATS["mot"], write=full))
    arguments = ["track", "clip", "--box", "10,40,20,20", "--no-video", "--out", "results"]
    assert main([*arguments, "--format", "cvat,mot,coco"]) == 2
    said = capsys.readouterr()
    assert "results/cvat.xml\nresults/coco.json\n" in said.out
    assert said.err.startswith(f"fartrack: {Path('results/mot/gt/gt.txt')}: No space left on device: free some space")
    for name in ("cvat.xml", "coco.json"):
        assert len(boxes_of(read_boxes(tmp_path / "results" / name, VIDEO)[0])) == 10


def test_each_file_that_fails_is_named(clip, tmp_path, monkeypatch, capsys):
    """Only the last one was."""

    def full(path, tracks, video):
        raise OSError(errno.EFBIG, "File too large", str(path))

    for name in ("mot", "coco"):
        monkeypatch.setitem(FORMATS, name, replace(FORMATS[name], write=full))
    arguments = ["track", "clip", "--box", "10,40,20,20", "--no-video", "--out", "results"]
    assert main([*arguments, "--format", "mot,coco,cvat"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(
        line.endswith("File too large: free some space, or write elsewhere") for line in lines
    )
    assert "mot" in lines[0] and "coco.json" in lines[1]


def test_labels_that_fail_in_the_first_frame_cost_no_video(clip, tmp_path, monkeypatch, capsys):
    """A video that was not there was said to be written, and an older one to be new."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "a.jpg")

    monkeypatch.setattr("fartrack.formats.yolo.write_image", full)
    assert main(["track", "clip", "--box", "10,40,20,20", "--out", "results", "--format", "yolo"]) == 2
    assert "tracked.mp4" in capsys.readouterr().out
    with frames_from_source("results/tracked.mp4") as frames:
        assert len(list(frames)) == 1


def test_a_video_that_fails_in_the_first_frame_is_not_said_to_be_written(clip, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "a.mp4")

    Path("results").mkdir()
    Path("results/tracked.mp4").touch()
    monkeypatch.setattr("fartrack.video.writer.VideoWriter.write", full)
    assert main(["track", "clip", "--box", "10,40,20,20", "--out", "results"]) == 2
    said = capsys.readouterr()
    assert "tracked.mp4" not in said.out and "also holds tracked.mp4 of an earlier run" in said.err


@pytest.mark.parametrize(
    ("place", "lacking"),
    [
        ("fartrack.video.writer.VideoWriter.write", "tracked.mp4"),
        ("fartrack.cli.outputs.Outputs._write_rows", "boxes.csv"),
        ("fartrack.formats.yolo.write_image", "yolo"),
    ],
)
def test_an_output_that_fails_costs_the_others_no_frame(clip, tmp_path, monkeypatch, capsys, place, lacking):
    """The labels lacked the frame that the table had, or all others where the table failed; one file had two lines."""
    calls = []
    owner, name = place.rsplit(".", 1)
    real = getattr(pkgutil.resolve_name(owner), name)

    def full(*arguments):
        calls.append(name)
        if len(calls) > 4 + (lacking == "boxes.csv"):  # which has a head
            raise OSError(errno.ENOSPC, "No space left on device", lacking)
        return real(*arguments)

    monkeypatch.setattr(place, full)
    if lacking == "tracked.mp4":

        def close(self):
            raise InputError("tracked.mp4: cannot be finished")

        monkeypatch.setattr(VideoWriter, "close", close)
    assert main(["track", "clip", "--box", "10,40,20,20", "--out", "results", "--format", "coco,yolo"]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("5 frames")
    assert said.err == f"fartrack: {lacking}: No space left on device: free some space, or write elsewhere\n"
    expected = {name: list(range(4 if name == lacking else 5)) for name in ("boxes.csv", "tracked.mp4", "yolo")}
    assert [box.frame for box in read_boxes(tmp_path / "results" / "coco.json", VIDEO)[0].boxes] == list(range(5))
    assert [box.frame for box in read_boxes(tmp_path / "results" / "boxes.csv", VIDEO)[0].boxes] == expected[
        "boxes.csv"
    ]
    assert len(list((tmp_path / "results" / "yolo" / "images" / "train").iterdir())) == len(expected["yolo"])
    assert len(list((tmp_path / "results" / "yolo" / "labels" / "train").iterdir())) == 5
    if lacking != "tracked.mp4":
        with frames_from_source("results/tracked.mp4") as frames:
            assert len(list(frames)) == 5


def test_a_progress_bar_that_cannot_be_drawn_is_one_line(clip, tmp_path, monkeypatch, capsys):
    """What finishes the video took the failure for its own, and the run went on without a progress bar to move."""

    def broken(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("rich.progress.Progress.add_task", broken)
    assert main(["track", "clip", "--box", "10,40,20,20", "--out", "results", "--format", "coco"]) == 2
    assert capsys.readouterr().err == "fartrack: Input/output error\n"
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["boxes.csv"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such names")
def test_names_of_several_lines(clip, tmp_path):
    """What is written of a video called so could not be read: no XML, a broken data.yaml and seqinfo.ini."""
    (tmp_path / "clip").rename(tmp_path / "a\nb\x01")
    arguments = ["track", "a\nb\x01", "--box", "10,40,20,20", "--no-video", "--out", "results"]
    assert main([*arguments, "--format", "cvat,coco,mot,yolo"]) == 0
    for format in FORMATS.values():
        assert len(boxes_of(read_boxes(tmp_path / "results" / format.target, VIDEO)[0])) == 10


def test_unknown_format(clip, tmp_path, capsys):
    assert main(["track", "clip", "--box", "10,40,20,20", "--format", "voc"]) == 2
    assert "--format voc: not known; choose from csv, mot, coco, cvat, yolo" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_stopped_halfway(clip, tmp_path, monkeypatch):
    """Ctrl-C: the labels of what was tracked are there, and the CVAT track is closed behind them."""

    def update(self, frame, seen=[]):  # noqa: B006
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return TemplateTracker.update(self, frame)

    monkeypatch.setattr(CommandTracker, "update", update)
    assert main(["track", "clip", "--box", "10,40,20,20", "--no-video", "--format", "cvat,yolo"]) == 130
    (track,) = read_boxes(tmp_path / "out" / "clip" / "cvat.xml", VIDEO)
    assert [(box.frame, box.found) for box in track.boxes] == [*((i, True) for i in range(4)), (4, False)]
    (track,) = read_boxes(tmp_path / "out" / "clip" / "yolo", VIDEO)
    assert len(track.boxes) == 4


def test_corrections(clip, tmp_path):
    (tmp_path / "fix.csv").write_text("frame,x,y,w,h\n3,19,40,20,20\n11,43,40,20,20\n")
    assert main(["track", "clip", "--boxes", "fix.csv", "--no-video", "--format", "coco"]) == 0
    (track,) = read_boxes(tmp_path / "out" / "clip-corrected" / "coco.json", VIDEO)
    found = boxes_of(track)
    assert sorted(found) == [*range(8), 10, 11]
    assert np.allclose([found[f] for f in sorted(found)], [clip[f] for f in sorted(found)], atol=0.01)


@pytest.mark.parametrize("name", FORMATS)
def test_only_changes_count(clip, tmp_path, name):
    """An annotator takes all boxes home, moves one, and brings all of them back."""
    main(["track", "clip", "--box", "10,40,20,20", "--no-video", "--format", name, "--out", "first"])
    before = tmp_path / "first" / FORMATS[name].target
    (track,) = read_boxes(before, VIDEO)
    moved = tuple(Box(b.frame, 30, 60, 24, 24) if b.frame == 6 else b for b in track.boxes)
    after = write_boxes(name, tmp_path / "after" / FORMATS[name].target, [Track(0, track.label, moved)], VIDEO)
    assert main(["track", "clip", "--boxes", str(after), "--before", str(before), "--no-video"]) == 0
    (track,) = read_boxes(tmp_path / "out" / "clip-corrected" / "boxes.csv", VIDEO)
    result = {box.frame: box for box in track.boxes}
    assert len(result) == COUNT
    assert result[6].xywh == pytest.approx((30, 60, 24, 24), abs=0.01)
    assert result[6].score == 1
    assert result[2].xywh == pytest.approx(clip[2], abs=0.01)  # from the first box, which did not change
    assert result[11].xywh != pytest.approx(clip[11], abs=5)  # from the moved one, which is on the background


def test_a_second_round_of_corrections(clip, tmp_path):
    """With the first round's boxes.csv as --before, its correction stays although only another frame was changed."""
    main(["track", "clip", "--box", "10,40,20,20", "--no-video", "--format", "cvat", "--out", "first"])
    before = tmp_path / "first" / "cvat.xml"
    for round, (frame, place) in enumerate([(4, (100, 80, 24, 24)), (11, (60, 90, 24, 24))], 1):
        (track,) = read_boxes(tmp_path / "first" / "cvat.xml" if round == 1 else tmp_path / "1" / "cvat.xml", VIDEO)
        boxes = tuple(Box(b.frame, *place) if b.frame == frame else b for b in track.boxes)
        write_boxes("cvat", tmp_path / "fixed.xml", [Track(0, track.label, boxes)], VIDEO)
        options = ["--boxes", "fixed.xml", "--before", str(before), "--no-video", "--format", "cvat"]
        assert main(["track", "clip", *options, "--out", str(round)]) == 0
        before = tmp_path / str(round) / "boxes.csv"
    (track,) = read_boxes(before, VIDEO)
    result = {box.frame: box for box in track.boxes}
    assert [box.frame for box in track.boxes if box.score == 1] == [0, 4, 11]
    assert result[4].xywh == pytest.approx((100, 80, 24, 24), abs=0.01)
    assert result[11].xywh == pytest.approx((60, 90, 24, 24), abs=0.01)


def labels_in(folder):
    return {track.id: track.label for track in read_boxes(folder / "cvat.xml", VIDEO)}


def test_labels_of_before_stay(clip, tmp_path):
    """A table has no labels: with it as the corrected file, all targets came out as "target"."""
    boxes = tuple(Box(f, *clip[0]) for f in (0, 1))
    write_boxes("cvat", tmp_path / "before.xml", [Track(1, "cat", boxes), Track(2, "dog", boxes)], VIDEO)
    rows = "".join(f"{f},{x},40,20,20,{id}\n" for f, x in ((0, 10), (1, 30)) for id in (1, 2, 3))
    (tmp_path / "fix.csv").write_text("frame,x,y,w,h,id\n" + rows)
    options = ["--boxes", "fix.csv", "--before", "before.xml", "--label", "bird", "--no-video", "--format", "cvat"]
    assert main(["track", "clip", *options, "--out", "results"]) == 0
    assert labels_in(tmp_path / "results") == {1: "cat", 2: "dog", 3: "bird"}


def test_a_label_for_each_corrected_target(clip, tmp_path, capsys):
    """Two labels for two targets were refused because no --box was given."""
    (tmp_path / "fix.csv").write_text("frame,x,y,w,h,id\n0,10,40,20,20,7\n0,100,80,30,30,4\n")
    command = ["track", "clip", "--boxes", "fix.csv", "--no-video", "--format", "cvat", "--label", "cat"]
    assert main([*command, "--label", "dog", "--out", "results"]) == 0
    assert labels_in(tmp_path / "results") == {4: "cat", 7: "dog"}
    assert main([*command, "--label", "dog", "--label", "bird", "--out", "more"]) == 2
    assert "--label is given 3 times for 2 objects: give one label, or one for each" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()


def test_pictures_that_count_from_one(clip, tmp_path):
    """Results kept their frames, but not the pictures' names; labels for those names came one frame late."""
    for i in reversed(range(COUNT)):
        (tmp_path / "clip" / f"{i:04d}.png").rename(tmp_path / "clip" / f"{i + 1:04d}.png")
    command = ["track", "clip", "--no-video", "--format", "coco,yolo"]
    assert main([*command, "--box", "10,40,20,20", "--out", "first"]) == 0
    assert (tmp_path / "first" / "yolo" / "images" / "train" / "0012.jpg").exists()
    lists = {part: tmp_path / "first" / "yolo" / part / "train" for part in ("labels", "images")}
    for files in lists.values():
        assert sorted(path.stem for path in files.iterdir()) == [f"{i:04d}" for i in range(1, 1 + COUNT)]
    labels = tmp_path / "fix" / "labels"
    labels.mkdir(parents=True)
    (labels / "0012.txt").write_text("0 .5 .5 .125 .125\n")  # the last picture: frame 11
    assert main([*command, "--boxes", "fix", "--label", "dog", "--out", "second"]) == 0
    (track,) = read_boxes(tmp_path / "second" / "boxes.csv", VIDEO)
    assert [box.frame for box in track.boxes if box.score == 1] == [11]
    assert json.loads((tmp_path / "second" / "coco.json").read_text())["categories"][0]["name"] == "dog"


def still(id, x, label="target", frames=range(5)):
    return Track(id, label, tuple(Box(f, x, 5, 20, 20) for f in frames))


PAIRS = {
    # what was done: (as it is, as it was, {id now: id before})
    "added": ([still(1, 10), still(2, 50), still(3, 90)], [still(1, 10), still(2, 50)], {1: 1, 2: 2}),
    "deleted": ([still(1, 50)], [still(0, 10), still(1, 50)], {1: 1}),
    "deleted and counted anew": ([still(0, 50)], [still(0, 10), still(1, 50)], {0: 1}),
    "counted anew": ([still(0, 10), still(1, 50)], [still(1, 10), still(2, 50)], {0: 1, 1: 2}),
    "all moved": ([still(1, 11.5), still(2, 58)], [still(1, 10), still(2, 50)], {1: 1, 2: 2}),
    "all moved and counted anew": ([still(7, 18), still(8, 58)], [still(1, 10), still(2, 50)], {7: 1, 8: 2}),
    "one deleted, one drawn": ([still(1, 10), still(2, 90, "car")], [still(1, 10), still(2, 50, "dog")], {1: 1}),
    "csv without labels": ([still(1, 12, "dog"), still(2, 90, "car")], [still(1, 10)], {1: 1}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_targets_are_found_again(name):
    """A target paired with another one's boxes would be taken for corrected in every frame."""
    tracks, before, expected = PAIRS[name]
    assert {id: old and old.id for id, old in _paired(tracks, before, "a and b").items()} == expected


def test_an_added_target_counts_with_all_its_boxes(clip, tmp_path):
    """Somebody draws a second object: --before has none of it, and is no reason to refuse."""
    main(["track", "clip", "--box", "10,40,20,20", "--no-video", "--format", "cvat", "--out", "first"])
    before = tmp_path / "first" / "cvat.xml"
    (track,) = read_boxes(before, VIDEO)
    new = Track(2, track.label, (Box(2, 100, 80, 30, 30), Box(6, 100, 80, 30, 30)))
    write_boxes("cvat", tmp_path / "fixed.xml", [track, new], Video("clip", 160, 120, 25.0, 1))
    assert main(["track", "clip", "--boxes", "fixed.xml", "--before", str(before), "--no-video"]) == 0
    one, two = read_boxes(tmp_path / "out" / "clip-corrected" / "boxes.csv", VIDEO)
    assert [box.frame for box in one.boxes if box.score == 1] == [0]
    assert [box.frame for box in two.boxes if box.score == 1] == [2, 6]


def test_two_targets(clip, tmp_path):
    first = Track(4, "dog", (Box(0, *clip[0]),))
    second = Track(9, "wall", (Box(2, 100, 80, 30, 30), Box(6, 100, 80, 30, 30)))
    write_boxes("cvat", tmp_path / "fix.xml", [first, second], Video("clip", 160, 120, 25.0, 1))
    assert main(["track", "clip", "--boxes", "fix.xml", "--format", "cvat"]) == 0
    folder = tmp_path / "out" / "clip-corrected"
    for path in (folder / "boxes.csv", folder / "cvat.xml"):
        one, two = sorted(read_boxes(path, VIDEO), key=lambda track: track.id)
        assert (one.id, two.id) == (4, 9)
        assert boxes_of(one)[7] == pytest.approx(clip[7], abs=0.01)
        assert boxes_of(two)[1] == pytest.approx((100, 80, 30, 30), abs=0.01)
    assert (folder / "boxes.csv").read_text().startswith("frame,x,y,w,h,score,found,id\n0,10,40,20,20,1,1,4\n")
    assert (folder / "tracked.mp4").exists()


def test_a_target_whose_first_box_lies_behind_a_break(clip, tmp_path, capsys):
    """It ended the run of all targets before the first row: only the table's header was left."""
    (tmp_path / "clip" / "0007.png").write_bytes(b"broken")
    (tmp_path / "fix.csv").write_text("frame,x,y,w,h,id\n0,10,40,20,20,1\n10,100,80,30,30,2\n")
    arguments = ["track", "clip", "--boxes", "fix.csv", "--no-video", "--out", "results"]
    assert main([*arguments, "--format", "cvat"]) == 2
    assert "frame 7 cannot be read" in capsys.readouterr().err
    one, two = read_boxes(tmp_path / "results" / "boxes.csv", VIDEO)
    assert [box.frame for box in one.boxes] == [box.frame for box in two.boxes] == list(range(7))
    assert np.allclose([box.xywh for box in one.boxes], clip[:7], atol=0.01)
    assert not any(box.found or box.score for box in two.boxes)
    tracks = {track.id: boxes_of(track) for track in read_boxes(tmp_path / "results" / "cvat.xml", VIDEO)}
    assert len(tracks[1]) == 7 and not tracks.get(2)


def test_several_targets_share_the_memory(clip, tmp_path, monkeypatch):
    """Each took all of it: eight targets held 4 GiB of frames where 512 MiB are promised."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(corrections, "MEMORY", 6 * 160 * 120 * 3)
    (tmp_path / "fix.csv").write_text("frame,x,y,w,h,id\n11,43,40,20,20,1\n11,100,80,30,30,2\n")
    with frames_from_source("clip") as frames:
        results = Corrections(tmp_path / "fix.csv", None, "clip", frames, ["dog"]).track(frames, TemplateTracker)
        next(results)
        assert len(list(folder.rglob("*.jpg"))) == 2 * (11 - 3)  # 11 frames wait for each target, 3 in memory
        results.close()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize(
    ("link", "aim", "given"),
    [
        ("results/boxes.csv", "lab/mine.csv", "results/boxes.csv"),  # the table is written through it
        ("results/boxes.csv", "lab/mine.csv", "lab/mine.csv"),
        ("results/mot", "lab", "lab/gt/gt.txt"),
        ("results/cvat.xml", "lab/mine.csv", "results/cvat.xml"),  # a link of one's own would be replaced
    ],
)
def test_labels_behind_a_link_in_the_results_stay(clip, tmp_path, capsys, link, aim, given):
    """Somebody's only copy of boxes drawn by hand was overwritten."""
    (tmp_path / "lab" / "gt").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    mine = {"mine.csv": "frame,x,y,w,h\n3,19,40,20,20\n", "gt/gt.txt": "4,1,20,41,20,20,1,1,1\n"}
    for name, text in mine.items():
        (tmp_path / "lab" / name).write_text(text)
    (tmp_path / link).symlink_to(tmp_path / aim)
    for options in (["--boxes", given], ["--boxes", "lab/mine.csv", "--before", given]):
        assert main(["track", "clip", *options, "--no-video", "--out", "results", "--format", "cvat,mot"]) == 2
        said = capsys.readouterr().err
        assert "the results could overwrite " in said and said.count("\n") == 1
    assert {name: (tmp_path / "lab" / name).read_text() for name in mine} == mine
    assert [path.name for path in (tmp_path / "results").iterdir()] == [Path(link).name]
    assert (tmp_path / link).is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_that_endanger_nothing(clip, tmp_path, capsys):
    """Labels linked from elsewhere, and a table whose link runs in a circle: no traceback."""
    (tmp_path / "fix.csv").write_text("frame,x,y,w,h\n3,19,40,20,20\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "fix.csv")
    arguments = ["track", "clip", "--boxes", "link.csv", "--no-video", "--out", "results"]
    assert main(arguments) == 0
    (tmp_path / "results" / "boxes.csv").unlink()
    (tmp_path / "results" / "boxes.csv").symlink_to(tmp_path / "results" / "boxes.csv")
    capsys.readouterr()
    assert main(arguments) == 2
    assert "boxes.csv: cannot be written" in capsys.readouterr().err


BAD = [
    (["--boxes", "fix.csv", "--box", "1,2,3,4"], "one of the three"),
    (["--before", "fix.csv", "--box", "1,2,3,4"], "give --boxes too"),
    (["--boxes", "gone.csv"], "gone.csv: no such file"),
    (["--boxes", "late.csv"], "late.csv: frame 12 has a box, but clip has 12 frames (0 to 11)"),
    (["--boxes", "outside.csv"], "outside.csv: the box in frame 1 lies outside the 160 x 120 frame"),
    (["--boxes", "fix.csv", "--out", "."], "could overwrite fix.csv; choose another folder"),
    (["--boxes", "fix.csv", "--before", "two.csv"], "fix.csv and two.csv: 1 and 2 targets, none of them in both"),
    (["--boxes", "fix.csv", "--start", "5"], "frame 3 is given, but tracking starts at frame 5"),
    (["--boxes", "lost.csv"], "target 1 has no box to track from"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[" ".join(options) for options, _ in BAD])
def test_bad_input(clip, tmp_path, capsys, options, message):
    head = "frame,x,y,w,h,found,id\n"
    (tmp_path / "fix.csv").write_text(head + "3,19,40,20,20,1,7\n")
    (tmp_path / "two.csv").write_text(head + "3,29,40,20,20,1,5\n3,39,40,20,20,1,6\n")
    (tmp_path / "late.csv").write_text(head + "12,19,40,20,20,1,1\n")
    (tmp_path / "outside.csv").write_text(head + "1,190,40,20,20,1,1\n")
    (tmp_path / "lost.csv").write_text(head + "1,19,40,20,20,0,1\n")
    assert main(["track", "clip", *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert (tmp_path / "fix.csv").read_text() == head + "3,19,40,20,20,1,7\n"
    assert not (tmp_path / "out").exists()


def test_bad_corrections_leave_old_results(clip, tmp_path, capsys):
    """They were found out after the old table had been emptied."""
    (tmp_path / "early.csv").write_text("frame,x,y,w,h\n3,19,40,20,20\n")
    (tmp_path / "small.csv").write_text("frame,x,y,w,h\n3,19,40,20,2\n")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "boxes.csv").write_text("old")
    for options, message in (
        (["early.csv", "--start", "5"], "starts at frame 5"),
        (["small.csv"], "frame 3: box 19,40"),
    ):
        assert main(["track", "clip", "--out", "old", "--boxes", *options]) == 2
        assert message in capsys.readouterr().err
        assert (tmp_path / "old" / "boxes.csv").read_text() == "old"

"""Corrections: from a few boxes to all of them, forwards and backwards, in bounded memory."""

import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from fartrack.corrections import keyframes_of, track_between
from fartrack.errors import InputError
from fartrack.formats import FORMATS, Box, Track, Video, read_boxes, write_boxes
from fartrack.video.reader import frames_from_source
from template_tracker import TemplateTracker, moving_square


class Recorder(TemplateTracker):
    """Writes down which frames it was shown; a frame's number is in its first pixel."""

    def __init__(self):
        super().__init__()
        self.log = []

    def init(self, frame, box):
        self.log.append(("init", int(frame[0, 0, 0])))
        super().init(frame, box)

    def update(self, frame):
        self.log.append(int(frame[0, 0, 0]))
        return super().update(frame)


@pytest.fixture
def clip():
    """Frames numbered in their first pixel, and their true boxes."""
    frames, boxes = moving_square(13)
    for i, frame in enumerate(frames):
        frame[0, 0] = i
    return frames, boxes


def run(frames, keyframes, **options):
    tracker = Recorder()
    results = list(track_between(frames, keyframes, lambda: tracker, **options))
    return results, tracker.log


def test_forwards_and_backwards_to_the_middle(clip):
    frames, boxes = clip
    results, log = run(frames, {2: boxes[2], 8: boxes[8]})
    assert log == [
        *(("init", 2), 1, 0),  # backwards to the start
        *(("init", 2), 3, 4, 5),  # forwards to the middle
        *(("init", 8), 7, 6),  # backwards to the middle
        *(("init", 8), 9, 10, 11, 12),  # forwards to the end
    ]
    assert [r.frame for r in results] == list(range(13))
    assert np.allclose([r.box for r in results], boxes)
    assert all(r.found and r.score > 0.9 for r in results)
    assert all((r.image == frame).all() for r, frame in zip(results, frames, strict=True))
    assert [r.time for r in results[:2]] == [0, 0.04]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([0], [("init", 0), *range(1, 13)]),
        ([12], [("init", 12), *range(11, -1, -1)]),
        (
            [0, 1, 2, 12],
            [("init", 0), ("init", 1), ("init", 2), 3, 4, 5, 6, 7, ("init", 12), 11, 10, 9, 8, ("init", 12)],
        ),
        (range(13), [("init", i) for i in range(13)]),
    ],
    ids=["first", "last", "neighbours", "all"],
)
def test_which_frames_are_tracked_from_where(clip, keys, expected):
    frames, boxes = clip
    results, log = run(frames, {k: boxes[k] for k in keys})
    if keys == [12]:
        expected.append(("init", 12))
    assert log == expected
    assert [r.frame for r in results] == list(range(13))


def test_given_boxes_come_back_exactly(clip):
    frames, _ = clip
    given = {3: (40.25, 41.5, 20.0, 21.0)}
    results, _ = run(frames, given)
    assert (results[3].box, results[3].score, results[3].found) == (given[3], 1.0, True)


def test_gone_until_the_next_box(clip):
    frames, boxes = clip
    results, log = run(frames, {1: boxes[1], 4: None, 9: boxes[9], 11: None})
    assert [r.found for r in results] == [*[True] * 4, *[False] * 5, True, True, False, False]
    assert [r.score for r in results if not r.found] == [0.0] * 7
    assert 4 not in log and 8 not in log  # nothing is tracked where the target is known to be gone
    assert results[6].box == results[3].box  # its last place


def test_gone_from_the_beginning(clip):
    frames, boxes = clip
    results, log = run(frames, {0: None, 5: boxes[5]})
    assert [r.found for r in results[:6]] == [False] * 5 + [True]
    assert log[0] == ("init", 5) and 4 not in log


def test_start(clip):
    frames, boxes = clip
    results, _ = run(frames, {6: boxes[6]}, start=4)
    assert [r.frame for r in results] == list(range(4, 13))
    assert np.allclose([r.box for r in results], boxes[4:])
    with pytest.raises(InputError, match="frame 3 is given, but tracking starts at frame 4"):
        run(frames, {3: boxes[3]}, start=4)


def test_frames_beyond_the_memory_go_to_a_folder_that_does_not_stay(clip, monkeypatch, tmp_path):
    frames, boxes = clip
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one = frames[0].nbytes
    results = []
    most = 0
    for result in track_between(iter(frames), {12: boxes[12]}, TemplateTracker, memory=3 * one):
        results.append(result)
        most = max(most, len(list(tmp_path.rglob("*.jpg"))))
    assert most == 9  # of 12 that wait, 3 are in memory
    assert not list(tmp_path.iterdir())
    assert np.allclose([r.box for r in results], boxes, atol=1)
    assert all(r.image.shape == frames[0].shape for r in results)
    # JPEG 95 is close enough to be drawn on.
    assert np.abs(results[9].image.astype(int) - frames[9]).mean() < 4


def test_the_folder_goes_away_when_the_caller_stops(clip, monkeypatch, tmp_path):
    frames, boxes = clip
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    results = track_between(iter(frames), {12: boxes[12]}, TemplateTracker, memory=0)
    next(results)
    assert list(tmp_path.rglob("*.jpg"))
    results.close()
    assert not list(tmp_path.iterdir())


def test_one_gap_at_a_time_is_kept(clip):
    """A long video with many corrections: never more than half a gap is held."""
    frames, boxes = clip
    alive = 0

    def pictures():
        yield from frames

    results = track_between(pictures(), {0: boxes[0], 6: boxes[6], 12: boxes[12]}, TemplateTracker, memory=0)
    for result in results:
        alive += result.image is frames[result.frame]  # not through the cache
    assert alive == 3 + 3 + 3  # three keyframes, frames 1-3 and 7-9; the others went through the cache


def test_the_video_ends_before_a_keyframe(clip):
    """Nothing that was tracked is lost: all 13 frames are delivered, then the message comes."""
    frames, boxes = clip
    results = []
    with pytest.raises(InputError, match=r"frame 40 is given, but the video has 13 frames \(0 to 12\)"):
        for result in track_between(iter(frames), {2: boxes[2], 40: boxes[5]}, TemplateTracker):
            results.append(result)
    assert np.allclose([r.box for r in results], boxes)
    with pytest.raises(InputError, match="frame 40 is given"):  # a list is known before
        track_between(frames, {2: boxes[2], 40: boxes[5]}, TemplateTracker)


def test_the_video_breaks_off_before_a_keyframe(clip, tmp_path):
    """The frames that waited to be tracked backwards were lost: half of what could be read."""
    frames, boxes = clip
    for i, frame in enumerate(frames[:10]):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame)
    (tmp_path / "10.png").write_bytes(b"broken")
    (tmp_path / "11.png").touch()
    results = []
    with pytest.raises(InputError, match="frame 10 cannot be read"):
        for result in track_between(frames_from_source(tmp_path), {2: boxes[2], 11: boxes[11]}, TemplateTracker):
            results.append(result)
    assert np.allclose([r.box for r in results], boxes[:10])
    results = []
    with pytest.raises(InputError, match="frame 10 cannot be read"):  # one result per frame for other targets' sake
        for result in track_between(frames_from_source(tmp_path), {11: boxes[11]}, TemplateTracker):
            results.append(result)
    assert [r.frame for r in results] == list(range(10))
    assert not any(r.found or r.score for r in results)  # and nothing is made up where no box is


def test_nothing_given(clip):
    for keyframes in ({}, {3: None}):
        with pytest.raises(InputError, match="no frame with a box"):
            track_between(clip[0], keyframes, TemplateTracker)


def test_video_source(clip, tmp_path):
    frames, boxes = clip
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame)
    source = frames_from_source(tmp_path, 1)
    results = list(track_between(source, {5: boxes[5]}, TemplateTracker))
    assert [r.frame for r in results] == list(range(1, 13))
    assert np.allclose([r.box for r in results], boxes[1:])
    with pytest.raises(InputError, match=r"frame 5: box 500,0,20,20 lies outside the 160 x 120 frame"):
        track_between(frames_from_source(tmp_path), {5: (500, 0, 20, 20)}, TemplateTracker)
    with pytest.raises(InputError, match=r"frame 5: box 50,0,2,2 is too small to follow"):
        track_between(frames_from_source(tmp_path), {5: (50, 0, 2, 2)}, TemplateTracker)
    with pytest.raises(InputError, match=r"frame 5: box 500,0,20,20 lies outside the 160 x 120 frame"):
        next(track_between(iter(frames), {2: boxes[2], 5: (500, 0, 20, 20)}, TemplateTracker))  # not after frame 4
    with pytest.raises(InputError, match=f"frame 20 is given, but {tmp_path} has 13 frames"):
        list(track_between(frames_from_source(Path(tmp_path)), {20: boxes[5]}, TemplateTracker))


def test_a_source_that_was_read_from_is_refused(clip, tmp_path):
    """The box of frame 2 was given to another."""
    for i, frame in enumerate(clip[0]):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame)
    source = frames_from_source(tmp_path)
    next(source)
    with pytest.raises(InputError, match="frames of it were read already"):
        track_between(source, {2: clip[1][2]}, TemplateTracker)
    source.close()
    with pytest.raises(InputError, match="or it was closed"):
        track_between(source, {2: clip[1][2]}, TemplateTracker)


@pytest.mark.parametrize("memory", [1 << 20, 0])
def test_frames_read_into_one_array(clip, memory):
    """What waited to be tracked backwards was the newest frame, many times."""
    frames, boxes = clip

    def pictures():
        buffer = np.empty_like(frames[0])
        for frame in frames:
            buffer[:] = frame
            yield buffer

    results = list(track_between(pictures(), {0: boxes[0], 12: boxes[12]}, TemplateTracker, memory=memory))
    assert np.allclose([r.box for r in results], boxes, atol=1)


def test_a_path_for_the_frames(clip, tmp_path):
    frames, boxes = clip
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame)
    for path in (tmp_path, str(tmp_path)):
        results = list(track_between(path, {5: boxes[5]}, TemplateTracker, start=1))
        assert [r.frame for r in results] == list(range(1, 13))
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        track_between(tmp_path / "nope.mp4", {5: boxes[5]}, TemplateTracker)


@pytest.mark.parametrize("key", ["0", 5.5, None])
def test_keys_that_are_no_frames(clip, key):
    with pytest.raises(InputError, match=r"corrections: .+ is no frame: give its number, from 0"):
        track_between(clip[0], {1: clip[1][1], key: clip[1][5]}, TemplateTracker)


def test_numbers_and_boxes_of_numpy(clip):
    frames, boxes = clip
    results, _ = run(frames, {np.int64(2): np.array(boxes[2])})
    assert type(results[2].box) is tuple and results[2].box == boxes[2]


def test_what_is_no_image(clip):
    frames, boxes = clip
    with pytest.raises(InputError, match="the frames are a NoneType: give images"):
        track_between(None, {0: boxes[0]}, TemplateTracker)
    results = track_between([frames[0], None], {0: boxes[0]}, TemplateTracker)
    next(results)
    with pytest.raises(InputError, match="image 1: frame is NoneType: give a NumPy array"):
        next(results)


def test_an_image_of_another_size(clip):
    """At a given frame it was taken, and elsewhere the message named no image; gray ones are as good as others."""
    frames, boxes = clip
    for key in (3, 5):
        pictures = [frames[0][..., 0], *frames[1:4], np.zeros((40, 60, 3), np.uint8), frames[5]]
        results = track_between(pictures, {0: boxes[0], key: boxes[key]}, TemplateTracker)
        with pytest.raises(InputError, match="image 4: is 60 x 40, the first is 160 x 120: give images of one size"):
            list(results)


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (
            TemplateTracker(),
            "tracker_factory is a TemplateTracker: give what makes a tracker, such as the class Tracker",
        ),
        ("pico", "tracker_factory is 'pico': give what makes a tracker"),
        (cv2.TrackerMIL_create, "tracker_factory makes a TrackerMIL: give a Tracker, or an object with init"),
        (lambda: None, "tracker_factory makes a NoneType: give a Tracker, or an object with init"),
    ],
    ids=["instance", "name", "OpenCV", "nothing"],
)
def test_a_factory_of_another_kind(clip, factory, says):
    with pytest.raises(InputError, match=says):
        track_between(clip[0], {0: clip[1][0]}, factory)


@pytest.mark.parametrize("keyframes", [None, [(0, (1, 2, 30, 40))], (1, 2, 30, 40)])
def test_keyframes_of_another_kind(clip, keyframes):
    with pytest.raises(InputError, match=r"corrections: keyframes is a \w+: give a dict \{frame: \(x, y, w, h\)\}"):
        track_between(clip[0], keyframes, TemplateTracker)


def test_a_start_that_is_not_the_sources(clip, tmp_path):
    for i, frame in enumerate(clip[0]):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame)
    with (
        frames_from_source(tmp_path, 1) as source,
        pytest.raises(InputError, match=r"start is 2, but .* was opened at frame 1"),
    ):
        track_between(source, {5: clip[1][5]}, TemplateTracker, start=2)


@pytest.mark.parametrize("frame", [0, 4, 7, 8])
def test_a_tracker_belongs_to_the_newest_call(clip, frame):
    """An older one followed the other's target, without a word; next it goes forwards, backwards, is given a box."""
    frames, boxes = clip
    tracker = TemplateTracker()
    tracker.started_by = None
    older = track_between(frames, {0: boxes[0], 8: boxes[8]}, lambda: tracker)
    while next(older).frame < frame:
        pass
    newer = track_between(frames, {0: boxes[0]}, lambda: tracker)
    with pytest.raises(InputError, match="tracker was started on something else meanwhile"):
        next(older)
    assert len(list(newer)) == 13


# What counts as a correction


def track(*boxes):
    return Track(1, "target", boxes)


def test_every_box_of_a_person_counts():
    given = keyframes_of(track(Box(0, 1, 2, 3, 4), Box(5, 2, 2, 3, 4, keyframe=False), Box(9, 3, 2, 3, 4, found=False)))
    assert given == {0: (1, 2, 3, 4), 9: None}


def test_only_what_was_changed_counts():
    before = track(*(Box(f, 10 + f, 2, 30, 40, score=0.9) for f in range(6)), Box(6, 16, 2, 30, 40, found=False))
    after = track(
        Box(0, 10, 2, 30, 40),  # the first box always counts
        Box(1, 11.3, 2, 30, 40),  # rounding
        Box(2, 22, 2, 30, 40),  # moved
        Box(3, 13, 2, 30, 44),  # resized
        Box(4, 14, 2, 30, 40, found=False),  # said to be gone
        Box(5, 25, 2, 30, 40, keyframe=False),  # made up by the tool
        Box(6, 16, 2, 30, 40),  # said to be there
        Box(7, 17, 2, 30, 40, found=False),  # closes the track; there was no box either
        Box(8, 18, 2, 30, 40),  # new
    )
    assert keyframes_of(after, before) == {
        0: (10, 2, 30, 40),
        2: (22, 2, 30, 40),
        3: (13, 2, 30, 44),
        4: None,
        6: (16, 2, 30, 40),
        8: (18, 2, 30, 40),
    }


@pytest.mark.parametrize("name", ["csv", "mot", "coco"])
def test_lost_frames_with_score_0_are_said_to_be_gone(name, tmp_path):
    """The tracker had lost it rightly, and a person's "yes, gone" changed nothing: it was tracked back through them."""

    def box(frame, score):
        return Box(frame, 10, 2, 30, 40, score, found=score > 0.5)

    video = Video("clip", 640, 360, 25.0, 9)
    scores = [1, 0.9, 0.2, 0.1, 0.2, 0.2, 0.1, 0.3, 0.9]
    before = track(*map(box, range(9), scores))
    scores[4:7] = 0, 0, 1  # given again in frame 6
    path = write_boxes(name, tmp_path / FORMATS[name].target, [track(*map(box, range(9), scores))], video)
    (after,) = read_boxes(path, video)
    assert keyframes_of(after, before) == {0: (10, 2, 30, 40), 4: None, 5: None, 6: (10, 2, 30, 40)}


def test_gone_in_a_few_frames_only():
    """Five frames marked as outside: the target comes back after them, though the box there was not touched."""
    before = track(*(Box(f, 10 + f, 2, 30, 40, score=0.9) for f in range(30)))
    after = track(*(Box(f, 10 + f, 2, 30, 40, found=f not in range(20, 25)) for f in range(30)))
    assert keyframes_of(after, before) == {0: (10, 2, 30, 40), **dict.fromkeys(range(20, 25)), 25: (35, 2, 30, 40)}


def test_gone_at_the_beginning_only():
    """The first frames marked as outside, or added so where there was no box: it is followed from the next one on."""
    before = track(*(Box(f, 10 + f, 2, 30, 40, score=0.9) for f in range(2, 8)))
    after = track(*(Box(f, 10 + f, 2, 30, 40, found=f >= 4) for f in range(2, 8)))
    assert keyframes_of(after, before) == {2: None, 3: None, 4: (14, 2, 30, 40)}
    after = track(Box(0, 10, 2, 30, 40, found=False), *before.boxes)
    assert keyframes_of(after, before) == {0: None, 2: (12, 2, 30, 40)}


def test_a_second_round_keeps_the_first():
    """`before` is what the first round made: what was given then (score 1, or 0 for gone) counts again."""

    def made(f):
        return Box(f, 10 + f, 2, 30, 40, score=1.0 if f in (0, 5, 9) else 0.9)

    def gone(f, score):
        return Box(f, 10, 2, 30, 40, score=score, found=False)

    before = track(*(made(f) for f in range(7)), gone(7, 0.0), gone(8, 0.0), *map(made, range(9, 12)), gone(12, 0.2))
    moved = Box(3, 80, 2, 30, 40)
    after = track(*(moved if box.frame == 3 else box for box in before.boxes))
    assert keyframes_of(after, before) == {
        0: (10, 2, 30, 40),
        3: (80, 2, 30, 40),
        5: (15, 2, 30, 40),
        7: None,  # until 9; that the tracker lost it in 12 was nobody's word
        9: (19, 2, 30, 40),
    }


FIRST = (  # what a first round made: given at 0, gone in 10..19, given at 20
    *(Box(f, 10, 2, 30, 40, score=0.9 if f else 1.0) for f in range(10)),
    *(Box(f, 10, 2, 30, 40, score=0.0, found=False) for f in range(10, 20)),
    *(Box(f, 50, 2, 30, 40, score=0.9 if f > 20 else 1.0) for f in range(20, 25)),
)
SECOND = {
    # what a person did to it: (frames with a new box, frames deleted, where it is said to be gone, boxes)
    "nothing": ((), (), [10], [0, 20]),
    "it leaves one later": ((10,), (), [11], [0, 10, 20]),
    "it leaves five later": (range(10, 15), (), [15], [0, *range(10, 15), 20]),
    "the first rows of it deleted": ((), range(10, 15), [15], [0, 20]),
    "all rows of it deleted": ((), range(10, 20), [], [0, 20]),
    "there for a moment": ((15,), (), [10, 16], [0, 15, 20]),
    "back one earlier": ((19,), (), [10], [0, 19, 20]),
}


@pytest.mark.parametrize("name", SECOND)
def test_a_second_round_keeps_the_rest_of_gone(name):
    """Whoever corrected a frame of it had the others, still marked as gone, tracked."""
    drawn, deleted, gone, boxes = SECOND[name]
    after = track(*(Box(b.frame, 90, 2, 30, 40) if b.frame in drawn else b for b in FIRST if b.frame not in deleted))
    keyframes = keyframes_of(after, track(*FIRST))
    assert [frame for frame, box in keyframes.items() if box is None] == gone
    assert [frame for frame, box in keyframes.items() if box is not None] == boxes


def test_a_first_box_that_was_tracked_backwards_is_not_given():
    """Whoever drew the first box in the middle had the oldest guess frozen by every correction after it."""

    def made(lost):
        return track(*(Box(f, 10 + f, 2, 30, 40, 1.0 if f == 4 else 0.4, found=f not in lost) for f in range(8)))

    for before in (made(()), made((0, 1))):  # also where it was lost on the way back
        assert keyframes_of(before, before) == {4: (14, 2, 30, 40)}


def test_a_file_without_scores_says_nothing_of_earlier_rounds():
    """CVAT and YOLO: every box reads as score 1, and all would count."""
    before = track(*(Box(f, 10 + f, 2, 30, 40) for f in range(5)), Box(5, 14, 2, 30, 40, found=False))
    assert keyframes_of(before, before) == {0: (10, 2, 30, 40)}

"""`fartrack.track`: one result per frame, and everything wrong is said before the first one."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import fartrack
import fartrack.tracker
from fartrack import InputError, Result, track, track_all
from fartrack.corrections import track_between
from fartrack.video.reader import frames_from_source
from template_tracker import TemplateTracker
from videos import clip, cut_off, picture, write_images

BOX = (8, 20, 24, 24)


def test_one_result_per_frame(tmp_path):
    path = clip(tmp_path / "a.mp4", 20)
    results = list(track(path, BOX, tracker=TemplateTracker()))
    assert [result.frame for result in results] == list(range(20))
    assert results[0] == results[0]
    first = results[0]
    assert (first.box, first.score, first.found, first.time) == ((8.0, 20.0, 24.0, 24.0), 1.0, True, 0.0)
    for result in results:
        assert isinstance(result, Result)
        assert result.found
        assert 0 <= result.score <= 1
        assert result.box == pytest.approx((8 + result.frame, 20, 24, 24), abs=1)
        assert result.time == result.frame / 25
        assert result.image.shape == (64, 96, 3)
        assert result.image.dtype == np.uint8


def test_several_targets_at_once(tmp_path, tiny_model):
    """One result of each target a frame, as each would be followed alone."""
    path, boxes = clip(tmp_path / "a.mp4", 6), (BOX, (50, 30, 20, 20))
    together = list(track_all(path, boxes, model=tiny_model.onnx, threads=1))
    alone = [list(track(path, box, model=tiny_model.onnx, threads=1)) for box in boxes]
    for frame, (results, *others) in enumerate(zip(together, *alone, strict=True)):
        for one, other in zip(results, others, strict=True):
            assert one.frame == frame and one.found == other.found
            assert one.box == pytest.approx(other.box, abs=1e-3) and one.score == pytest.approx(other.score, abs=1e-4)
    with pytest.raises(InputError, match="no box"):
        track_all(path, [], model=tiny_model.onnx)


def test_a_tracker_with_targets_is_refused(tmp_path, tiny_model):
    """Those of another video would be tracked on in this one, unseen."""
    tracker = fartrack.MultiTracker(tiny_model.onnx, threads=1)
    tracker.add(picture(0), BOX)
    with pytest.raises(InputError, match="follows 1 targets already: give a new MultiTracker"):
        track_all(clip(tmp_path / "a.mp4", 2), [BOX], tracker=tracker)
    assert list(tracker) == [1]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (lambda model: fartrack.MultiTracker(model, threads=1), "a MultiTracker"),
        (lambda model: "pico", "'pico'"),
        (lambda model: fartrack.Tracker, "the class Tracker, not made yet"),
        (lambda model: cv2.TrackerMIL_create(), "a TrackerMIL"),
        (lambda model: Path(model), r"a \w*Path"),
    ],
    ids=["of several", "name", "class", "OpenCV", "path"],
)
def test_a_tracker_of_another_kind_is_refused(tmp_path, tiny_model, kind, says):
    """Before the source is opened, which may be a camera."""
    with pytest.raises(InputError, match=rf"tracker is {says}: give a Tracker, or an object with init\(frame, box\)"):
        track(tmp_path / "none.mp4", BOX, tracker=kind(tiny_model.onnx))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (lambda model: fartrack.Tracker(model, threads=1), "a Tracker"),
        (lambda model: "pico", "'pico'"),
        (lambda model: fartrack.MultiTracker, "the class MultiTracker, not made yet"),
    ],
    ids=["of one", "name", "class"],
)
def test_track_all_refuses_what_is_no_multitracker(tmp_path, tiny_model, kind, says):
    with pytest.raises(InputError, match=f"tracker is {says}: give a MultiTracker without targets"):
        track_all(tmp_path / "none.mp4", [BOX], tracker=kind(tiny_model.onnx))


def test_a_tracker_of_ones_own_may_have_no_score_before_init(tmp_path):
    tracker = TemplateTracker()
    del tracker.score
    assert len(list(track(clip(tmp_path / "a.mp4", 3), BOX, tracker=tracker))) == 3


@pytest.mark.parametrize("start", [1.5, "1", None])
def test_a_start_that_is_no_frame(tmp_path, start):
    """1.5 was rounded without a word, and the box belonged to another frame."""
    with pytest.raises(InputError, match=r"start is .*: give the number of a frame"):
        track(clip(tmp_path / "a.mp4", 4), BOX, start=start, tracker=TemplateTracker())


def test_start(tmp_path):
    path = clip(tmp_path / "a.mp4", 20)
    results = list(track(str(path), (18, 20, 24, 24), start=10, tracker=TemplateTracker()))
    assert [result.frame for result in results] == list(range(10, 20))
    assert results[0].box == (18.0, 20.0, 24.0, 24.0)
    assert results[0].time == 0.4


def test_an_opened_source(tmp_path):
    write_images(tmp_path / "frames", map(picture, range(6)))
    source = frames_from_source(tmp_path / "frames", 2)
    assert [result.frame for result in track(source, BOX, tracker=TemplateTracker())] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    "follow", [track, lambda source, box, **more: track_all(source, [box], **more)], ids=["track", "track_all"]
)
def test_a_start_that_is_not_the_sources(tmp_path, tiny_model, follow):
    """It was ignored, and the box went to another frame."""
    write_images(tmp_path / "frames", map(picture, range(6)))
    with frames_from_source(tmp_path / "frames", 2) as source:
        with pytest.raises(InputError, match=r"start is 3, but .*frames was opened at frame 2: open it with that"):
            follow(source, BOX, start=3, model=tiny_model.onnx)
        assert len(list(follow(source, BOX, start=2, model=tiny_model.onnx, threads=1))) == 4


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize(
    "follow", [track, lambda source, box, **more: track_all(source, [box], **more)], ids=["track", "track_all"]
)
def test_a_source_that_was_read_from_is_refused(tmp_path, tiny_model, follow, close):
    """The box belongs to the newest frame, but the first one was taken; of a closed one no frame is left."""
    write_images(tmp_path / "frames", map(picture, range(6)))
    with frames_from_source(tmp_path / "frames") as source:
        if close:
            source.close()
        else:
            next(source)
        with pytest.raises(InputError, match=r"frames: frames of it were read already, .*: open it anew with start=N"):
            follow(source, BOX, model=tiny_model.onnx)
        assert close or next(source).index == 1  # who reads it may go on
    with frames_from_source(tmp_path / "frames") as source:
        results = follow(source, BOX, model=tiny_model.onnx)
    with pytest.raises(InputError, match="or it was closed"):
        next(results)


def test_a_tracker_that_went_on_to_another_video(tmp_path, tiny_model):
    """The first one silently followed the target of the second."""
    path, tracker = clip(tmp_path / "a.mp4", 4), fartrack.Tracker(tiny_model.onnx, threads=1)
    unread, begun = track(path, BOX, tracker=tracker), track(path, BOX, tracker=tracker)
    next(begun)
    newest = track(path, (50, 30, 20, 20), tracker=tracker)
    for results in (unread, begun):
        with pytest.raises(InputError, match="tracker was started on something else meanwhile: read one video to its"):
            next(results)
    assert len(list(newest)) == 4
    assert len(list(track(path, BOX, tracker=tracker))) == 4  # one after the other


def test_a_tracker_that_went_on_to_corrections(tmp_path, tiny_model):
    path, tracker = clip(tmp_path / "a.mp4", 4), fartrack.Tracker(tiny_model.onnx, threads=1)
    results = track(path, BOX, tracker=tracker)
    next(results)
    assert len(list(track_between(path, {0: (50, 30, 20, 20)}, lambda: tracker))) == 4
    with pytest.raises(InputError, match="tracker was started on something else meanwhile"):
        next(results)


def test_a_program_may_start_the_tracker_anew(tmp_path, tiny_model):
    tracker = fartrack.Tracker(tiny_model.onnx, threads=1)
    for result in track(clip(tmp_path / "a.mp4", 4), BOX, tracker=tracker):
        if result.frame == 1:
            tracker.init(result.image, (50, 30, 20, 20))
    assert result.frame == 3


def test_a_target_that_is_removed_meanwhile(tmp_path, tiny_model):
    tracker = fartrack.MultiTracker(tiny_model.onnx, threads=1)
    results = track_all(clip(tmp_path / "a.mp4", 4), [BOX, (50, 30, 20, 20)], tracker=tracker)
    next(results)
    tracker.remove(2)
    with pytest.raises(InputError, match="target 2 was removed from the tracker that `track_all` runs on"):
        next(results)


@pytest.mark.parametrize("boxes", [None, BOX, np.array(BOX), "8,20,24,24", [None]])
def test_what_is_no_list_of_boxes(tmp_path, tiny_model, boxes):
    with pytest.raises(InputError, match=r"no list of boxes: give one, such as \[\(x, y, w, h\)\]"):
        track_all(clip(tmp_path / "a.mp4", 2), boxes, model=tiny_model.onnx)


def test_boxes_of_numpy(tmp_path, tiny_model):
    (results, *_) = track_all(clip(tmp_path / "a.mp4", 2), np.array([BOX, BOX]), model=tiny_model.onnx, threads=1)
    assert [result.box for result in results] == [BOX, BOX]


def test_results_are_frozen(tmp_path):
    path = clip(tmp_path / "a.mp4", 2)
    result = next(track(path, BOX, tracker=TemplateTracker()))
    with pytest.raises(AttributeError):
        result.score = 2


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((1, 2, 3), "four numbers"),
        ("1,2,3,4", "four numbers"),
        ((1, 2, 3, "x"), "four numbers"),
        (None, "four numbers"),
        ((1, 2, float("nan"), 4), "finite"),
        ((1, 2, float("inf"), 4), "finite"),
        ((1, 2, 0, 4), "no area"),
        ((1, 2, 3, -4), "no area"),
        ((96, 2, 3, 4), "outside the 96 x 64 frame"),
        ((-9, 2, 9, 4), "outside the 96 x 64 frame"),
    ],
)
def test_wrong_boxes_are_refused_at_the_call(tmp_path, box, message):
    path = clip(tmp_path / "a.mp4", 2)
    tracker = TemplateTracker()
    with pytest.raises(ValueError, match=message):
        track(path, box, tracker=tracker)  # not iterated
    assert tracker.started == 0


def test_wrong_sources_are_refused_at_the_call(tmp_path):
    with pytest.raises(FileNotFoundError):
        track(tmp_path / "nope.mp4", BOX, tracker=TemplateTracker())
    with pytest.raises(InputError, match="beyond its end"):
        track(clip(tmp_path / "a.mp4", 5), BOX, start=5, tracker=TemplateTracker())


def test_wrong_model_is_refused_at_the_call(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nope\.onnx"):
        track(clip(tmp_path / "a.mp4", 5), BOX, model=tmp_path / "nope.onnx")


def test_broken_video_delivers_what_it_has(tmp_path):
    whole = clip(tmp_path / "a.mp4", 40, options={"movflags": "+faststart"})
    results = []
    with pytest.raises(InputError) as caught:
        for result in track(cut_off(whole, tmp_path / "b.mp4"), BOX, tracker=TemplateTracker()):
            results.append(result)
    assert len(results) >= 15
    assert f"frame {len(results)} " in str(caught.value)


def test_options_reach_the_tracker(tmp_path, monkeypatch):
    asked = []

    class Tracker(TemplateTracker):
        def __init__(self, *options):
            super().__init__()
            asked.append(options)

    monkeypatch.setattr(fartrack.tracker, "Tracker", Tracker)
    next(track(clip(tmp_path / "a.mp4", 2), BOX, model="tiny", runtime="openvino", threads=3, explain=True, seek=True))
    assert asked == [("tiny", "openvino", 3, True, True)]

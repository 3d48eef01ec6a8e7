"""Several targets at once: each as if it were alone."""

import importlib.util
import itertools
import sys

import numpy as np
import pytest

import fartrack
from fartrack import InputError, MultiTracker, Tracker
from small import BOX, SMALL, frames, network

BOXES = [BOX, (20.0, 30.0, 30.0, 22.0), (100.0, 60.0, 18.0, 26.0)]


def alone(model, video, box, begin=0, runtime="onnxruntime"):
    tracker = Tracker(model, runtime, threads=1)
    tracker.init(video[begin], box)
    return [(*tracker.update(frame), tracker.score) for frame in video[begin + 1 :]]


def same(ours, theirs):
    assert ours[0] == theirs[0]
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-2)
    assert ours[2] == pytest.approx(theirs[2], abs=1e-3)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "torch"])
def test_each_target_as_if_alone(tiny_model, runtime):
    """They come at different frames, so that whole and pruned templates meet, and one leaves."""
    if not importlib.util.find_spec(runtime):
        pytest.skip(f"no {runtime}")
    video = frames(10)
    tracker = MultiTracker(tiny_model.onnx, runtime, threads=1)
    numbers = [tracker.add(video[0], BOXES[0]), tracker.add(video[0], BOXES[1])]
    given = []
    for t, frame in enumerate(video[1:], start=1):
        given.append(tracker.update(frame))
        if t == 3:
            numbers.append(tracker.add(frame, BOXES[2]))
        if t == 6:
            tracker.remove(numbers[1])
    assert numbers == [1, 2, 3]
    for number, box, begin, end in [(1, BOXES[0], 0, 9), (2, BOXES[1], 0, 6), (3, BOXES[2], 3, 9)]:
        expected = alone(tiny_model.onnx, video, box, begin, runtime)
        for t in range(begin + 1, end + 1):
            same(given[t - 1][number], expected[t - begin - 1])
    assert 2 not in given[6]
    assert 3 not in given[2]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "torch"])
def test_each_as_if_alone_where_not_all_have_new_templates(runtime, tmp_path):
    """They come one frame apart, so that of three in every frame some have a new template and others none."""
    if not importlib.util.find_spec(runtime) or not importlib.util.find_spec("torch"):
        pytest.skip(f"no {runtime}")
    from fartrack.export import state_of
    from fartrack.graph import build
    from fartrack.target import AT_FIRST

    config = SMALL.replace(attention="oneway", update_interval=2, score_bias=50.0)  # always sure
    (tmp_path / "net.onnx").write_bytes(build(state_of(network(config)), config).SerializeToString())
    video = frames(AT_FIRST + 7)
    tracker = MultiTracker(tmp_path / "net.onnx", runtime, threads=1)
    tracker.prepare()
    numbers, given = [tracker.add(video[0], BOXES[0]), tracker.add(video[0], BOXES[2])], []
    for frame in video[1:]:
        given.append(tracker.update(frame))
        if len(given) == 1:
            numbers.append(tracker.add(frame, BOXES[1]))
    for number, box, begin in zip(numbers, (BOXES[0], BOXES[2], BOXES[1]), (0, 0, 1), strict=True):
        for ours, theirs in zip(given[begin:], alone(tmp_path / "net.onnx", video, box, begin, runtime), strict=True):
            same(ours[number], theirs)


def test_one_call_of_the_network_a_frame(tiny_model):
    video = frames(5)
    tracker = MultiTracker(tiny_model.onnx, threads=1)
    for box in BOXES:
        tracker.add(video[0], box)
    sizes = []
    runtime = tracker.runtime

    def counted(search, *rest):
        sizes.append(len(search))
        return runtime(search, *rest)

    tracker.runtime = counted
    for frame in video[1:]:
        tracker.update(frame)
    assert sizes == [3] * 4


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "opencv", "torch"])
def test_after_prepare_targets_run_together_in_every_engine(tiny_model, runtime):
    """The documents said `tracker.runtime.prepare()`, which OpenVINO alone has."""
    try:
        tracker = MultiTracker(tiny_model.onnx, runtime, threads=1)
    except InputError as error:
        pytest.skip(str(error))
    tracker.prepare()
    video = frames(3)
    numbers = [tracker.add(video[0], box) for box in BOXES]
    assert list(tracker.update(video[1])) == numbers
    assert getattr(tracker.runtime, "_singly", 0) == 0  # none was counted as run by itself


def test_numbers_are_not_used_again(tiny_model):
    image = frames(1)[0]
    tracker = MultiTracker(tiny_model.onnx, threads=1)
    first = tracker.add(image, BOX)
    tracker.remove(first)
    assert tracker.add(image, BOX) != first
    assert len(tracker) == 1
    assert first not in tracker


def test_some_are_removed_on_the_way_through_them(tiny_model):
    """`for number in tracker: tracker.remove(number)` ended in a RuntimeError."""
    image = frames(1)[0]
    tracker = MultiTracker(tiny_model.onnx, threads=1)
    for box in BOXES:
        tracker.add(image, box)
    for number in tracker:
        if number != 2:
            tracker.remove(number)
    assert list(tracker) == [2]


def test_one_without_targets_is_a_tracker_all_the_same(tiny_model):
    """`tracker or MultiTracker("pico")` dropped it and loaded another."""
    tracker = MultiTracker(tiny_model.onnx, threads=1)
    assert len(tracker) == 0 and tracker


def test_without_targets_there_is_nothing(tiny_model):
    assert MultiTracker(tiny_model.onnx, threads=1).update(frames(1)[0]) == {}


def test_refusals_leave_the_state(tiny_model):
    video = frames(3)
    tracker = MultiTracker(tiny_model.onnx, threads=1)
    number = tracker.add(video[0], BOX)
    other = np.zeros((50, 60, 3), np.uint8)
    with pytest.raises(InputError, match="outside"):
        tracker.add(video[0], (900, 900, 10, 10))
    with pytest.raises(ValueError, match="60 x 50"):
        tracker.add(other, (5, 5, 10, 10))
    with pytest.raises(ValueError, match="60 x 50"):
        tracker.update(other)
    with pytest.raises(ValueError, match="uint8"):
        tracker.update(video[1].astype(float))
    with pytest.raises(InputError, match="target 7 is not tracked: there are 1"):
        tracker.remove(7)
    with pytest.raises(InputError, match=r"target \[1\] is not tracked: there are 1"):
        tracker.remove([1])
    same(tracker.update(video[1])[number], alone(tiny_model.onnx, video, BOX)[0])


def test_is_there_without_being_imported():
    assert "MultiTracker" in fartrack.__all__


def interrupted(call, after):
    """Raise KeyboardInterrupt, as a signal would, at a line of what changes a target; None once there is none left."""
    left = itertools.count(after, -1)

    def at(frame, event, _):
        name = frame.f_code.co_name
        if not frame.f_code.co_filename.endswith(("target.py", "memory.py")) or name in ("found", "score"):
            return None
        if event == "line" and next(left) == 0:
            raise KeyboardInterrupt
        return at

    before = sys.gettrace()
    sys.settrace(at)
    try:
        return call()
    except KeyboardInterrupt:
        return None
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("targets", [1, 2])
def test_an_interrupted_frame_counts_for_none(tiny_model, targets):
    """A robot's time limit, or Ctrl-C in a notebook: the frame can be given again, to all targets."""
    video = frames(4)
    plain, other = (MultiTracker(tiny_model.onnx, threads=1, seek=True) for _ in range(2))
    for tracker, box in itertools.product((plain, other), BOXES[:targets]):
        tracker.add(video[0], box)
    expected = [plain.update(frame) for frame in video[1:]]
    other.update(video[1])
    cuts = 0
    for at in itertools.count(0, 5):
        if (seen := interrupted(lambda: other.update(video[2]), at)) is not None:
            break
        cuts += 1
    assert cuts > 15 * targets
    assert seen == expected[1]
    assert other.update(video[3]) == expected[2]

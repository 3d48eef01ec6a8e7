"""The tracker as one writes it in a loop of one's own."""

import math
import os
import pickle
from collections import deque
from copy import copy as shallow
from copy import deepcopy
from typing import Any, get_type_hints

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import fartrack
from fartrack import InputError, MultiTracker, Tracker, geometry
from fartrack.target import AT_FIRST
from fartrack.video.draw import draw_result
from fartrack.video.select import select_box
from fartrack.video.writer import VideoWriter
from small import BOX, SMALL, frames, network


@pytest.fixture
def tracker(tiny_model):
    return fartrack.Tracker(tiny_model.onnx, threads=1)


def follow(tracker, images, box=BOX):
    tracker.init(images[0], box)
    return [(*tracker.update(image), tracker.score) for image in images[1:]]


def spied(tracker):
    """What the network will be given, call by call: search, template, memory, past words."""
    calls, run = [], tracker.runtime

    class Spy:
        config = run.config

        def __call__(self, *given):
            calls.append((*given, None)[:4])
            return run(*given)

    tracker.runtime = Spy()
    return calls


def test_answers(tracker):
    results = follow(tracker, frames(8))
    for found, box, score in results:
        assert type(found) is bool and 0 < score < 1
        assert len(box) == 4 and all(type(v) is float for v in box)
        x, y, w, h = box
        assert 0 <= x <= 150 and 0 <= y <= 110 and w >= 10 and h >= 10
    assert len({box for _, box, _ in results}) == len(results)
    assert tracker.getTrackingScore() == tracker.score


def test_boxes_drawn_as_the_docstring_says(tracker):
    """Whoever comes from OpenCV's trackers draws what update returns; cv2 takes no floats."""
    (_, box, _), *_ = follow(tracker, frames(2))
    x, y, w, h = map(round, box)
    assert "x, y, w, h = map(round, box)" in fartrack.Tracker.__doc__
    drawn = cv2.rectangle(frames(2)[1].copy(), (x, y), (x + w, y + h), (0, 255, 0))
    assert (drawn != frames(2)[1]).any()


@pytest.mark.parametrize(
    ("interval", "templates", "bias", "later"),
    [
        (1, 5, 50.0, 7),
        (2, 5, 50.0, 3),
        (3, 3, 50.0, 2),
        (3, 5, 5.5, 7),  # never sure, so every frame gives one all the same
        (1, 1, 5.5, -AT_FIRST),  # the given one is the only one
    ],
)
def test_follows_as_one_that_looks_at_every_picture_again(interval, templates, bias, later, tmp_path):
    """Templates as keys and values, and frames that give none: against all the pictures and the whole network."""
    torch = pytest.importorskip("torch")
    from fartrack.export import state_of
    from fartrack.graph import build
    from fartrack.memory import sample_history
    from fartrack.network import decode
    from fartrack.runtime import Output

    c = SMALL.replace(attention="oneway", keep=1.0, update_interval=interval, templates=templates, score_bias=bias)
    net, pictures, asked = network(c), [], []

    @torch.inference_mode()
    def plain(search, template, memory, _):
        if template.size and not (pictures and np.array_equal(pictures[-1], template)):
            pictures.append(template)
        asked.append(template.shape[1] > 0)
        slots = [pictures[i] for i in sample_history(len(pictures) - 1, templates, c.memory)]
        search, *slots = (net.normalise(torch.from_numpy(x).permute(0, 3, 1, 2)) for x in (search, *slots))
        seen = [net.embed_template(slot) + net.slot_identity(i) for i, slot in enumerate(slots)]
        logits = net(seen, net.embed_search(search), None).logits[-1]
        nothing = np.zeros((1, 49, c.memory_width), np.float32)
        return Output(decode(logits, c).numpy(), logits.numpy(), nothing[..., 0], nothing)

    (tmp_path / "net.onnx").write_bytes(build(state_of(net), c).SerializeToString())
    images = frames(AT_FIRST + 9)
    given = follow(Tracker(tmp_path / "net.onnx", threads=1), images)
    slow = Tracker(tmp_path / "net.onnx", threads=1)
    slow.runtime, plain.config = plain, c
    for (_, ours, score), (_, theirs, expected) in zip(given, follow(slow, images), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-2)
        assert score == pytest.approx(expected, abs=1e-3)
    # The starting frame's, then one of each frame as long as it begins; of those after, but for the last, some.
    assert len(pictures) == 1 + AT_FIRST + later
    assert sum(asked) == 1 + len(pictures)


def test_same_frames_same_boxes(tracker, tiny_model):
    images = frames(6)
    assert follow(tracker, images) == follow(fartrack.Tracker(tiny_model.onnx, threads=1), images)


def test_init_again_starts_afresh(tracker):
    images = frames(12)
    first = follow(tracker, images[:5])
    follow(tracker, images[3:], (20, 20, 30, 30))
    tracker.init(frames(1, 60, 200)[0], (5, 5, 20, 20))  # another size of frame is another video
    assert follow(tracker, images[:5]) == first
    assert len(tracker.target.memory) == 4


def test_score_before_and_after_init(tracker):
    assert tracker.score == 0
    tracker.init(frames(1)[0], BOX)
    assert tracker.score == tracker.getTrackingScore() == 1


def test_two_trackers_share_no_state(tracker, tiny_model):
    images, others = frames(6), frames(6, seed=1)
    alone = follow(tracker, images)
    a, b = (fartrack.Tracker(tiny_model.onnx, threads=1) for _ in range(2))
    a.init(images[0], BOX)
    b.init(others[0], (30, 30, 40, 40))
    together = []
    for image, other in zip(images[1:], others[1:], strict=True):
        together.append((*a.update(image), a.score))
        b.update(other)
    assert together == alone


def test_gray_frames(tracker):
    gray = [cv2.cvtColor(f, cv2.COLOR_BGR2GRAY) for f in frames(4)]
    expected = follow(tracker, [cv2.cvtColor(f, cv2.COLOR_GRAY2BGR) for f in gray])
    assert follow(tracker, gray) == expected
    assert follow(tracker, [f[..., None] for f in gray]) == expected


def test_bgra_frames(tracker):
    expected = follow(tracker, frames(4))
    assert follow(tracker, [cv2.cvtColor(f, cv2.COLOR_BGR2BGRA) for f in frames(4)]) == expected


def test_kinds_of_frames_may_change_within_a_video(tracker):
    images = frames(3)
    tracker.init(images[0], BOX)
    tracker.update(cv2.cvtColor(images[1], cv2.COLOR_BGR2BGRA))
    _, box = tracker.update(images[2][..., 0])
    assert all(map(math.isfinite, box))


def test_frame_is_never_modified(tracker):
    images = frames(4)
    copies = [f.copy() for f in images]
    for f in images:
        f.setflags(write=False)
    follow(tracker, images)
    for f, copy in zip(images, copies, strict=True):
        np.testing.assert_array_equal(f, copy)


def test_a_reused_buffer_does_not_change_the_past(tracker):
    """OpenCV reads every frame into the same array when asked to."""
    images = frames(5)
    expected = follow(tracker, images)
    buffer = images[0].copy()
    tracker.init(buffer, BOX)
    results = []
    for image in images[1:]:
        buffer[:] = image
        results.append((*tracker.update(buffer), tracker.score))
    assert results == expected


def test_views_of_frames(tracker):
    images = frames(4)
    flipped = [np.ascontiguousarray(f[:, ::-1]) for f in images]
    assert follow(tracker, [f[:, ::-1] for f in flipped]) == follow(tracker, images)


WRONG_STARTS = [
    (None, BOX, "NoneType"),
    (np.zeros((120, 160, 3), np.float32), BOX, "float32"),
    (np.zeros((120, 160, 5), np.uint8), BOX, "shape"),
    (frames(1)[0], (1, 2, 3), "four numbers"),
    (frames(1)[0], (1, 2, float("nan"), 3), "finite"),
    (frames(1)[0], (1, 2, 0, 3), "no area"),
    (frames(1)[0], (1, 2, 3, -3), "no area"),
    (frames(1)[0], (160, 2, 3, 3), "outside"),
    (frames(1)[0], (-20000, -20000, 40000, 40000), "far larger than the 160 x 120 frame"),
]


@pytest.mark.parametrize(("frame", "box", "says"), WRONG_STARTS)
def test_wrong_start_leaves_the_old_state(tracker, frame, box, says):
    images = frames(5)
    expected = follow(tracker, images)
    tracker.init(images[0], BOX)
    tracker.update(images[1])
    with pytest.raises(InputError, match=says) as caught:
        tracker.init(frame, box)
    assert "\n" not in str(caught.value)
    assert [(*tracker.update(f), tracker.score) for f in images[2:]] == expected[1:]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (None, "NoneType"),
        (np.zeros((120, 160, 3), np.int32), "int32"),
        (np.zeros((120, 150, 3), np.uint8), "150 x 120 but the video began with 160 x 120: begin again"),
        (np.zeros((0, 0, 3), np.uint8), "empty"),
    ],
)
def test_wrong_frame_leaves_the_state(tracker, frame, says):
    images = frames(4)
    expected = follow(tracker, images)
    tracker.init(images[0], BOX)
    tracker.update(images[1])
    before = (tracker.score, tracker.target.box, tracker.target.window, len(tracker.target.memory))
    with pytest.raises(InputError, match=says):
        tracker.update(frame)
    assert (tracker.score, tracker.target.box, tracker.target.window, len(tracker.target.memory)) == before
    assert [(*tracker.update(f), tracker.score) for f in images[2:]] == expected[1:]


def test_update_before_init(tracker):
    with pytest.raises(InputError, match="init"):
        tracker.update(frames(1)[0])


def test_frames_of_opencv_pass_type_checkers():
    """OpenCV's types do not say that its frames are uint8: a loop around `cv2.VideoCapture` must not need casts."""
    ours = (Tracker.init, Tracker.update, MultiTracker.add, MultiTracker.update)
    for method in ours:
        assert get_type_hints(method)["frame"] == npt.NDArray[Any]
    for function, name in ((draw_result, "image"), (select_box, "frame"), (VideoWriter.write, "image")):
        assert get_type_hints(function)[name] == npt.NDArray[Any]


def test_wrong_start_of_a_new_tracker(tracker):
    with pytest.raises(ValueError, match="no area"):
        tracker.init(frames(1)[0], (1, 1, 0, 0))
    assert tracker.score == 0
    with pytest.raises(ValueError, match="init"):
        tracker.update(frames(1)[0])


@pytest.mark.parametrize(
    "box",
    [(-10, -10, 30, 30), (150, 110, 30, 30), (0, 0, 160, 120), (80, 60, 0.5, 0.5), (-500, 50, 2000, 3)],
)
def test_boxes_that_stick_out_tiny_and_huge(tracker, box):
    for _, (x, y, w, h), _ in follow(tracker, frames(4), box):
        assert geometry.iou((x, y, w, h), (0, 0, 160, 120)) > 0


def test_frame_smaller_than_the_margin(tracker):
    for _, (x, y, w, h), _ in follow(tracker, [np.zeros((6, 8, 3), np.uint8)] * 3, (1, 1, 4, 4)):
        assert 0 <= x < 8 and 0 <= y < 6 and w > 0 and h > 0


def test_templates_go_in_once_and_pruned(tiny_model):
    """What the network is given: 49 tokens per older slot in the first frame, 37 in every other."""
    tracker = fartrack.Tracker(tiny_model.onnx, threads=1)
    calls = spied(tracker)
    follow(tracker, frames(5))
    shapes = [tuple(array.shape for array in call[:3]) for call in calls]
    assert {s[:2] for s in shapes} == {((1, 224, 224, 3), (1, 112, 112, 3))}
    assert [s[2] for s in shapes] == [(1, 4, 49, 48)] * 2 + [(1, 4, 37, 48)] * 3  # init, then frames 1 to 4


def test_one_template_goes_in_whole_in_every_frame_of_joint_attention(tmp_path):
    """And it is the first frame's: the newest one, made of the tracker's own box, slides away."""
    pytest.importorskip("torch")
    from fartrack.models import save_weights
    from small import SMALL, network

    config = SMALL.replace(templates=1)
    save_weights(tmp_path / "m.safetensors", network(config).state_dict(), config)
    tracker = fartrack.Tracker(tmp_path / "m.safetensors", threads=1)
    calls = spied(tracker)
    follow(tracker, frames(4))
    given = [template for _, template, _, _ in calls]
    assert len(given) == 4 and all(np.array_equal(given[0], template) for template in given)


def test_trajectory_models_are_given_the_past(tmp_path):
    pytest.importorskip("torch")
    from fartrack.models import save_weights
    from small import SMALL, network

    config = SMALL.replace(trajectory=3)
    save_weights(tmp_path / "m.safetensors", network(config).state_dict(), config)
    tracker = fartrack.Tracker(tmp_path / "m.safetensors", threads=1)
    calls = spied(tracker)
    boxes = [b for _, b, _ in follow(tracker, frames(5))]
    words = [past[0].reshape(3, 4) for *_, past in calls]
    assert (words[0] == 604).all()  # the call that only embeds the first template: padding
    assert (words[1] == words[1][0]).all()  # one box is known, and fills up
    window = geometry.window_around(boxes[2], 4.0)
    for given, (x, y, w, h) in zip(words[4], boxes[:3], strict=True):
        corners = np.array([x - window.x, y - window.y, x + w - window.x, y + h - window.y]) / window.side
        np.testing.assert_array_equal(given, np.clip(np.rint((corners + 0.5) * 299), 0, 599))


def test_runtime_follows_from_the_file(tiny_model):
    pytest.importorskip("torch")
    assert type(fartrack.Tracker(tiny_model.weights, threads=1).runtime).__name__ == "Torch"
    assert type(fartrack.Tracker(tiny_model.onnx, threads=1).runtime).__name__ == "OnnxRuntime"
    with pytest.raises(fartrack.InputError, match="fartrack export"):
        fartrack.Tracker(tiny_model.weights, "onnxruntime")


def test_no_more_threads_than_the_machine_has(tiny_model):
    """A thousand of them, each waiting actively, would bring the machine to a halt."""
    runtime = fartrack.Tracker(tiny_model.onnx, threads=1000).runtime
    assert runtime.session.get_session_options().intra_op_num_threads == os.cpu_count()


@pytest.mark.parametrize(
    ("model", "options", "error", "says"),
    [
        ("nosuch", {}, FileNotFoundError, "nosuch"),
        ("no/such.onnx", {}, FileNotFoundError, "no/such.onnx"),
        ("text.onnx", {}, fartrack.InputError, "text.onnx is not a whole model"),
        ("text.safetensors", {}, fartrack.InputError, "text.safetensors is not a whole safetensors file"),
        ("text.pth.tar", {}, fartrack.InputError, "fartrack import"),
        ("cut.onnx", {}, fartrack.InputError, "cut.onnx is not a whole model"),
        ("folder.onnx", {}, fartrack.InputError, "not a file"),
        ("good.onnx", {"runtime": "tensorrt"}, fartrack.InputError, "choose one of onnxruntime"),
        ("good.onnx", {"threads": 0}, fartrack.InputError, "threads is 0"),
        ("good.onnx", {"threads": "2"}, fartrack.InputError, "threads is '2': give a whole number"),
        ("good.onnx", {"threads": 1.5}, fartrack.InputError, "threads is 1.5: give a whole number"),
        (None, {}, fartrack.InputError, "model None is no name: choose femto, pico"),
    ],
)
def test_wrong_models(tiny_model, tmp_path, monkeypatch, model, options, error, says):
    monkeypatch.chdir(tmp_path)
    data = tiny_model.onnx.read_bytes()
    for name in ("text.onnx", "text.safetensors", "text.pth.tar"):
        (tmp_path / name).write_text("this is no model")
    (tmp_path / "good.onnx").write_bytes(data)
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(error, match=says) as caught:
        fartrack.Tracker(model, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [fartrack.Tracker, fartrack.MultiTracker])
@pytest.mark.parametrize("way", [shallow, deepcopy, pickle.dumps])
def test_trackers_are_not_copied(tiny_model, kind, way):
    """A copy shared its target with the first one, and each gave the other's boxes."""
    with pytest.raises(TypeError, match="is not copied or pickled: make another one"):
        way(kind(tiny_model.onnx, threads=1))


def test_other_peoples_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("x", 1, [1])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value],
        [onnx.helper.make_tensor_value_info("y", 1, [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(fartrack.InputError, match="not a fartrack model"):
        fartrack.Tracker(tmp_path / "other.onnx")


def test_weights_that_do_not_fit_their_config(tiny_model, tmp_path):
    pytest.importorskip("torch")
    from fartrack.models import load_weights, save_weights

    weights, config = load_weights(tiny_model.weights)
    save_weights(tmp_path / "a.safetensors", {k: v for k, v in weights.items() if k != "norm.bias"}, config)
    save_weights(tmp_path / "b.safetensors", weights, config.replace(bins=200))
    with pytest.raises(fartrack.InputError, match=r"lacks norm\.bias"):
        fartrack.Tracker(tmp_path / "a.safetensors")
    with pytest.raises(fartrack.InputError, match="words has shape"):
        fartrack.Tracker(tmp_path / "b.safetensors")


def test_frames_that_are_not_found_give_no_template(tracker):
    """A hand in front of the target must not become what is looked for."""
    images = frames(9)
    tracker.init(images[0], BOX)
    target, config = tracker.target, tracker.target.config
    for image, lost_below, count in zip(
        images[1:], (0, 0, 1.1, 1.1, 0, 1.1, 0, 0), (1, 2, 2, 2, 3, 3, 4, 5), strict=True
    ):
        target.config = config.replace(withhold=True, lost_below=lost_below)
        found, box, _ = (*tracker.update(image), tracker.score)
        assert found == (lost_below == 0) and target.memory.newest == count and box == target.box
    target.config = config.replace(lost_below=1.1)
    tracker.update(images[0])
    assert target.memory.newest == 6  # the paper's way


def test_a_box_that_is_doubted_is_waited_for(tracker):
    """A target that hardly shows must not drag the box away: it moves only as far as recent scores are trusted."""
    image, another = frames(2)

    def box_after(doubt, trust, patience=1):
        tracker.init(image, BOX)
        config = tracker.target.config.replace(doubt=doubt, trust=trust, patience=patience, margin=0)
        tracker.target.config, tracker.target.scores = config, deque([1.0], maxlen=patience)
        return np.array(tracker.update(another)[1])

    whole, start = box_after(0.0, 0.0), np.array(BOX, float)
    score = tracker.score
    assert score < 0.99999 and np.abs(whole - start).max() > 1
    np.testing.assert_allclose(box_after(0.0, 1e-9), whole)
    np.testing.assert_allclose(box_after(0.0, 1.0), start + score * (whole - start), atol=1e-6)
    np.testing.assert_allclose(box_after(0.99999, 1.0), start)
    np.testing.assert_allclose(box_after(0.99999, 1.0, patience=2), whole)  # the frame before was trusted
    tracker.update(image)
    assert len(tracker.target.scores) == 2 and tracker.score == tracker.target.scores[-1]

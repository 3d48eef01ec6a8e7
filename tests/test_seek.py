"""A target that leaves the view and comes in elsewhere."""

import itertools
import json
import tracemalloc
from importlib.resources import files

import cv2
import numpy as np
import pytest

from fartrack import MultiTracker, Tracker, seek, vocabulary
from fartrack.geometry import Window
from fartrack.runtime import Output
from fartrack.target import Target
from fartrack.video.reader import frames_from_source
from small import BOX, SMALL, frames


@pytest.mark.parametrize(
    ("side", "width", "height"), [(90, 640, 480), (300, 640, 480), (2000, 640, 480), (64, 65, 400)]
)
def test_windows_cover_the_frame(side, width, height):
    windows = list(seek.places((500, 100, 40, 20), side, width, height))
    middles = np.array([(w.x + w.side / 2, w.y + w.side / 2) for w in windows])
    assert {w.side for w in windows} == {side}
    away = np.hypot(*(middles - (520, 110)).T)
    assert (np.diff(away) >= -1).all()
    points = np.random.default_rng(0).uniform((0, 0), (width, height), (200, 2))
    # Wherever it comes in, one window has it where a search region has a target that moves fast.
    assert np.abs(points[:, None] - middles).max(-1).min(1).max() <= side / 2


def test_a_small_target_in_a_large_frame_takes_no_memory():
    """Of 4 pixels in 4K there are 229,401 windows: made at once they took 40 MB, and half a second of one frame."""
    tracemalloc.start()
    try:
        nearest = next(seek.places((2000, 1000, 4, 4), 12, 3840, 2160))
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    assert abs(nearest.x + 6 - 2002) <= 3 and abs(nearest.y + 6 - 1002) <= 3


def test_a_whole_round_takes_no_memory():
    """Of a target that does not come back the windows of all rounds were remembered."""
    image = np.zeros((720, 1280, 3), np.uint8)
    target = Target(SMALL, image, (600, 300, 4, 4), seeks=True)
    target.lost_for = seek.PATIENCE
    every = list(seek.places(target.box, 4 * SMALL.search_factor, 1280, 720))
    assert len(every) > 10_000
    target.elsewhere(image)
    tracemalloc.start()
    try:
        round_ = [target._place, *itertools.islice(target._places, len(every) - 1)]
        assert round_ == every
        del round_
        assert [*itertools.islice(target._places, 3)] == every[:3]
        assert tracemalloc.get_traced_memory()[0] < 0.5e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("score", "lost_below", "jumps"), [(0.9, 0.25, True), (0.75, 0.25, False), (0.9, 0.95, False), (0.99, 0.95, True)]
)
def test_what_is_seen_elsewhere_is_taken_whole_or_not_at_all(score, lost_below, jumps, monkeypatch):
    """With `trust` above its score it came to lie half way, where nothing is."""
    config = SMALL.replace(doubt=0.2, trust=0.95, lost_below=lost_below, trajectory=3)
    monkeypatch.setattr(vocabulary, "score", lambda logits, config, change: logits.mean())
    image = frames(1)[0]
    target = Target(config, image, BOX, explain=True, seeks=True)
    tokens = np.zeros((config.template_tokens, config.memory_width), np.float32)
    target.start(target.first_template(image), tokens)
    target.lost_for = seek.PATIENCE
    target.scores.extend([0.0] * config.patience)

    def output(score):
        corners = np.array([0.375, 0.375, 0.625, 0.625], np.float32)
        return Output(corners, np.full((4, config.words), score), np.ones(config.template_tokens), tokens)

    monkeypatch.setattr(seek, "places", lambda *given: [Window(100, 60, 40)])
    crops = target.elsewhere(image), target.look(image)[0]
    around = target.window
    target.absorb(image, output(0.1), output(score))
    assert target.box == ((115, 75, 10, 10) if jumps else BOX)
    assert (target.found, len(target.past)) == (jumps, 1 if jumps else 2)
    assert target.insight.window == target.window == (Window(100, 60, 40) if jumps else around)
    np.testing.assert_array_equal(target.insight.search, crops[not jumps])
    assert target.lost_for == (0 if jumps else seek.PATIENCE + 1)


@pytest.fixture(scope="module")
def turned_away():
    """The packaged clip, small in a large frame, then nothing of it, then in the other corner; first and last box."""
    demo = files("fartrack") / "demo"
    with frames_from_source(str(demo / "clip.mp4")) as source:
        images = [cv2.resize(frame.image, (192, 144)) for frame, _ in zip(source, range(50), strict=False)]
    scale = 192 / 640
    box = [v * scale for v in json.loads((demo / "clip.json").read_text())["box"]]
    still = cv2.resize(cv2.GaussianBlur(images[0], (0, 0), 12), (640, 480))

    def at(image, x, y):
        frame = still.copy()
        frame[y : y + 144, x : x + 192] = image
        return frame

    there = [at(image, 20, 20) for image in images]
    plain = Tracker("pico", "onnxruntime", threads=1)
    plain.init(there[0], (box[0] + 20, box[1] + 20, *box[2:]))
    x, y, w, h = [plain.update(image)[1] for image in there[1:]][-1]
    elsewhere = [at(image, 420, 310) for image in images[10:]]
    return there[:10] + [still] * 25 + elsewhere, (box[0] + 20, box[1] + 20, *box[2:]), (x + 400, y + 290, w, h)


def overlap(a, b):
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inside = max(0, across) * max(0, down)
    return inside / (a[2] * a[3] + b[2] * b[3] - inside)


def test_what_comes_in_elsewhere_is_found(turned_away):
    images, box, truth = turned_away
    seen = {}
    for seeks in (False, True):
        tracker = Tracker("pico", "onnxruntime", threads=1, seek=seeks)
        tracker.init(images[0], box)
        found = [tracker.update(image)[0] for image in images[1:]]
        assert all(found[:9]) and not any(found[12:33])
        seen[seeks] = found[-1] and overlap(tracker.target.box, truth) > 0.7
    assert seen == {False: False, True: True}


def test_several_targets_as_each_alone(turned_away):
    images, box, _ = turned_away
    other = (box[0] + 10, box[1] + 10, box[2] / 2, box[3] / 2)
    several, alone = MultiTracker("pico", "onnxruntime", threads=1, seek=True), []
    for one in (box, other):
        several.add(images[0], one)
        alone.append(Tracker("pico", "onnxruntime", threads=1, seek=True))
        alone[-1].init(images[0], one)
    for image in images[1:50]:
        together = several.update(image)
        for number, tracker in enumerate(alone, 1):
            np.testing.assert_allclose(together[number][1], tracker.update(image)[1], atol=0.5)


def test_only_what_is_lost_is_looked_for(tiny_model, monkeypatch):
    """Frames with the target in sight cost what they cost without `seek`."""
    tracker = Tracker(tiny_model.onnx, threads=1, seek=True)
    calls, runtime = [], tracker.runtime
    images = frames(20)
    tracker.init(images[0], BOX)

    def counted(*given):
        calls.append(1)
        return runtime(*given)

    tracker.runtime = counted
    monkeypatch.setattr(Target, "found", property(lambda target: len(calls) < 4))
    for image in images[1:]:
        tracker.update(image)
    assert len(calls) == 19 + (19 - 3 - seek.PATIENCE)
    calls.clear()
    tracker.target.move(BOX)  # corrected by hand
    tracker.update(images[0])
    assert len(calls) == 1


def test_a_multitracker_of_one_target_takes_no_batch_of_two(tiny_model, monkeypatch):
    """OpenVINO compiled for several targets once the only one was looked for elsewhere."""
    images = frames(12)
    monkeypatch.setattr(Target, "found", property(lambda target: False))
    several, alone = (kind(tiny_model.onnx, threads=1, seek=True) for kind in (MultiTracker, Tracker))
    sizes, runtime = [], several.runtime

    def counted(search, *rest):
        sizes.append(len(search))
        return runtime(search, *rest)

    several.runtime = counted
    alone.init(images[0], BOX)
    counted.config = several.config
    several.add(images[0], BOX)
    for image in images[1:]:
        (told,) = several.update(image).values()
        assert told == (*alone.update(image), alone.score)
    assert sizes == [1] * (1 + 11 + (11 - seek.PATIENCE))
    several.add(images[0], BOX)
    sizes.clear()
    several.update(images[1])
    assert sizes == [1, 1, 1]  # the new one remembers a whole template
    sizes.clear()
    several.update(images[2])
    assert sizes == [3]


def test_what_is_taken_for_it_now_and_then_does_not_begin_the_search_anew(monkeypatch):
    """In other pictures something is found in every third frame: only the nearest windows were ever looked at."""
    monkeypatch.setattr(vocabulary, "score", lambda logits, config, change: logits.mean())
    image = frames(1)[0]
    target = Target(SMALL, image, BOX, seeks=True)
    tokens = np.zeros((SMALL.template_tokens, SMALL.memory_width), np.float32)
    target.start(target.first_template(image), tokens)

    def search(score, count):
        corners = np.array([0.375, 0.375, 0.625, 0.625], np.float32)
        output = Output(corners, np.full((4, SMALL.words), score), np.ones(SMALL.template_tokens), tokens)
        looked = []
        for _ in range(count):
            target.look(image)
            if target.elsewhere(image) is not None:
                looked.append(target._place)
            target.absorb(image, output, output)
        return looked

    every = list(seek.places(BOX, SMALL.search_factor * (BOX[2] * BOX[3]) ** 0.5, 160, 120))
    assert len(every) >= 6 and search(0, seek.PATIENCE) == []
    assert search(0, 3) == every[:3]
    assert search(0.6, 1) == [every[3]] and search(0, seek.PATIENCE) == []
    assert search(0, 2) == every[4:6]
    search(0.95, 1)
    assert search(0, seek.PATIENCE) == []
    assert search(0, 1)[0] == next(seek.places(target.box, target.config.search_factor * 22, 160, 120))

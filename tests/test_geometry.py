"""Boxes and windows."""

import math

import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.geometry import Window, change_of_shape, check_box, clip, from_window, iou, window_around


@pytest.mark.parametrize(
    ("box", "factor", "window"),
    [
        ((100, 50, 20, 20), 4.0, (70, 20, 80)),
        ((100, 50, 40, 10), 2.0, (100, 35, 40)),  # the area counts, not the longer side
        ((100, 50, 21, 20), 2.0, (90, 40, 41)),  # ceil(40.99) px around y = 60: 39.5 goes to the even pixel
        ((0, 0, 0.1, 0.1), 2.0, (0, 0, 1)),  # never empty
    ],
)
def test_window_around(box, factor, window):
    assert window_around(box, factor) == window


def test_window_holds_the_target_in_its_middle():
    rng = np.random.default_rng(0)
    for x, y, w, h in rng.uniform((-50, -50, 1, 1), (500, 500, 200, 200), (200, 4)):
        window = window_around((x, y, w, h), 4.0)
        assert window.side == math.ceil(4 * math.sqrt(w * h))
        assert abs(window.x + window.side / 2 - x - w / 2) <= 0.5
        assert abs(window.y + window.side / 2 - y - h / 2) <= 0.5


def test_from_window_is_exact():
    window = Window(10, -20, 50)
    assert from_window((0, 0, 1, 1), window) == (10, -20, 50, 50)
    assert from_window((0.5, 0.25, 0.75, 0.5), window) == (35, -7.5, 12.5, 12.5)


def test_from_window_can_undo_the_rounding():
    box = (10.3, 20.4, 31, 17)
    window = window_around(box, 4.0)
    half_w, half_h = box[2] / window.side / 2, box[3] / window.side / 2
    middle = (0.5 - half_w, 0.5 - half_h, 0.5 + half_w, 0.5 + half_h)
    np.testing.assert_allclose(from_window(middle, window, box), box)
    assert not np.allclose(from_window(middle, window), box, atol=0.05)


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        ((30, 40, 20, 20), (30, 40, 20, 20)),  # inside: untouched
        ((-30, 40, 50, 20), (0, 40, 20, 20)),  # cut at the left
        ((90, 40, 50, 20), (90, 40, 10, 20)),  # cut at the right
        ((400, -300, 50, 20), (90, 0, 10, 10)),  # far outside: 10 px stay at the nearest corner
        ((30, 40, 3, -5), (30, 40, 10, 10)),  # too small or turned inside out
    ],
)
def test_clip(box, clipped):
    given = clip(box, 100, 80, 10)
    assert given == clipped
    assert {type(v) for v in given} == {float}  # also of frames under the margin, whose sides are whole numbers


def test_clip_keeps_ten_pixels_inside_whatever_comes():
    rng = np.random.default_rng(1)
    for box in rng.uniform(-1000, 1000, (500, 4)):
        x, y, w, h = clip(box, 120, 60, 10)
        assert 0 <= x <= 110 and 0 <= y <= 50
        assert 10 <= w <= 120 and 10 <= h <= 60  # crops of a box that outgrew the frame would outgrow the memory
        assert min(x + w, 120) - x >= 10 and min(y + h, 60) - y >= 10


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1),
        ((0, 0, 10, 10), (5, 0, 10, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 10, 10), 0),  # they touch
        ((0, 0, 0, 0), (0, 0, 0, 0), 0),  # nothing at all
    ],
)
def test_iou(a, b, value):
    assert iou(a, b) == pytest.approx(value)
    assert iou([a, b], b).shape == (2,)


@pytest.mark.parametrize(
    "box",
    [
        (1, 2, 3, 4),
        [1.0, 2.0, 3.0, 4.0],
        np.array([1, 2, 3, 4]),
        (-2, -2, 3, 3),
        (-50, -50, 200, 200),  # larger than the frame, as of a target right before the camera
        (-500, 50, 1200, 8),
        (50, 40, 0.5, 0.5),  # tiny, but not in parts of the frame
    ],
)
def test_boxes_that_pass(box):
    assert all(type(v) is float for v in check_box(box, 100, 100))


@pytest.mark.parametrize(
    ("box", "says"),
    [
        (None, "not four numbers"),
        ("1234", "not four numbers"),
        ((1, 2, 3), "not four numbers"),
        ((1, 2, 3, 4, 5), "not four numbers"),
        (("a", 2, 3, 4), "not four numbers"),
        ((1, 2, math.nan, 4), "not a finite number"),
        ((1, 2, math.inf, 4), "not a finite number"),
        ((1, 2, 0, 4), "no area"),
        ((1, 2, 3, -4), "no area"),
        ((100, 2, 3, 4), "outside the 100 x 80 frame"),
        ((1, -4, 3, 4), "outside the 100 x 80 frame"),
        ((1, 2, 3, 10**400), "not four numbers"),
        ({10, 20, 30, 40}, "not four numbers"),  # its order is lost
        (dict.fromkeys((10, 20, 30, 40)), "not four numbers"),
        (dict.fromkeys((10, 20, 30, 40)).keys(), "not four numbers"),
        (b"1234", "not four numbers"),
        (np.zeros((4, 2)), "not four numbers"),
        ((0.1, 0.2, 0.5, 0.5), "in pixels, not in parts of the frame"),
        ((0, 0, 1, 1), "in pixels, not in parts of the frame"),
    ],
)
def test_boxes_that_are_refused(box, says):
    with pytest.raises(InputError, match=says) as caught:
        check_box(box, 100, 80)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "box",
    [
        (-20000, -20000, 40000, 40000),
        (-1000000, -1000000, 2000000, 2000000),
        (0, 0, 1e308, 1e308),
        (0, 0, 1e308, 1e-308),
        (-60, -60, 201, 160),
    ],
)
def test_boxes_that_would_take_all_memory_are_refused(box):
    """A crop is padded to a multiple of its box: 14 GB of it killed the run of who mistook the units."""
    with pytest.raises(InputError, match="far larger than the 100 x 80 frame: give x, y, w, h of the object") as caught:
        check_box(box, 100, 80)
    assert str(caught.value).startswith(f"box {box[0]:g},{box[1]:g},{box[2]:g},{box[3]:g} is")


@pytest.mark.parametrize(
    ("box", "change"),
    [
        ((70, 5, 20, 10), 0),
        ((0, 0, 40, 10), math.log(2)),
        ((0, 0, 22, 5), math.log(2)),  # the further of the two
        ((0, 0, 5, 40), math.log(4)),
        ((0, 0, 20, 0), math.log(10 / 1e-3)),  # no area: far, and no error
    ],
)
def test_change_of_shape(box, change):
    """Where a box lies does not count, and one frame that was off does not either."""
    assert change_of_shape(box, [(20, 10), (19, 9), (21, 11), (300, 2), (20, 10)]) == pytest.approx(change)

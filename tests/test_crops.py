"""Crops, byte for byte as the released tracker cuts them."""

import cv2
import numpy as np
import pytest

from fartrack import crops
from fartrack.errors import InputError
from fartrack.geometry import Window, window_around
from parity import reference


@pytest.mark.parametrize("model", ["tiny", "pico"])
@pytest.mark.parametrize("number", range(4))
def test_crops_of_the_release(model, number):
    arrays = np.load(reference.HERE / f"seed0_{model}.npz")
    *box, factor, size, scale = arrays[f"crop{number}_args"]
    window = window_around(box, factor)
    cut = crops.cut(reference.frame(3, 0), window, int(size))
    np.testing.assert_array_equal(cut, arrays[f"crop{number}"])
    assert int(size) / window.side == scale


def test_crops_at_every_edge():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (90, 130, 3), np.uint8)
    for x, y, w, h in rng.uniform((-8, -8, 10, 10), (120, 80, 60, 60), (150, 4)):
        for factor, size in ((2.0, 112), (4.0, 224)):
            expected, _ = reference.crop(frame, (x, y, w, h), factor, size)
            np.testing.assert_array_equal(crops.cut(frame, window_around((x, y, w, h), factor), size), expected)


@pytest.mark.parametrize("x, y, side", [(-700, -400, 2600), (-3, 20, 1550), (900, 500, 1700), (-2500, 30, 2503)])
def test_large_windows_are_like_any_other(x, y, side, monkeypatch):
    """A target that fills a large frame: its window is not made whole, which took a quarter of a second in 4K."""
    noise = np.random.default_rng(0).integers(0, 256, (900, 1600, 3), np.uint8)
    cut = crops.cut(noise, Window(x, y, side), 192).astype(int)
    monkeypatch.setattr(crops, "WHOLE", 10_000)
    whole = crops.cut(noise, Window(x, y, side), 192)
    assert np.abs(cut - whole).max() < 10 and np.abs(cut - whole).mean() < 1
    assert ((cut == 0) == (whole == 0)).mean() > 0.998


def test_last_row_and_column_count_as_outside():
    white = np.full((64, 64, 3), 255, np.uint8)
    whole = crops.cut(white, Window(0, 0, 64), 64)
    assert whole[:-1, :-1].min() == 255 and not whole[-1].any() and not whole[:, -1].any()


@pytest.mark.parametrize("window", [(-200, 10, 50), (10, 500, 50), (64, 0, 8), (-50, 0, 50)])
def test_outside_the_frame_is_black(window):
    assert not crops.cut(np.full((64, 64, 3), 255, np.uint8), Window(*window), 32).any()


def test_dark_crops_come_near_to_daylight_and_others_stay():
    """A dark room whose light is switched on loses the target otherwise."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    means = [crops.lighten(cv2.convertScaleAbs(noise, alpha=share), 50).mean() for share in np.linspace(0.4, 0.15)]
    assert min(means) > 49 and 85 < max(means) < 100
    assert np.abs(np.diff(means)).max() < 3  # or a target that is half in the dark would flicker
    assert crops.lighten(noise, 50) is noise
    assert crops.lighten(noise // 8, 0).sum() == (noise // 8).sum()
    faint = np.full((8, 8, 3), 2, np.uint8)
    assert (crops.lighten(faint, 50) == 2 * crops.BRIGHTEST).all()
    black = np.zeros((8, 8, 3), np.uint8)
    assert not crops.lighten(black, 50).any()


def test_what_is_outside_the_frame_does_not_count_as_dark():
    frame = np.full((64, 64, 3), 60, np.uint8)
    cut = crops.cut(frame, Window(-40, -40, 64), 32)
    assert (crops.lighten(cut, 50) == cut).all() and cut.max() == 60


def test_frames_are_never_written_to():
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    frame.setflags(write=False)
    before = frame.copy()
    for window in (Window(5, 5, 32), Window(-10, -10, 100)):
        cut = crops.cut(frame, window, 32)
        cut[:] = 0  # also not through the crop, when it needed no resizing
    np.testing.assert_array_equal(frame, before)


def test_views_are_frames_too():
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    for view in (frame[::-1], frame[:, ::-1], frame[..., ::-1], frame[::2, 1::2]):
        for window in (Window(5, 5, 20), Window(-5, -5, 50)):
            np.testing.assert_array_equal(crops.cut(view, window, 24), crops.cut(view.copy(), window, 24))


def test_gray_and_bgra_become_bgr():
    bgr = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert crops.as_bgr(bgr) is bgr
    np.testing.assert_array_equal(crops.as_bgr(cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA)), bgr)
    for gray in (bgr[..., 0], bgr[..., :1]):
        three = crops.as_bgr(gray)
        assert three.shape == (20, 30, 3) and (three == bgr[..., :1]).all()


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (None, "NoneType"),
        ([[1, 2], [3, 4]], "list"),
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((4,), np.uint8), "shape"),
        (np.zeros((2, 4, 4, 3), np.uint8), "shape"),
    ],
)
def test_other_things_are_refused(frame, says):
    with pytest.raises(InputError, match=says):
        crops.as_bgr(frame)


def test_a_template_shows_what_of_it_is_the_target():
    """Inside its box a template is as the frame is, outside it is tinted, and an edge between pixels is in between."""
    gray = np.full((100, 100, 3), 100, np.uint8)
    tinted = crops.tint_outside(gray, Window(10, 20, 50), (20.25, 30, 20, 10), 0.4)
    outside = [162, 60, 162]  # 0.6 * 100 + 0.4 * 255 or 0
    assert (tinted[20:40, 21:60] == 100).all()
    for column in (slice(0, 20), slice(61, 100)):
        assert (tinted[:, column] == outside).all()
    assert (tinted[:20] == outside).all() and (tinted[40:] == outside).all()
    assert np.abs(tinted[30, 20] - np.array([131, 80, 131])).max() <= 1  # half of this pixel is the target's
    assert (gray == 100).all()
    assert crops.tint_outside(gray, Window(10, 20, 50), (20, 30, 20, 10), 0.0) is gray

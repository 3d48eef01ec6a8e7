"""Boxes, labels and strips."""

import cv2
import numpy as np
import pytest

from fartrack.video.draw import FOUND, LOST, Filmstrip, draw_result
from videos import picture


def has(image, colour):
    return bool((image == np.array(colour, np.uint8)).all(axis=-1).any())


def test_the_frame_is_not_changed():
    image = picture(0, 320, 240)
    before = image.copy()
    drawn = draw_result(image, (100, 80, 60, 70), 0.9, 12)
    assert np.array_equal(image, before)
    assert drawn.shape == image.shape
    assert not np.array_equal(drawn, before)


@pytest.mark.parametrize("way", [cv2.COLOR_GRAY2BGRA, None], ids=["BGRA", "gray"])
def test_frames_that_a_tracker_takes_are_drawn_on_alike(way):
    """On gray ones there was no colour, on BGRA a box without opacity, and a strip was of other channels or none."""
    gray = picture(0, 320, 240)[..., 0].copy()
    given, bgr = gray if way is None else cv2.cvtColor(gray, way), cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
    for draw in (draw_result, lambda *drawn: (strip := Filmstrip()).add(*drawn) or strip.image()):
        drawn, expected = (draw(image, (100, 80, 60, 70), 0.9, 12) for image in (given, bgr))
        assert np.array_equal(drawn, expected)


def test_the_box_is_where_it_says():
    drawn = draw_result(np.full((240, 320, 3), 128, np.uint8), (100, 80, 60, 70), 0.9, 12)
    for x, y in ((130, 80), (130, 150), (100, 115), (160, 115)):
        assert tuple(drawn[y, x]) == FOUND
    assert tuple(drawn[115, 130]) == (128, 128, 128)


def test_lost_looks_different():
    image = np.full((240, 320, 3), 128, np.uint8)
    found, lost = (draw_result(image, (100, 80, 60, 70), 0.1, 12, found) for found in (True, False))
    assert has(found, FOUND)
    assert not has(found, LOST)
    assert has(lost, LOST)
    assert not has(lost, FOUND)
    whole, dashed = ((frame[115:120, 95:165] != 128).any(axis=-1).sum() for frame in (found, lost))
    assert (lost[85:145, 100] == 128).all(axis=-1).any()  # gaps
    assert dashed <= whole


@pytest.mark.parametrize(("width", "height"), [(24, 16), (64, 48), (320, 240), (3840, 2160), (100, 1000)])
@pytest.mark.parametrize(
    "box", [(0, 0, 10, 10), (-50, -50, 60, 60), (5, 2, 1e9, 1e9), (1e6, 1e6, 5, 5), (3, 3, 0.2, 0)]
)
def test_any_size_and_any_box(width, height, box):
    drawn = draw_result(np.zeros((height, width, 3), np.uint8), box, 1.0, 1_234_567, False)
    assert drawn.any()


def test_box_that_is_no_number():
    drawn = draw_result(picture(0), (np.nan, 0, 1, 1), 0.0, 0)
    assert drawn.shape == picture(0).shape and (drawn != picture(0)).any()  # the score is written all the same


def test_letters_grow_with_the_frame():
    def ink(width, height):
        drawn = draw_result(np.full((height, width, 3), 128, np.uint8), (width / 2, height / 2, 9, 9), 0.5, 7)
        return (drawn[: height // 4] != 128).any(axis=-1).any(axis=1).sum() / height

    assert ink(640, 480) == pytest.approx(ink(2560, 1920), abs=0.02)


def test_filmstrip_is_even_and_bounded():
    strip = Filmstrip(count=8, cell_height=40)
    for i in range(1000):
        strip.add(picture(i), (8.0 + i, 20, 24, 24), 0.5, i, True)
        assert len(strip._kept) <= 32
    chosen = []
    strip._tile = lambda cell: chosen.append(cell.frame) or np.zeros((10, 10, 3), np.uint8)
    strip.image()
    assert len(chosen) == 8
    assert (chosen[0], chosen[-1]) == (0, 999)
    assert np.abs(np.diff(chosen) - 999 / 7).max() < 40


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8, 9, 17, 40])
def test_filmstrip_of_short_videos(frames):
    strip = Filmstrip()
    for i in range(frames):
        strip.add(picture(i), (8.0 + i, 20, 24, 24), 0.5, i, i % 2 == 0)
    image = strip.image()
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert has(image, FOUND)
    assert image.shape[1] < 2000


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1080, 1920), (4000, 100), (16, 900)])
def test_filmstrip_of_any_shape(width, height):
    strip = Filmstrip()
    for i in range(20):
        strip.add(np.zeros((height, width, 3), np.uint8), (0, 0, 9, 9), 1.0, i)
    assert 64 <= strip.image().shape[1] < 2100


def test_filmstrip_of_nothing():
    with pytest.raises(ValueError, match="at least one"):
        Filmstrip().image()

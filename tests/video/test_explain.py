"""The panel beside the frame: that what it shows is where it should be."""

from dataclasses import replace

import numpy as np
import pytest

from fartrack.geometry import Window
from fartrack.insight import Insight, TemplateView
from fartrack.video.draw import FOUND, INK, LOST
from fartrack.video.explain import (
    BAND,
    BAND_GAP,
    CROP_SIDE,
    CROP_TOP,
    EDGES,
    HIGH,
    MARGIN,
    PLOT_HIGH,
    PLOT_TOP,
    TEMPLATE_GAP,
    TEMPLATE_SIDE,
    TEMPLATE_TOP,
    WIDE,
    Explainer,
    without_tokens,
)
from videos import picture

BOX = (100.0, 80.0, 60.0, 70.0)
CORNERS = (0.3, 0.4, 0.6, 0.75)


def insight(templates=5, kept=37, spread=0.01, newest=20):
    """Blue templates (RGB) of which the first tokens stay, a gray search crop, bells around the corners."""
    words = np.linspace(-0.5, 1.5, 600)
    bells = np.exp(-0.5 * ((words - np.array(CORNERS)[:, None]) / spread) ** 2)
    blue = np.zeros((112, 112, 3), np.uint8)
    blue[..., 2] = 255
    numbers = np.linspace(0, newest, templates).astype(int)
    views = [TemplateView(int(n), blue, np.arange(kept)) for n in numbers[:-1]]
    return Insight(
        frame=newest + 1,
        templates=(*views, TemplateView(newest, blue, None)),
        settled=np.arange(kept),
        saliency=np.linspace(1, 0, 49).astype(np.float32),
        window=Window(70, 50, 120),
        search=np.full((224, 224, 3), 128, np.uint8),
        corners=CORNERS,
        distributions=(bells / bells.sum(-1, keepdims=True)).astype(np.float32),
        low=-0.5,
        high=1.5,
        tokens=397,
        dense=445,
        lost_below=0.25,
    )


def drawn(seen, width=640, height=720, score=0.9, found=True, frame=21):
    """A picture and its panel; at this height a unit is a pixel."""
    explainer = Explainer(width, height)
    image = np.full((height, width, 3), 200, np.uint8)
    canvas = explainer.draw(image, BOX, score, frame, found, seen)
    return canvas, canvas[:, explainer.frame_size[0] :]


def is_blue(pixel):
    return pixel[0] > 180 and pixel[1] < 60 and pixel[2] < 60


def test_pruned_tokens_are_gray_and_the_others_as_they_were():
    template = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    shown = without_tokens(template, np.array([0, 8, 48]), 49)
    for token in range(49):
        row, column = divmod(token, 7)
        part = np.s_[16 * row + 1 : 16 * row + 16, 16 * column + 1 : 16 * column + 16]  # without the grid's lines
        if token in (0, 8, 48):
            assert np.array_equal(shown[part], template[part])
        else:
            assert (np.ptp(shown[part].astype(int), axis=-1) == 0).all()
    assert np.array_equal(without_tokens(template, None, 49)[1:16, 1:16], template[1:16, 1:16])


def test_templates_stand_in_a_row():
    _, panel = drawn(insight())
    step = TEMPLATE_SIDE + TEMPLATE_GAP
    for slot in range(5):
        left = MARGIN + slot * step
        first, last = panel[TEMPLATE_TOP + 6, left + 6], panel[TEMPLATE_TOP + 86, left + 86]
        assert is_blue(first)
        assert not is_blue(last)
        assert np.ptp(last.astype(int)) == 0
    newest, older = (panel[TEMPLATE_TOP + 86, MARGIN + slot * step + 86].mean() for slot in (4, 3))
    assert newest > older  # what goes is still there, and what went is dark
    assert tuple(panel[TEMPLATE_TOP - 1, MARGIN + 4 * step + 40]) == INK


def test_distributions_stand_where_the_coordinates_are():
    """Both the bell and the line of the decoded coordinate, which need not agree."""
    decoded = tuple(c + 0.1 for c in CORNERS)
    _, panel = drawn(replace(insight(), corners=decoded))
    above = panel[CROP_TOP - BAND_GAP - BAND : CROP_TOP - BAND_GAP, MARGIN : MARGIN + CROP_SIDE]
    left = MARGIN + CROP_SIDE + BAND_GAP
    beside = panel[CROP_TOP : CROP_TOP + CROP_SIDE, left : left + BAND].transpose(1, 0, 2)[::-1]
    for axis, (_, colour) in enumerate(EDGES):
        tips = (above if axis % 2 == 0 else beside)[:14]
        there = np.flatnonzero((np.abs(tips.astype(int) - colour).max(-1) < 60).any(0)) / CROP_SIDE
        assert np.abs(there - CORNERS[axis]).min() < 0.01
        assert np.abs(there - decoded[axis]).min() < 0.01
        assert all(min(abs(x - CORNERS[axis]), abs(x - decoded[axis])) < 0.03 for x in there)


def test_box_in_the_crop():
    _, panel = drawn(insight())
    crop = panel[CROP_TOP : CROP_TOP + CROP_SIDE, MARGIN : MARGIN + CROP_SIDE]
    x0, y0, x1, y1 = (round(c * CROP_SIDE) for c in CORNERS)
    spots = (((y0 + y1) // 2, x0), (y0, (x0 + x1) // 2), ((y0 + y1) // 2, x1), (y1, (x0 + x1) // 2))
    for (_, colour), (y, x) in zip(EDGES, spots, strict=True):
        assert np.abs(crop[y, x].astype(int) - colour).max() < 8
    assert tuple(crop[10, 10]) == (128, 128, 128)


def test_unsure_looks_lower():
    def height(spread):
        _, panel = drawn(insight(spread=spread))
        above = panel[CROP_TOP - BAND_GAP - BAND + 1 : CROP_TOP - BAND_GAP - 1, MARGIN : MARGIN + CROP_SIDE]
        return (np.abs(above.astype(int) - EDGES[0][1]).max(-1) < 8).any(1).sum()

    assert insight(spread=0.1).distributions.max() < 0.02
    assert height(0.1) <= height(0.01)


def test_outside_the_search_window_it_is_dark():
    canvas, _ = drawn(insight())
    assert tuple(canvas[60, 80]) == (200, 200, 200)
    assert tuple(canvas[300, 300]) == (90, 90, 90)
    assert tuple(drawn(None)[0][300, 300]) == (200, 200, 200)


def test_score_over_time():
    explainer = Explainer(640, 720, history=120)
    for frame in range(149):
        explainer.scores.append((frame, 0.8 if frame < 100 else 0.1, frame < 100))
    canvas = explainer.draw(np.zeros((720, 640, 3), np.uint8), BOX, 0.1, 149, False, None)
    assert len(explainer.scores) == 120
    plot = canvas[PLOT_TOP : PLOT_TOP + PLOT_HIGH, 640 + MARGIN : 640 + WIDE - MARGIN].astype(int)
    found, lost = (np.flatnonzero((np.abs(plot - colour).max(-1) < 30).any(1)) for colour in (FOUND, LOST))
    assert found.mean() == pytest.approx(0.2 * PLOT_HIGH, abs=8)
    assert lost.max() == pytest.approx(0.9 * PLOT_HIGH, abs=8)


@pytest.mark.parametrize(
    ("width", "height"), [(24, 16), (641, 361), (1920, 1080), (1080, 1920), (3840, 2160), (4000, 100), (100, 3000)]
)
@pytest.mark.parametrize("seen", [None, insight()])
def test_any_frame_can_be_explained(width, height, seen):
    explainer = Explainer(width, height)
    image = np.full((height, width, 3), 200, np.uint8)
    before = image.copy()
    canvas = explainer.draw(image, (-50.0, 3.0, 2.0 * width, 5.0), 0.4, 1_234_567, False, seen)
    assert np.array_equal(image, before)
    assert canvas.shape == (explainer.size[1], explainer.size[0], 3)
    assert canvas.dtype == np.uint8
    assert explainer.size[0] % 2 == explainer.size[1] % 2 == 0
    assert 540 <= explainer.size[1] <= 1080
    assert explainer.size[0] <= 1920 + 1080 * WIDE / HIGH + 2


@pytest.mark.parametrize("shape", [(720, 640), (720, 640, 4)], ids=["gray", "BGRA"])
def test_frames_that_a_tracker_takes_are_explained_alike(shape):
    drawn_on = Explainer(640, 720).draw(np.full(shape, 200, np.uint8), BOX, 0.9, 21, True, insight())
    assert np.array_equal(drawn_on, drawn(insight())[0])


@pytest.mark.parametrize("templates", [1, 2, 9])
def test_other_numbers_of_templates(templates):
    assert drawn(insight(templates))[1].any()


def test_corners_outside_the_crop():
    assert drawn(replace(insight(), corners=(-0.4, -0.4, 1.4, 1.4)), score=0.0, found=False)[1].any()


def test_real_pictures(tiny_model):
    """Through a tracker, from the first frame on."""
    from fartrack import Tracker

    tracker = Tracker(tiny_model.onnx, threads=1, explain=True)
    tracker.init(picture(0), (8, 20, 24, 24))
    explainer = Explainer(96, 64)
    for i in range(1, 4):
        found, box = tracker.update(picture(i))
        canvas = explainer.draw(picture(i), box, tracker.score, i, found, tracker.insight)
    assert canvas.shape == (540, explainer.size[0], 3)

"""Results for supervision."""

import numpy as np
import pytest

from fartrack import InputError, Result, to_supervision
from template_tracker import TemplateTracker

supervision = pytest.importorskip("supervision")
IMAGE = np.zeros((60, 80, 3), np.uint8)


def test_result():
    detections = to_supervision(Result(3, (10.0, 20.0, 30.0, 15.0), 0.75, True, IMAGE, 0.1), tracker_id=5, class_id=2)
    assert detections.xyxy.tolist() == [[10, 20, 40, 35]]
    assert detections.confidence.tolist() == [0.75]
    assert detections.tracker_id.tolist() == [5]
    assert detections.class_id.tolist() == [2]
    drawn = supervision.BoxAnnotator().annotate(IMAGE.copy(), detections)
    assert drawn[20, 20].any() and not drawn[50, 70].any()


def test_a_lost_target_is_not_drawn():
    detections = to_supervision(Result(3, (10.0, 20.0, 30.0, 15.0), 0.1, False, IMAGE, 0.1))
    assert len(detections) == 0
    assert not supervision.BoxAnnotator().annotate(IMAGE.copy(), detections).any()
    supervision.LabelAnnotator().annotate(IMAGE.copy(), detections, [])


def test_several_targets():
    targets = {4: (True, (1, 2, 3, 4), 0.5), 7: (False, (0, 0, 1, 1), 0.1), 9: (True, (5, 6, 7, 8), 0.25)}
    detections = to_supervision(targets)
    assert detections.xyxy.tolist() == [[1, 2, 4, 6], [5, 6, 12, 14]]
    assert detections.tracker_id.tolist() == [4, 9]
    assert detections.confidence.tolist() == [0.5, 0.25]


def test_what_track_all_yields():
    """Whoever draws several targets loses no number to one that is out of sight: 1, 2, ... are those of the boxes."""
    results = tuple(
        Result(3, (x, 20.0, 30.0, 15.0), score, score > 0.5, IMAGE, 0.1)
        for x, score in ((10.0, 0.75), (0.0, 0.25), (40.0, 1.0))
    )
    detections = to_supervision(results, class_id=2)
    assert detections.xyxy.tolist() == [[10, 20, 40, 35], [40, 20, 70, 35]]
    assert detections.tracker_id.tolist() == [1, 3]
    assert detections.confidence.tolist() == [0.75, 1.0]
    assert detections.class_id.tolist() == [2, 2]


def test_with_supervisions_own_tools():
    """Trace and detections from several frames go together."""
    trace = supervision.TraceAnnotator()
    scene = IMAGE.copy()
    for i in range(5):
        scene = trace.annotate(scene, to_supervision(Result(i, (10 + 5 * i, 20, 8, 8), 0.9, True, IMAGE, i / 25)))
    assert scene.any()


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (TemplateTracker(), "TemplateTracker"),
        ((True, (1, 2, 3, 4)), "tuple"),
        ((one for one in ()), "generator"),
        (None, "NoneType"),
        ({1: Result(3, (1, 2, 3, 4), 1.0, True, IMAGE, 0.1)}, "dict"),
    ],
    ids=["tracker", "what update returns", "what track returns", "nothing", "results by number"],
)
def test_what_is_no_result(given, kind):
    with pytest.raises(InputError, match=f"to_supervision: a {kind} is no result: give what `track` or `track_all`"):
        to_supervision(given)

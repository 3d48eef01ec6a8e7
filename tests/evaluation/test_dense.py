"""The released layout as a tracker."""

import numpy as np
import pytest
import torch

from fartrack import export, graph
from fartrack.config import RELEASE, ModelConfig
from fartrack.evaluation.dense import DenseTracker
from fartrack.network import FARTrack
from fartrack.tracker import Tracker
from template_tracker import moving_square

TINY = ModelConfig(name="tiny", depth=2, width=48, heads=3, template_size=48, search_size=96, bins=40)


@pytest.mark.parametrize("attention", ["explicit", "fused"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"keep": 0.5},
        {"template_tint": 0.4},
        {"withhold": True, "lost_below": 0.26576},
        {"doubt": 0.1, "trust": 0.9, "score_shape": -1.0},
        RELEASE,
    ],
    ids=["paper", "half", "tinted", "withheld", "doubted", "release"],
)
def test_dense_reference_gives_the_boxes_of_the_tracker(changes, attention, tmp_path):
    """Masking tokens and removing them is the same, so only the time may differ."""
    torch.manual_seed(1)
    config = TINY.replace(**changes)
    net = FARTrack(config).eval()
    (tmp_path / "net.onnx").write_bytes(graph.build(export.state_of(net), config).SerializeToString())
    frames, boxes = moving_square(14)
    ours, dense = Tracker(tmp_path / "net.onnx", threads=1), DenseTracker(net, attention)
    ours.init(frames[0], boxes[0])
    dense.init(frames[0], boxes[0])
    for frame in frames[1:]:
        np.testing.assert_allclose(dense.update(frame)[1], ours.update(frame)[1], atol=1e-2)

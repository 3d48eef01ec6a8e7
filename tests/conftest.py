"""Fixtures that every room of the tests may use."""

from __future__ import annotations

import pytest

from small import SMALL, SmallModel, call, network


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A very small model with random weights, as safetensors and as ONNX; made once per session."""
    torch = pytest.importorskip("torch")
    from fartrack.export import export
    from fartrack.models import save_weights

    torch.set_num_threads(1)  # the networks are too small to share
    folder = tmp_path_factory.mktemp("tiny_model")
    net = network(SMALL)
    model = SmallModel(SMALL, folder / "small.safetensors", folder / "small.onnx")
    save_weights(model.weights, net.state_dict(), SMALL)
    export(net, model.onnx, "fp32", inputs=[call(SMALL), call(SMALL, tokens=SMALL.template_tokens)])
    return model

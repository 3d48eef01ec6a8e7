"""Fixtures that every room of the tests may use."""

from __future__ import annotations

import os
import random
import sys

# The networks are too small to share, and PyTorch's threads wait for one another when the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from small import SMALL, SmallModel, call, network
from toolkits.environments import Environment


@pytest.fixture(autouse=True)
def chance():
    """Every test draws the same numbers, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A very small model with random weights, as safetensors and as ONNX; made once per session."""
    pytest.importorskip("torch")
    from fartrack.export import export
    from fartrack.models import save_weights

    folder = tmp_path_factory.mktemp("tiny_model")
    net = network(SMALL)
    model = SmallModel(SMALL, folder / "small.safetensors", folder / "small.onnx")
    save_weights(model.weights, net.state_dict(), SMALL)
    export(net, model.onnx, "fp32", inputs=[call(SMALL), call(SMALL, tokens=SMALL.template_tokens)])
    return model


@pytest.fixture
def environment():
    """`environment("vot")`: an environment of its own, or skip."""

    def get(name):
        found = Environment(name)
        if not found.python.exists():
            pytest.skip(f"no environment for {name}; make test-toolkits builds it")
        return found

    return get

"""The floor of a network's time."""

import pytest

from fartrack.config import ModelConfig
from fartrack.evaluation.floor import floor_of

TINY = ModelConfig(name="tiny", depth=2, width=48, heads=3, template_size=48, search_size=96, bins=40)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int8-bf16"])
def test_floor_runs_the_products(precision):
    floor = floor_of(TINY, precision, 1)
    assert set(floor.runs) == ({"torch", "onnxruntime"} if precision == "fp32" else {"torch"})
    for run in floor.runs.values():
        run()

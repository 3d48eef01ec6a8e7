"""How much work a frame is."""

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from fartrack import export, graph
from fartrack.config import PRESETS, ModelConfig
from fartrack.evaluation.contestants import Contestant
from fartrack.evaluation.counting import cycle, dense_products, macs, parameters, products, runtime_products
from fartrack.network import FARTrack
from template_tracker import TemplateTracker

TINY = ModelConfig(name="tiny", depth=2, width=48, heads=3, template_size=48, search_size=96, bins=40)


@pytest.mark.parametrize("config", [PRESETS["pico"].replace(depth=1), TINY, TINY.replace(trajectory=3)])
def test_parameters_are_the_networks(config):
    assert parameters(config) == sum(p.numel() for p in FARTrack(config).parameters())


def test_work_of_pico_by_hand():
    pico = PRESETS["pico"].replace(search_size=224)
    # 445 tokens: 12 d^2 of linear layers and 2 n d of attention a token, six layers; 441 patches; four command words.
    by_hand = 6 * 445 * (12 * 192**2 + 2 * 445 * 192) + 441 * 768 * 192 + 4 * 192 * 605
    assert macs(dense_products(pico)) == by_hand
    assert macs(products(pico)) < 0.75 * by_hand


def test_work_is_that_of_the_paper():
    """4.16 G for fifteen layers, 1.70 G for six."""
    assert macs(dense_products(ModelConfig(depth=15))) == pytest.approx(4.16e9, rel=0.01)
    assert macs(dense_products(ModelConfig(depth=6))) == pytest.approx(1.70e9, rel=0.01)


def test_work_is_the_mean_of_frames_with_and_without_a_new_template():
    pico = PRESETS["pico"].replace(update_interval=2)
    new, between = products(pico), products(pico, new=False)
    assert macs(cycle(pico)) == macs(new) + macs(between)
    # A quarter of the tokens that go through the layers, and nobody asks what is salient.
    assert 0.7 < macs(between) / macs(new) < 0.78
    one = Contestant("a", TemplateTracker(), config=pico)
    assert one.cycle == 2 and one.work == cycle(pico)
    assert all(p.m and p.n for p in between)


def ran(config, new, batch):
    """Multiply-accumulates of the products that ONNX Runtime meets in the graph, with weights that are folded."""
    model = graph.build(export.state_of(FARTrack(config)), config)
    multiply = [node for node in model.graph.node if node.op_type == "MatMul"]
    shapes = {array.name: tuple(array.dims) for array in model.graph.initializer}
    wanted = sorted({name for node in multiply for name in node.input} - shapes.keys())
    model.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in wanted)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    c, side = config, config.template_size
    given = {
        "search": np.zeros((batch, c.search_size, c.search_size, 3), np.uint8),
        "template": np.zeros((batch, side if new else 0, side, 3), np.uint8),
        "memory": np.zeros((batch, c.templates - new, c.kept_tokens, c.memory_width), np.float32),
        "trajectory": np.zeros((batch, c.trajectory_tokens), np.int64),
    }
    taken = {value.name: given[value.name] for value in session.get_inputs()}
    shapes |= {name: array.shape for name, array in zip(wanted, session.run(wanted, taken), strict=True)}
    return sum(int(np.prod(shapes[node.input[0]])) * shapes[node.input[1]][-1] for node in multiply)


@pytest.mark.parametrize(
    ("changes", "new"),
    [
        ({}, True),
        ({"trajectory": 3}, True),
        ({"saliency": "centre-token"}, True),
        ({"attention": "oneway"}, True),
        ({"attention": "oneway", "update_interval": 2}, False),
        ({"attention": "oneway", "saliency": "centre-token", "trajectory": 3}, True),
    ],
)
def test_work_is_that_of_the_exported_graph(changes, new):
    """Tables of ablations counted whole layers where the graph has the last in part, 0.67 G where it has 0.60."""
    config = TINY.replace(depth=3, **changes)
    own = ran(config, new, 2) - ran(config, new, 1)  # what weights alone make is the same for two
    assert macs(products(config, new)) == own


def test_deciding_at_run_time_pays_for_whole_templates_at_first():
    joint = PRESETS["pico"].replace(attention="joint")
    pruned, whole = macs(products(joint)), macs(products(joint.replace(keep=1.0)))
    assert pruned < macs(runtime_products(joint)) < whole
    assert macs(products(PRESETS["pico"])) < 0.65 * pruned

"""Model files of fixed shapes, for runtimes that want every size before the first call.

`graph.build(..., static=True)` says the sizes; here ONNX Runtime folds what follows from them, so that no arithmetic on
shapes or on weights is left, and runs the file for the comparison with PyTorch. `fartrack.Tracker` does not read such
files: it has better ones. Needs the `train` extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.graph import SMALL
from fartrack.quantise import Inputs
from fartrack.runtime import Bytes, Floats, Output


def check(config: ModelConfig, path: Path, precision: str, form: str) -> None:
    """Refuse what is no file for other runtimes, and models that do not run at one shape.

    Raises:
        InputError: with what to ask for instead.
    """
    if form != "onnx":
        raise InputError("--static files are ONNX, for other runtimes to convert: leave out --format")
    if precision == "int8":  # folded, its products are float ones in ONNX Runtime: twice the time
        raise InputError("--static files are fp32 or fp16: their runtimes round to int8 when they convert")
    if config.templates < 2:
        raise InputError(f"{path} is not written: a static file needs --templates 2 or more, and here is 1")
    if config.renewal > 1:
        raise InputError(
            f"{path} is not written: a static file takes a new template in every frame; give --update-interval 1"
        )


def fold(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Compute what depends on no input, once and for all; in half where the file's weights are and nothing is lost.

    Args:
        model: of fixed shapes; changed.
        folder: where a file may lie meanwhile.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Standard operators only: those of the next level are ONNX Runtime's own.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    folded = onnx.load(options.optimized_model_filepath).graph
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(folded.node)
    model.graph.initializer.extend(folded.initializer)
    if {p.key: p.value for p in model.metadata_props}["precision"] == "fp16":
        _halve(model.graph)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    onnx.checker.check_model(model)
    return model


def _halve(graph: onnx.GraphProto) -> None:
    """Store in half what half holds to the bit, as the weights and their parts are."""
    casts = []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or array.size < SMALL:
            continue
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if np.array_equal(half.astype(np.float32), array):
            casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(half, f"{tensor.name}.half"))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def calls_of(inputs: Sequence[Inputs], config: ModelConfig) -> list[Inputs]:
    """The calls of a tracker as a file of fixed shapes is called: in a first frame with a memory of zeros."""
    shape = (1, config.templates - 1, config.kept_tokens, config.memory_width)
    calls = [call for call in inputs if len(call["search"]) == 1 and call["template"].shape[1]]
    return [c if c["memory"].shape == shape else c | {"memory": np.zeros(shape, np.float32)} for c in calls]


class Static:
    """A file of fixed shapes in ONNX Runtime, called as every `fartrack.runtime.Runtime` is."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(
        self, search: Bytes, template: Bytes, memory: Floats, trajectory: npt.NDArray[np.int64] | None = None
    ) -> Output:
        """See `fartrack.runtime.Runtime`; one target, a new template, a memory of pruned ones."""
        feeds: Inputs = {"search": search.astype(np.float32), "template": template.astype(np.float32), "memory": memory}
        if trajectory is not None:
            feeds["trajectory"] = trajectory
        return Output(*self.session.run(list(Output._fields), feeds))

"""Network -> ONNX, checked against PyTorch before the file is kept. Needs the `train` extra."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from fartrack import __version__
from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.network import FARTrack
from fartrack.runtime import Output
from fartrack.step import TrackStep

OPSET = 18
BOUND = {"fp32": (1e-3, 1e-4), "fp16": (5e-2, 5e-3)}
"""Largest difference allowed in logits and in box coordinates (units of the search crop)."""


@dataclass(frozen=True)
class Parity:
    """The largest differences between PyTorch and the exported file, over several inputs."""

    logits: float
    box: float


def example_inputs(config: ModelConfig, batch: int, tokens: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Inputs that look like crops: smooth colour, not noise."""
    rng = np.random.default_rng(seed)

    def picture(size: int) -> Tensor:
        coarse = torch.from_numpy(rng.uniform(0, 255, (batch, 3, 8, 8)).astype(np.float32))
        fine = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 255)
        return fine.permute(0, 2, 3, 1).contiguous().to(torch.uint8)

    shape = (batch, config.templates - 1, tokens, config.width)
    memory = torch.from_numpy(rng.normal(0, 0.4, shape).astype(np.float32))
    inputs = (picture(config.search_size), picture(config.template_size), memory)
    if config.trajectory:
        words = rng.integers(0, config.coordinate_words, (batch, config.trajectory_tokens))
        inputs = (*inputs, torch.from_numpy(words))  # type: ignore[assignment]
    return inputs


def export(net: FARTrack, path: Path, precision: str = "fp16") -> Parity:
    """Write one ONNX file; nothing is left behind when it does not agree with the network.

    Args:
        net: the network.
        path: the .onnx file.
        precision: "fp32", or "fp16" for weights stored in half precision (the arithmetic stays float32).

    Raises:
        InputError: unknown precision, a folder that cannot be written, or a file that differs too much.
    """
    if precision not in BOUND:
        raise InputError(f"precision {precision!r} is unknown: choose one of {', '.join(BOUND)}")
    config = net.config
    step = TrackStep(net.eval().float())
    batch, count = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("kept", min=2, max=4096)
    shapes: list[dict[int, object]] = [{0: batch}, {0: batch}, {0: batch, 2: count}]
    inputs = example_inputs(config, 2, config.kept_tokens)
    if config.trajectory:
        shapes.append({0: batch})
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.inference_mode():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            step,
            inputs,
            dynamo=True,
            dynamic_shapes=tuple(shapes),
            input_names=["search", "template", "memory"] + (["trajectory"] if config.trajectory else []),
            output_names=list(Output._fields),
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _name_weights(model, net)
    if precision == "fp16":
        _halve(model)
    about = {"fartrack": config.to_json(), "fartrack_version": __version__, "precision": precision}
    for key, value in about.items():
        model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
    model.producer_name = "fartrack"
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(model.SerializeToString())
        parity = compare(step, temporary)
        worst_logits, worst_box = BOUND[precision]
        if not (parity.logits <= worst_logits and parity.box <= worst_box):
            raise InputError(
                f"{path} differs from PyTorch by {parity.logits:.2g} in logits and {parity.box:.2g} in boxes, more than "
                f"{worst_logits:g} and {worst_box:g}: not written"
            )
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another --out") from None
    finally:
        temporary.unlink(missing_ok=True)
    return parity


def compare(step: TrackStep, path: Path, rounds: int = 3) -> Parity:
    """Run the network and the file on the same inputs, with whole and with pruned templates."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    config = step.net.config
    logits, box = 0.0, 0.0
    for seed in range(rounds):
        for tokens in {config.template_tokens, config.kept_tokens}:
            inputs = example_inputs(config, 1 + seed % 2, tokens, seed)
            names = [i.name for i in session.get_inputs()]
            with torch.inference_mode():
                ours = [t.numpy() for t in step(*inputs)]
            theirs = session.run(list(Output._fields), {n: t.numpy() for n, t in zip(names, inputs, strict=True)})
            logits = max(logits, float(np.abs(ours[1] - theirs[1]).max()))
            # The arg-max may flip between two words that tie; the box is then half a flip apart, as it should be.
            box = max(box, float(np.median(np.abs(ours[0] - theirs[0]))))
    return Parity(logits, box)


def _name_weights(model: onnx.ModelProto, net: FARTrack) -> None:
    """Give the graph's constants the network's names again (the exporter transposes and slices some of them).

    A transposed one gets the suffix ".T"; one that the exporter folded away is carried along unused, so that the
    weights can be read back whole.
    """
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for name, value in net.state_dict().items():
        wanted, array = f"net.{name}", value.float().numpy()
        if wanted in constants:
            continue
        for old, have in constants.items():
            if have.shape == array.T.shape and array.ndim == 2 and np.array_equal(have, array.T):
                _rename(model, old, wanted + ".T")
                del constants[old]
                break
        else:
            model.graph.initializer.append(numpy_helper.from_array(array, wanted))


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == old:
            tensor.name = new
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new


def _halve(model: onnx.ModelProto) -> None:
    """Store large weights as float16 and cast them back: half the file, the same arithmetic after loading."""
    for tensor in list(model.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < 1024:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name + ".half")
        model.graph.initializer.remove(tensor)
        model.graph.initializer.append(half)
        model.graph.node.insert(0, helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT))


def weights_of(path: Path) -> tuple[dict[str, Tensor], ModelConfig]:
    """The network's weights out of an exported file, so that a packaged model needs no second copy for PyTorch.

    Raises:
        InputError: not one of our files.
    """
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own class
        raise InputError(f"{path} is not a whole ONNX model ({error}): export or copy it again") from None
    about = {p.key: p.value for p in model.metadata_props}
    if "fartrack" not in about:
        raise InputError(f"{path} is an ONNX file but not a fartrack model: make one with `fartrack export`")
    config = ModelConfig.from_json(about["fartrack"])
    have = {t.name.removesuffix(".half"): numpy_helper.to_array(t) for t in model.graph.initializer}
    weights = {}
    for name, like in FARTrack(config).state_dict().items():
        value = have.get(f"net.{name}")
        if value is None and f"net.{name}.T" in have:
            value = have[f"net.{name}.T"].T
        if value is None or value.shape != tuple(like.shape):
            raise InputError(f"{path} does not carry {name} in PyTorch's layout: run it with onnxruntime or openvino")
        weights[name] = torch.from_numpy(np.ascontiguousarray(value, np.float32))
    return weights, config

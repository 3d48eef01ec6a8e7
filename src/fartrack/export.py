"""Network -> ONNX or OpenVINO files, checked against PyTorch on real crops before they are kept.

Needs the `train` extra (OpenVINO files also the `openvino` one).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper

from fartrack import graph, quantise, static
from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.network import FARTrack, without_idle_biases
from fartrack.onnxfile import check_content, config_of, not_whole, sealed
from fartrack.quantise import Inputs
from fartrack.runtime import Output, open_runtime
from fartrack.runtime.torch_ import Torch
from fartrack.sharing import refuse_to_replace

SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}
BOUND = {"fp32": (1e-3, 1e-4), "fp16": (0.1, 5e-3), "int8": (4.0, 2e-2)}
"""Largest difference allowed in logits, and in all but one in twenty box coordinates (units of the search crop)."""

MOST = 40
"""Calls that are compared, evenly taken: PyTorch is slow."""


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from PyTorch over several calls."""

    logits: float
    """Largest difference of a logit."""
    box: float
    """Difference that 95 % of the box coordinates stay under, in units of the search crop's side."""
    box_largest: float
    """Largest difference of a box coordinate: where two words tie, the arg-max may take the other one."""
    calls: int

    def __str__(self) -> str:
        return (
            f"{self.calls} crops against PyTorch: logits differ by up to {self.logits:.2g}, box coordinates by "
            f"{self.box:.2g} (95 %) and up to {self.box_largest:.2g} of the crop's side"
        )


def export(
    net: FARTrack,
    path: Path,
    precision: str = "fp16",
    *,
    form: str = "onnx",
    inputs: Sequence[Inputs] | None = None,
    crops: Path | None = None,
    fixed: bool = False,
) -> Parity:
    """Write a model file; nothing is left behind when it does not agree with the network.

    Args:
        net: the network.
        path: the file, .onnx or .xml (OpenVINO puts a .bin beside it).
        precision: "fp32", "fp16" (weights stored in half precision, arithmetic in float32) or "int8" (weights and
            activations of the linear layers, weights of the patch embedding; attention stays float).
        form: "onnx" or "openvino".
        inputs: calls of the network to compare on, and from which int8 takes its ranges; default: those of `crops`.
        crops: sequences to cut crops from, see `fartrack.quantise.clips_of`; default: the packaged clip.
        fixed: every size fixed, for other runtimes (`fartrack.static`); ONNX only.

    Raises:
        InputError: unknown precision or form, sizes that cannot be fixed, a folder that cannot be written, a file
            there on which another one leans or a .bin of something else, or one that differs too much.
    """
    if precision not in BOUND:
        raise InputError(f"precision {precision!r} is unknown: choose one of {', '.join(BOUND)}")
    if form not in SUFFIX:
        raise InputError(f"format {form!r} is unknown: choose one of {', '.join(SUFFIX)}")
    if fixed:
        static.check(net.config, path, precision, form)
    if path.suffix != SUFFIX[form]:
        raise InputError(f"{path} does not end in {SUFFIX[form]}: name the {form} file so")
    _check_place(path, form)
    refuse_to_replace(path)
    _check_numbers(path, state_of(net), precision)
    weights = state_of(without_idle_biases(net))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that renaming is one step; of this call alone, for another may write beside it.
        folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        plain = graph.build(weights, net.config)
        if inputs is None:
            inputs = _record(plain, folder / "plain.onnx", crops)
        calls = static.calls_of(inputs, net.config) if fixed else inputs
        if not calls:
            raise InputError(f"{path} is not written: there is no call to compare it on with PyTorch")
        ranges = quantise.measure(weights, net.config, inputs) if precision == "int8" else None
        model = plain
        if fixed:
            model = static.fold(graph.build(weights, net.config, precision, static=True), folder)
        elif precision != "fp32":
            model = graph.build(weights, net.config, precision, ranges)
        temporary = folder / path.name
        (_write_openvino if form == "openvino" else _write_onnx)(model, temporary)
        parity = compare(Torch.of(net.eval().float()), temporary, calls, fixed)
        worst_logits, worst_box = BOUND[precision]
        if not (parity.logits <= worst_logits and parity.box <= worst_box):
            raise InputError(
                f"{path} is not written: {parity}; {precision} may differ by {worst_logits:g} and {worst_box:g}"
            )
        made = [temporary.with_suffix(".bin"), temporary] if form == "openvino" else [temporary]
        for part in made:
            part.replace(path.parent / part.name)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return parity


def _check_place(path: Path, form: str) -> None:
    """Refuse to write where a folder is, or over a .bin that no model beside it has as its own."""
    beside = path.with_suffix(".bin")
    for part in (path, beside) if form == "openvino" else (path,):
        if part.is_dir():
            raise InputError(f"{part} is a folder: choose another --out")
    if form == "openvino" and beside.exists() and not (path.exists() and b"<net" in path.read_bytes()[:1000]):
        raise InputError(f"{beside}, which {path} would come with, is there already: move it, or choose another --out")


def _check_numbers(path: Path, weights: Mapping[str, npt.NDArray[np.float32]], precision: str) -> None:
    """Refuse weights that are not finite, or would not be in half precision."""
    most = float(np.finfo(np.float16).max)
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise InputError(f"{path} is not written: {name} has values that are not finite")
        if precision == "fp16" and array.size >= graph.SMALL and np.abs(array).max() > most:
            raise InputError(f"{path} is not written: {name} has values above {most:g}, too large for fp16; take fp32")


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be written ({error.strerror}): choose another --out")


def _record(model: onnx.ModelProto, path: Path, crops: Path | None) -> list[Inputs]:
    """Real inputs, tracked by the float graph, which takes a fraction of PyTorch's time."""
    _write_onnx(model, path)
    every = 3 if crops is None else 5 if crops.suffix == ".tar" else 12  # clips of a shard are short
    inputs = quantise.record(open_runtime(path), quantise.clips_of(crops), every)
    path.unlink()
    return inputs


def _write_onnx(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(sealed(model.SerializeToString()))


def _write_openvino(model: onnx.ModelProto, path: Path) -> None:
    import openvino as ov

    from fartrack.runtime.openvino_ import core

    onnx_file = path.with_suffix(".onnx")
    onnx_file.write_bytes(model.SerializeToString())
    whole = core().read_model(onnx_file)
    # What is half already stays half in the .bin, and nothing else is made so.
    ov.save_model(whole, path, compress_to_fp16=False)
    onnx_file.unlink()


def state_of(net: FARTrack) -> dict[str, npt.NDArray[np.float32]]:
    """The network's weights as float32 arrays."""
    return {name: value.detach().float().cpu().numpy() for name, value in net.state_dict().items()}


def compare(reference: Torch, path: Path, inputs: Sequence[Inputs], fixed: bool = False) -> Parity:
    """Run the network and a file on the same calls."""
    engine: Callable[..., Output] = (
        static.Static(path) if fixed else open_runtime(path, "openvino" if path.suffix == ".xml" else "onnxruntime")
    )
    logits = 0.0
    boxes: list[npt.NDArray[np.float32]] = []
    inputs = inputs[:: -(-len(inputs) // MOST)]
    for call in inputs:
        ours, theirs = reference(*call.values()), engine(*call.values())  # type: ignore[arg-type]
        logits = float(np.maximum(logits, np.abs(ours.logits - theirs.logits).max()))  # unlike `max` it keeps NaN
        boxes.append(np.abs(ours.box - theirs.box).ravel())
    off = np.concatenate(boxes)
    return Parity(logits, float(np.quantile(off, 0.95)), float(off.max()), len(inputs))


def weights_of(path: Path) -> tuple[dict[str, torch.Tensor], ModelConfig]:
    """The network's weights out of an exported file, so that a packaged model needs no second copy for PyTorch.

    Raises:
        InputError: not one of our files, or one whose weights are rounded to int8.
    """
    content = check_content(path)
    try:
        model = onnx.load_from_string(content) if isinstance(content, bytes) else onnx.load(content)
    except Exception as error:  # protobuf's own class
        raise not_whole(path, str(error)) from None
    about = {p.key: p.value for p in model.metadata_props}
    config = config_of(about, path)
    if about.get("precision") == "int8":
        raise InputError(
            f"{path} is int8, which PyTorch cannot read: give the float model that it was made of, "
            "or run it with onnxruntime or openvino"
        )
    have = {t.name.removesuffix(".half"): numpy_helper.to_array(t) for t in model.graph.initializer}
    weights = {}
    for name, like in FARTrack(config).state_dict().items():
        value = have.get(f"net.{name}")
        if value is None and f"net.{name}.T" in have:
            value = have[f"net.{name}.T"].T
        if value is None and not like.numel():
            value = np.zeros(tuple(like.shape))
        if value is None or value.shape != tuple(like.shape):
            raise InputError(f"{path} does not carry {name} in PyTorch's layout: run it with onnxruntime or openvino")
        weights[name] = torch.from_numpy(np.array(value, np.float32))
    return weights, config

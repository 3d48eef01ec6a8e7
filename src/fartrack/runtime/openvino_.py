"""OpenVINO: often the fastest on Intel and AMD CPUs (`pip install openvino`)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as op

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.onnxfile import check_content, engine_failed
from fartrack.runtime import Bytes, Floats, Output, checked, note_threads, refuse_forked

T = TypeVar("T")
OUTPUTS = Output._fields
ROWS = 8
"""Attention is split among cores along the queries only when their number divides: it is made a multiple of this."""
SINGLY = 240
"""Calls for several targets that are made one by one while what runs them together is compiled, for seconds in which a
camera does not wait. Calls and not a time, so that the same frames give the same boxes."""


_MAKING = threading.Lock()


def core() -> ov.Core:
    """One for all, for good, also where several threads ask for the first time at once.

    With the first call a thread is given a stack for signals, which goes with the core: were there several, and did one
    go in another thread (one that compiles, or collects garbage), the next Ctrl-C would end in a segmentation fault.
    """
    with _MAKING:
        return _core()


@cache
def _core() -> ov.Core:
    return ov.Core()


class Request:
    """A model compiled for one shape, to which what it reads stays bound, for binding takes longer than a layer."""

    def __init__(self, model: ov.Model, settings: Mapping[str, object]) -> None:
        self._request = core().compile_model(model, "CPU", settings).create_infer_request()
        self._kinds = {port.get_any_name(): port.get_element_type().to_dtype() for port in model.inputs}
        self._bound: dict[str, tuple[int, npt.NDArray[np.generic]]] = {}

    def __call__(self, feeds: Mapping[str, npt.NDArray[np.generic]], names: Sequence[str]) -> list[Floats]:
        """Run on the inputs, and copy the outputs of these names."""
        for name, array in feeds.items():
            array = np.require(array, self._kinds[name], ["C", "W"])  # what OpenVINO takes
            place, _ = array.__array_interface__["data"]
            before, bound = self._bound.get(name, (0, array))  # kept, so that nothing else comes to lie there
            if place != before or array.shape != bound.shape:
                self._bound.pop(name, None)  # what interrupts the next two lines leaves nothing that is not so
                self._request.set_tensor(name, ov.Tensor(array, shared_memory=True))
                self._bound[name] = place, array
        self._request.infer(None, share_inputs=True, share_outputs=True)
        return [self._request.get_tensor(name).data.copy() for name in names]


Compiled = dict[tuple[int, int, int], Request]
"""By size of the batch, 1 or -1 for any, tokens that are remembered of a template, and rows of a new one or 0."""


class OpenVino:
    """One model file, compiled for fixed shapes, which run faster: a tracker needs only two or three.

    Several targets share the same with the size of the batch left open, compiled in a thread of its own.
    """

    arithmetic = "f32"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        content = check_content(path)
        # Accuracy is checked in float32; half precision must be asked for, not slip in.
        self._settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": self.arithmetic, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        keys = ("fartrack", "precision", "attention")
        try:
            self.model = core().read_model(content)
            there = [key for key in keys if self.model.has_rt_info(["framework", key])]
            about = {key: str(self.model.get_rt_info(["framework", key]).astype(str)) for key in there}
        except Exception as error:  # RuntimeError, UnicodeDecodeError
            raise engine_failed(path, error, _told(error)) from None
        self._path = path
        if "fartrack" not in about:
            raise InputError(f"{path} is not a fartrack model: make one with `fartrack export`")
        self.config = ModelConfig.from_json(about["fartrack"], path)
        self.precision = about.get("precision", "fp32")
        note_threads("openvino")
        self._attentions = about.get("attention")
        self._compiled: Compiled = {}
        self._together: Future[Compiled] | None = None
        self._singly = SINGLY

    def __call__(
        self, search: Bytes, template: Bytes, memory: Floats, trajectory: npt.NDArray[np.int64] | None = None
    ) -> Output:
        """See `fartrack.runtime.Runtime`."""
        refuse_forked("openvino")
        feeds: dict[str, npt.NDArray[np.generic]] = {"search": search, "template": template, "memory": memory}
        if trajectory is not None:
            feeds["trajectory"] = trajectory
        try:
            output = self._run(feeds)
        except Exception as error:  # what is damaged may be found only when it is compiled, or run
            raise engine_failed(self._path, error, _told(error)) from None
        return checked(self._path, output)

    def _run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> Output:
        if (count := len(feeds["memory"])) > 1 and self._singly:
            self._singly -= 1
            self._begin()
            each = [self._infer({k: v[i : i + 1] for k, v in feeds.items()}) for i in range(count)]
            return Output(*map(np.concatenate, zip(*each, strict=True)))
        return self._infer(feeds)

    def prepare(self) -> None:
        """Wait until what runs several targets together is compiled: from the next call on it does."""
        self._compiled |= self._begin().result()
        self._singly = 0

    def _begin(self) -> Future[Compiled]:
        if self._together is None:
            self._together = _started(self._compile, -1)
        return self._together

    def _infer(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> Output:
        memory, template = feeds["memory"], feeds["template"]
        shape = 1 if len(memory) == 1 else -1, memory.shape[2], template.shape[1]
        if shape[0] == -1 and shape not in self._compiled:
            self.prepare()
        if shape not in self._compiled:
            self._compiled |= self._compile(shape[0], shape[1:])
        request = self._compiled[shape]
        if shape[2]:
            return Output(*request(feeds, OUTPUTS))
        box, logits = request(feeds, OUTPUTS[:2])
        none = np.empty((len(memory), 0, self.config.memory_width), np.float32)
        return Output(box, logits, none[..., 0], none)

    def _compile(self, batch: int, *more: tuple[int, int]) -> Compiled:
        """For all shapes of a video at once, or its second frame would wait for its own; and for others.

        Each in a thread, because OpenVINO compiles on one core.
        """
        c = self.config
        shapes = {(c.template_tokens, c.template_size), (c.kept_tokens, c.template_size), *more}
        if c.rests:
            shapes.add((c.kept_tokens, 0))
        begun = {(batch, *shape): _started(self._request, batch, *shape) for shape in shapes}
        return {shape: request.result() for shape, request in begun.items()}

    def _request(self, batch: int, kept: int, rows: int) -> Request:
        c = self.config
        shapes = {
            "search": [batch, c.search_size, c.search_size, 3],
            "template": [batch, rows, c.template_size, 3],
            "memory": [batch, c.templates - bool(rows), kept, c.memory_width],
        }
        if c.trajectory:
            shapes["trajectory"] = [batch, c.trajectory_tokens]
        model = self.model.clone()
        model.reshape({name: ov.PartialShape(shape) for name, shape in shapes.items()})
        if not rows:  # and nothing of it goes out, which with batches of any size could not be compiled
            for result in model.get_results():
                if result.get_input_tensor(0).get_names() & {"saliency", "tokens"}:
                    model.remove_result(result)
        if self._attentions is not None:
            join_heads(model, json.loads(self._attentions), self.config)
        return Request(model, self._settings)


def _started(work: Callable[..., T], *arguments: object) -> Future[T]:
    """A call in a thread of its own; in this one, once the main thread has ended and Python begins no more of them."""
    pool = ThreadPoolExecutor(1, "compile")
    try:
        return pool.submit(work, *arguments)
    except RuntimeError:
        future: Future[T] = Future()
        future.set_result(work(*arguments))
        return future
    finally:
        pool.shutdown(wait=False)


def join_heads(model: ov.Model, attentions: list[tuple[list[list[str]], str]], config: ModelConfig) -> None:
    """Put the heads of each attention together in one product, which OpenVINO fuses with the softmax between.

    Args:
        model: with a fixed number of tokens; changed.
        attentions: names of each one's (B, N, D) queries, keys and values, part by part, and of its result.
        config: of the network.
    """
    heads, width = config.heads, config.width
    apart = op.constant(np.array([0, -1, heads, width // heads]))
    together = op.constant(np.array([0, -1, width]))
    order = op.constant(np.array([0, 2, 1, 3]))
    there = {name: output for node in model.get_ordered_ops() for output in node.outputs() for name in output.names}
    for parts, result in attentions:
        rows = []
        for q, k, v in ([there[name] for name in part] for part in parts):
            if not q.get_partial_shape()[1].get_length():  # a template that is not there
                continue
            more = -q.get_partial_shape()[1].get_length() % ROWS
            q = op.pad(q, np.array([0, 0, 0]), np.array([0, more, 0]), "constant") if more else q
            query, key, value = (op.transpose(op.reshape(x, apart, True), order) for x in (q, k, v))
            mixed = op.matmul(op.softmax(op.matmul(query, key, False, True), -1), value, False, False)
            if more:
                mixed = op.slice(mixed, np.array([0]), np.array([-more]), np.array([1]), np.array([2]))
            rows.append(mixed)
        whole = rows[0] if len(rows) == 1 else op.concat(rows, 2)
        there[result].replace(op.reshape(op.transpose(whole, order), together, True).output(0))


def _told(error: Exception) -> str:
    """An error's words without the places in OpenVINO's source where it passed."""
    lines = str(error).strip().splitlines()
    return "\n".join(line for line in lines if not line.startswith("Exception from ")) or (lines or [""])[-1]


class OpenVinoBf16(OpenVino):
    """The same in bfloat16, on CPUs that compute in it: faster, and a little less exact."""

    arithmetic = "bf16"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        if "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError("this CPU does not compute in bfloat16: use --runtime openvino")
        super().__init__(path, threads)
        self.precision = "int8-bf16" if self.precision == "int8" else "bf16"

"""Other trackers behind the same two calls, and opening any tracker by its name.

    csrt, kcf, mil                 OpenCV's own (csrt and kcf come with the contrib wheel)
    nanotrackv2:DIR, nanotrackv3:DIR   NanoTrack through ONNX Runtime from the two ONNX files in DIR
    nanotrackv2-opencv:DIR         NanoTrack V2 through cv2.TrackerNano
    my.module:make                 whatever `make(threads=N)` or `make()` returns, with init(frame, box), update(frame);
                                   modules in the folder one works in are found too
    pico, nano, tiny, FILE.onnx    fartrack itself

A tracker needs `init(frame, box)` and `update(frame) -> (found, box)`; a `score` attribute or `getTrackingScore()` is
recorded where there is one.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import inspect
import math
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from fartrack.crops import Image
from fartrack.errors import InputError
from fartrack.geometry import Box
from fartrack.protobuf import fields, varint


class TrackerLike(Protocol):
    """What the evaluation asks of a tracker."""

    def init(self, frame: Image, box: Box) -> Any:
        """Start on a frame with the target's box."""
        ...

    def update(self, frame: Image) -> tuple[bool, Box]:
        """Find the target in the next frame."""
        ...


def score_of(tracker: TrackerLike) -> float | None:
    """The tracker's own score of its last box, None when it has none."""
    if hasattr(tracker, "score"):
        score = tracker.score
        return None if score is None else float(score)
    if hasattr(tracker, "getTrackingScore"):
        score = float(tracker.getTrackingScore())
        return score if score >= 0 else None  # OpenCV 5 gives -1 for a tracker that has none, such as MIL
    return None


# --- OpenCV -----------------------------------------------------------------------------------------------------------


class OpenCVTracker:
    """A cv2 tracker: made anew for each video; it keeps the last box when it finds none."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._tracker: Any = None
        self._last: Box = (0.0, 0.0, 0.0, 0.0)

    def init(self, frame: Image, box: Box) -> None:
        """Start on a frame; OpenCV takes whole pixels."""
        _seed()
        self._tracker = self._make()
        x, y, w, h = (round(value) for value in box)
        self._last = box
        self._tracker.init(frame, (x, y, max(w, 1), max(h, 1)))

    def update(self, frame: Image) -> tuple[bool, Box]:
        """Follow the target to the next frame."""
        found, box = self._tracker.update(frame)
        if found and box[2] > 0 and box[3] > 0:
            self._last = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
        return bool(found), self._last

    @property
    def score(self) -> float | None:
        """The score of trackers that have one."""
        return score_of(self._tracker)


def _seed() -> None:
    """Begin OpenCV's random numbers and the C library's anew: MIL draws from both."""
    cv2.setRNGSeed(0)
    with suppress(TypeError, OSError, AttributeError):  # Windows has several C libraries, and no name for OpenCV's
        ctypes.CDLL(None).srand(0)


def _opencv(name: str, threads: int | None) -> OpenCVTracker:
    make = getattr(cv2, f"Tracker{name}", None)
    if make is None or not hasattr(make, "create"):
        raise InputError(
            f"--model {name.lower()}: OpenCV {cv2.__version__} here has no {name}; in an environment of its own run "
            f'pip uninstall opencv-python-headless, then pip install "opencv-contrib-python-headless<5"'
        )
    if threads is not None:
        cv2.setNumThreads(threads)
    return OpenCVTracker(make.create)


def _nano_opencv(folder: Path, threads: int | None) -> OpenCVTracker:
    backbone, head = _nano_files(folder)

    def make() -> Any:
        parameters = cv2.TrackerNano_Params()  # type: ignore[attr-defined]
        parameters.backbone, parameters.neckhead = str(backbone), str(head)
        return cv2.TrackerNano.create(parameters)

    if threads is not None:
        cv2.setNumThreads(threads)
    try:
        make()
    except cv2.error as error:
        raise InputError(f"--model nanotrackv2-opencv:{folder}: OpenCV cannot open these files ({error.err})") from None
    return OpenCVTracker(make)


# --- NanoTrack --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NanoSettings:
    """The three numbers NanoTrack decodes with."""

    window: float
    penalty: float
    rate: float


NANO_SETTINGS = {2: NanoSettings(0.490, 0.150, 0.385), 3: NanoSettings(0.455, 0.138, 0.348)}
TEMPLATE, SEARCH, STRIDE = 127, 255, 16


class NanoTrack:
    """NanoTrack (HonglinChu/SiamTrackers) through ONNX Runtime."""

    def __init__(self, folder: Path, settings: NanoSettings, threads: int | None = None) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads

        def open_session(model: str | bytes) -> Any:
            try:
                return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # ONNX Runtime's errors have no common base
                raise InputError(f"{folder}: ONNX Runtime cannot open NanoTrack's files ({error})") from None

        backbone, head = _nano_files(folder)
        self._backbone, self._head = open_session(str(backbone)), open_session(str(head))
        self._backbone_small = open_session(_for_template(backbone.read_bytes()))
        side = self._head.get_outputs()[0].shape[-1]
        hann = np.hanning(side)
        self._settings = settings
        self._window = np.outer(hann, hann)
        self._grid = (np.arange(side) - side // 2) * float(STRIDE)
        self._template: NDArray[np.float32] = np.empty(0, np.float32)
        self._fill: NDArray[np.float64] = np.zeros(3)
        self._centre, self._size = np.zeros(2), np.zeros(2)
        self.score = 0.0

    def init(self, frame: Image, box: Box) -> None:
        """Remember the target's look."""
        x, y, w, h = box
        self._centre = np.array([x + w / 2, y + h / 2])
        self._size = np.array([w, h], float)
        self._fill = frame.mean((0, 1))
        crop = self._crop(frame, self._context(), TEMPLATE)
        self._template = self._backbone_small.run(None, {"input": crop})[0]
        self.score = 1.0

    def update(self, frame: Image) -> tuple[bool, Box]:
        """Follow the target to the next frame."""
        settings, context = self._settings, self._context()
        scale = TEMPLATE / context
        crop = self._crop(frame, context * SEARCH / TEMPLATE, SEARCH)
        features = self._backbone.run(None, {"input": crop})[0]
        classes, sides = self._head.run(None, {"input1": self._template, "input2": features})
        score = 1 / (1 + np.exp(classes[0, 0].astype(float) - classes[0, 1]))
        left, top, right, bottom = sides[0].astype(float)
        across, down = self._grid[None, :], self._grid[:, None]
        w, h = left + right, top + bottom
        x, y = across + (right - left) / 2, down + (bottom - top) / 2

        change = _larger(_padded(w, h) / _padded(*(self._size * scale)))
        ratio = _larger((self._size[0] / self._size[1]) / (w / h))
        penalty = np.exp(-(change * ratio - 1) * settings.penalty)
        ranked = penalty * score * (1 - settings.window) + self._window * settings.window
        best = np.unravel_index(int(ranked.argmax()), ranked.shape)

        rate = float(penalty[best] * score[best] * settings.rate)
        self._centre = self._centre + np.array([x[best], y[best]]) / scale
        self._size = self._size * (1 - rate) + np.array([w[best], h[best]]) / scale * rate
        height, width = frame.shape[:2]
        self._centre = np.clip(self._centre, 0, (width, height))
        self._size = np.clip(self._size, 10, (width, height))
        self.score = float(score[best])
        corner = self._centre - self._size / 2
        return True, (float(corner[0]), float(corner[1]), float(self._size[0]), float(self._size[1]))

    def _context(self) -> float:
        """Side of the template crop in the frame."""
        return float(_padded(*self._size))

    def _crop(self, frame: Image, extent: float, size: int) -> NDArray[np.float32]:
        """Square of `extent` pixels around the target, resized to `size`; outside the frame its mean colour.

        Corner and side are cut to whole pixels, each on its own: half a pixel more or less moves AO by three points.
        """
        height, width = frame.shape[:2]
        left, top = (math.floor(value - extent / 2) for value in self._centre)
        side = max(1, int(extent))
        window = np.empty((side, side, 3), np.uint8)
        window[:] = self._fill
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
        if x1 > x0 and y1 > y0:
            window[y0 - top : y1 - top, x0 - left : x1 - left] = frame[y0:y1, x0:x1]
        return np.ascontiguousarray(cv2.resize(window, (size, size)).transpose(2, 0, 1)[None], np.float32)


def _padded(w: Any, h: Any) -> Any:
    padding = (w + h) / 2
    return np.sqrt((w + padding) * (h + padding))


def _larger(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(ratio, 1 / ratio)


def _for_template(model: bytes) -> bytes:
    """The same backbone for 127 px crops: the files fix the input to 255 px though the layers take any size.

    A few bytes of the file are changed, so that no ONNX library is needed: the written-down shapes between the layers
    are dropped, and the input's shape, four length-prefixed numbers, gets 127 written in two bytes as 255 was.
    """
    batch, side, small = b"\x0a\x02\x08\x01", b"\x0a\x03\x08\xff\x01", b"\x0a\x03\x08\xff\x00"
    shape = batch + b"\x0a\x02\x08\x03" + side * 2
    if model.count(shape) != 1:
        raise InputError("NanoTrack's backbone was expected to take 1 x 3 x 255 x 255; these are other files")
    model = model.replace(shape, batch + b"\x0a\x02\x08\x03" + small * 2)
    changed = b""
    for number, whole, payload in fields(model):
        if number == 7:  # the graph; its fields 12 and 13 are the outputs and the shapes between the layers
            graph = b""
            for inner, field, _ in fields(payload):
                graph += field.replace(b"\x0a\x02\x08\x10" * 2, b"\x0a\x02\x08\x08" * 2) if inner == 12 else b""
                graph += field if inner not in (12, 13) else b""
            whole = b"\x3a" + varint(len(graph)) + graph
        changed += whole
    return changed


def _nano_files(folder: Path) -> tuple[Path, Path]:
    """Backbone and head in a folder."""
    found = []
    for part in ("backbone", "head"):
        files = sorted(folder.glob(f"*{part}*.onnx"))
        if len(files) != 1:
            raise InputError(f"{folder}: looked for one *{part}*.onnx of NanoTrack, found {len(files)}")
        found.append(files[0])
    return found[0], found[1]


# --- by name ----------------------------------------------------------------------------------------------------------

OPENCV_NAMES = {"csrt": "CSRT", "kcf": "KCF", "mil": "MIL"}
NANO_NAMES = ("nanotrackv2", "nanotrackv3", "nanotrackv2-opencv")


def kind_of(spec: str) -> Literal["opencv", "nanotrack", "module", "ours"]:
    """Which of the lines at the top of this file a tracker's name is written as."""
    name, _, rest = spec.partition(":")
    if spec in OPENCV_NAMES:
        return "opencv"
    if name in NANO_NAMES:
        return "nanotrack"
    # A file's whole path has a colon on Windows.
    if rest and name.replace(".", "").isidentifier() and not Path(spec).exists():
        return "module"
    return "ours"


@dataclass(frozen=True)
class Model:
    """A tracker as it was named on the command line, with what is needed to open it in another process.

    Calling it opens the tracker; it can be pickled.
    """

    spec: str
    label: str
    runtime: str | None = None
    threads: int | None = 1
    seek: bool = False
    """Of ours: a lost target is looked for elsewhere too (`fartrack.seek`)."""

    def __call__(self) -> TrackerLike:
        """Open the tracker."""
        name, _, rest = self.spec.partition(":")
        kind = kind_of(self.spec)
        if kind == "opencv":
            return _opencv(OPENCV_NAMES[self.spec], self.threads)
        if kind == "nanotrack" and name.endswith("-opencv"):
            return _nano_opencv(_given(self.spec), self.threads)
        if kind == "nanotrack":
            return NanoTrack(_given(self.spec), NANO_SETTINGS[int(name[-1])], self.threads)
        if kind == "module":
            return _imported(name, rest, self.threads)
        from fartrack.tracker import Tracker

        return Tracker(self.spec, self.runtime, self.threads, seek=self.seek)

    def fingerprint(self) -> dict[str, str]:
        """What tells results of this tracker from others': its name, its engine and the bytes of its files."""
        name, _, rest = self.spec.partition(":")
        kind = kind_of(self.spec)
        if kind == "opencv":
            return {"model": self.spec, "opencv": cv2.__version__}
        if kind == "nanotrack":
            return {"model": name, "files": _digest(_nano_files(_given(self.spec)))}
        if kind == "module":
            source = getattr(_module(name, rest), "__file__", None)  # built-in ones have none
            return {"model": self.spec} | ({"files": _digest((Path(source),))} if source else {})
        from fartrack.runtime.choice import choose

        file, runtime = choose(self.spec, self.runtime)
        beside = [file.with_suffix(".bin")] if file.suffix == ".xml" else []  # OpenVINO keeps the weights there
        files = _digest((file, *(path for path in beside if path.is_file())))
        seeks = {"seek": "yes"} if self.seek else {}
        return {"model": self.label, "runtime": runtime or "by the file", "files": files} | seeks


def parse_model(text: str, runtime: str | None = None, threads: int | None = 1, seek: bool = False) -> Model:
    """Understand `SPEC` or `LABEL=SPEC`; the label names the results' folder and the row of the table."""
    label, equals, spec = text.partition("=")
    if not equals:
        label, spec = "", text
    if not spec:
        raise InputError(f"--model {text!r}: no tracker named; give pico, a model file or a peer such as csrt")
    if not label:
        name, _, rest = spec.partition(":")
        kind = kind_of(spec)
        label = {"opencv": spec, "nanotrack": name, "module": rest, "ours": Path(spec).stem}[kind]
        if kind == "ours":
            label += (f"-{runtime}" if runtime is not None else "") + ("-seek" if seek else "")
    if not label or any(character in label for character in '/\\:*?"<>|') or label.startswith("."):
        raise InputError(f"--model {text!r}: {label!r} cannot be a folder's name; give LABEL=MODEL")
    return Model(spec, label, runtime, threads, seek)


def _given(spec: str) -> Path:
    """The folder in NAME:DIR."""
    folder = Path(spec.partition(":")[2])
    if not folder.is_dir() or folder == Path():
        raise InputError(f"--model {spec}: give NanoTrack's two ONNX files as {spec.partition(':')[0]}:DIR")
    return folder


def _module(module: str, name: str) -> ModuleType:
    """The module of `module:name`."""
    sys.path.insert(0, "")  # also one in the folder one works in, as with `python -m`
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"--model {module}:{name}: {error}") from None
    except Exception as error:  # it is somebody's own program
        raise InputError(f"--model {module}:{name}: {_said(error)}") from None
    finally:
        sys.path.remove("")


def _imported(module: str, name: str, threads: int | None) -> TrackerLike:
    """What `module:name` makes."""
    try:
        make = getattr(_module(module, name), name)
    except AttributeError as error:
        raise InputError(f"--model {module}:{name}: {error}") from None
    try:
        takes_threads = "threads" in inspect.signature(make).parameters
    except (TypeError, ValueError):  # some built-in things do not tell
        takes_threads = False
    try:
        tracker = make(threads=threads) if takes_threads else make()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"--model {module}:{name}: {_said(error)}") from None
    if not callable(getattr(tracker, "init", None)) or not callable(getattr(tracker, "update", None)):
        raise InputError(f"--model {module}:{name}: it makes no tracker; init(frame, box) and update(frame) are needed")
    return tracker


def _said(error: Exception) -> str:
    """What went wrong in somebody's own program, and where."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):  # which says where
        return said
    *_, place = traceback.extract_tb(error.__traceback__)
    return f"{said} ({place.filename}, line {place.lineno})"


def _digest(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]

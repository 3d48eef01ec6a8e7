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
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import cv2

from fartrack import models
from fartrack.crops import Image
from fartrack.errors import InputError
from fartrack.evaluation.nanotrack import NANO_SETTINGS, NanoTrack, nano_files
from fartrack.geometry import Box

OPENCV = ("csrt", "kcf", "mil")
NANO_IN_OPENCV = "nanotrackv2-opencv"


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


# --- by name ----------------------------------------------------------------------------------------------------------


class Model(Protocol):
    """A tracker as it was named on the command line, with what is needed to open it in another process.

    It can be pickled.
    """

    @property
    def label(self) -> str:
        """Name of the results' folder and of the row of the table."""
        ...

    def open(self) -> TrackerLike:
        """Open the tracker."""
        ...

    def fingerprint(self) -> dict[str, str]:
        """What tells results of this tracker from others': its name, its engine and the bytes of its files."""
        ...


@dataclass(frozen=True)
class OpenCVs:
    """A tracker that comes with OpenCV."""

    label: str
    name: str
    threads: int = 1

    def open(self) -> TrackerLike:
        """As `Model` says."""
        make = getattr(cv2, f"Tracker{self.name.upper()}", None)
        if make is None or not hasattr(make, "create"):
            raise InputError(
                f"--model {self.name}: OpenCV {cv2.__version__} here has no {self.name.upper()}; in an environment of "
                'its own run pip uninstall opencv-python-headless, then pip install "opencv-contrib-python-headless<5"'
            )
        cv2.setNumThreads(self.threads)
        return OpenCVTracker(make.create)

    def fingerprint(self) -> dict[str, str]:
        """As `Model` says."""
        return {"model": self.name, "opencv": cv2.__version__}


@dataclass(frozen=True)
class Nano:
    """NanoTrack in ONNX Runtime, from its two files in `folder`."""

    label: str
    name: str
    folder: str
    threads: int = 1

    def open(self) -> TrackerLike:
        """As `Model` says."""
        return NanoTrack(_there(self.name, self.folder), NANO_SETTINGS[self.name], self.threads)

    def fingerprint(self) -> dict[str, str]:
        """As `Model` says."""
        return {"model": self.name, "files": _digest(nano_files(_there(self.name, self.folder)))}


@dataclass(frozen=True)
class NanoInOpenCV:
    """The same files in OpenCV, which knows NanoTrack V2."""

    label: str
    folder: str
    threads: int = 1

    def open(self) -> TrackerLike:
        """As `Model` says."""
        folder = _there(NANO_IN_OPENCV, self.folder)
        backbone, head = nano_files(folder)

        def make() -> Any:
            parameters = cv2.TrackerNano_Params()  # type: ignore[attr-defined]
            parameters.backbone, parameters.neckhead = str(backbone), str(head)
            return cv2.TrackerNano.create(parameters)

        cv2.setNumThreads(self.threads)
        try:
            make()
        except cv2.error as error:
            reason = f"OpenCV cannot open these files ({error.err})"
            raise InputError(f"--model {NANO_IN_OPENCV}:{folder}: {reason}") from None
        return OpenCVTracker(make)

    def fingerprint(self) -> dict[str, str]:
        """As `Model` says."""
        return {"model": NANO_IN_OPENCV, "files": _digest(nano_files(_there(NANO_IN_OPENCV, self.folder)))}


@dataclass(frozen=True)
class Imported:
    """What a function or class of somebody's own module makes."""

    label: str
    module: str
    name: str
    threads: int = 1

    def open(self) -> TrackerLike:
        """As `Model` says."""
        spec = f"{self.module}:{self.name}"
        try:
            make = getattr(_module(self.module, self.name), self.name)
        except AttributeError as error:
            raise InputError(f"--model {spec}: {error}") from None
        try:
            takes_threads = "threads" in inspect.signature(make).parameters
        except (TypeError, ValueError):  # some built-in things do not tell
            takes_threads = False
        try:
            tracker = make(threads=self.threads) if takes_threads else make()
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"--model {spec}: {_said(error)}") from None
        if not callable(getattr(tracker, "init", None)) or not callable(getattr(tracker, "update", None)):
            raise InputError(f"--model {spec}: it makes no tracker; init(frame, box) and update(frame) are needed")
        return tracker

    def fingerprint(self) -> dict[str, str]:
        """As `Model` says."""
        source = getattr(_module(self.module, self.name), "__file__", None)  # built-in ones have none
        return {"model": f"{self.module}:{self.name}"} | ({"files": _digest((Path(source),))} if source else {})


@dataclass(frozen=True)
class Ours:
    """fartrack itself, with a packaged model or a file."""

    label: str
    model: str
    runtime: str | None = None
    threads: int = 1
    seek: bool = False
    """A lost target is looked for elsewhere too (`fartrack.seek`)."""

    def open(self) -> TrackerLike:
        """As `Model` says."""
        from fartrack.tracker import Tracker

        return Tracker(self.model, self.runtime, self.threads, seek=self.seek)

    def fingerprint(self) -> dict[str, str]:
        """As `Model` says."""
        from fartrack.runtime.choice import choose

        file, runtime = choose(self.model, self.runtime)
        beside = [file.with_suffix(".bin")] if file.suffix == ".xml" else []  # OpenVINO keeps the weights there
        files = _digest((file, *(path for path in beside if path.is_file())))
        seeks = {"seek": "yes"} if self.seek else {}
        return {"model": self.label, "runtime": runtime or "by the file", "files": files} | seeks


def parse_model(text: str, runtime: str | None = None, threads: int = 1, seek: bool = False) -> Model:
    """Understand `SPEC` or `LABEL=SPEC`, where SPEC is one of the lines at the top of this file.

    Args:
        text: as it was given.
        runtime: engine of ours.
        threads: CPU threads of any.
        seek: of ours, see `Ours`.

    Raises:
        InputError: no tracker is named, or the label cannot be a folder's name.
    """
    label, spec = labelled(text)
    if not spec:
        raise InputError(f"--model {text!r}: no tracker named; give pico, a model file or a peer such as csrt")
    name, _, rest = spec.partition(":")
    model: Model
    if spec in OPENCV:
        model = OpenCVs(label or spec, spec, threads)
    elif name in NANO_SETTINGS:
        model = Nano(label or name, name, rest, threads)
    elif name == NANO_IN_OPENCV:
        model = NanoInOpenCV(label or name, rest, threads)
    elif rest and name.replace(".", "").isidentifier() and not Path(spec).exists():  # a whole path has one on Windows
        model = Imported(label or rest, name, rest, threads)
    else:
        own = Path(spec).stem + (f"-{runtime}" if runtime is not None else "") + ("-seek" if seek else "")
        model = Ours(label or own, spec, runtime, threads, seek)
    if not model.label or any(character in model.label for character in '/\\:*?"<>|') or model.label.startswith("."):
        raise InputError(f"--model {text!r}: {model.label!r} cannot be a folder's name; give LABEL=MODEL")
    return model


def labelled(text: str) -> tuple[str, str]:
    """Label and model of `LABEL=MODEL`; a model alone has an empty label, also one with a `=` in its path.

    Raises:
        InputError: there is nothing before the `=`, or nothing after it, or a label that would be a path.
    """
    label, equals, model = text.partition("=")
    if not equals or Path(text).exists():
        return "", text
    if "/" in label or "\\" in label:
        if Path(model).exists() or model in [path.stem for path in models.packaged()]:
            raise InputError(f"--model {text}: a label becomes the name of a folder, give one without / and \\")
        return "", text
    if not label or not model:
        raise InputError(f"--model {text}: give LABEL=MODEL")
    return label, model


def refuse_twins(labels: Sequence[str]) -> None:
    """See that no two are called the same.

    Raises:
        InputError: with the name.
    """
    if (twice := next((label for label in labels if labels.count(label) > 1), None)) is not None:
        raise InputError(f"--model: two of them are called {twice!r}; tell them apart with LABEL=MODEL")


def _there(name: str, given: str) -> Path:
    """The folder in NAME:DIR."""
    folder = Path(given)
    if not folder.is_dir() or folder == Path():
        raise InputError(f"--model {name}{':' if given else ''}{given}: give NanoTrack's two ONNX files as {name}:DIR")
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

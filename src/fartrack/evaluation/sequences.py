"""What a benchmark is made of: frames that are read one by one, a sequence with its annotation, a list of names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from fartrack.crops import Image
from fartrack.errors import InputError
from fartrack.evaluation.annotations import Boxes, has_area, read_frame
from fartrack.evaluation.metrics import Rules
from fartrack.geometry import Box

if TYPE_CHECKING:
    from fartrack.video.reader import VideoSource


class Frames(Protocol):
    """The pictures of a sequence; each is read when it is asked for."""

    def __len__(self) -> int:
        """Count the frames."""
        ...

    def __iter__(self) -> Iterator[Image]:
        """Yield the frames in order as H x W x 3 BGR."""
        ...

    def __getitem__(self, index: int) -> Image:
        """Read one frame."""
        ...

    def where(self, index: int) -> str:
        """Say which file a frame comes from, for messages."""
        ...


@dataclass(frozen=True)
class ImageFrames:
    """Frames that are picture files in one folder."""

    folder: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Image]:
        return (self[index] for index in range(len(self.names)))

    def __getitem__(self, index: int) -> Image:
        return read_frame(self.folder / self.names[index])

    def where(self, index: int) -> str:
        """Path of one frame."""
        return str(self.folder / self.names[index])

    @property
    def paths(self) -> list[Path]:
        """Paths of all frames."""
        return [self.folder / name for name in self.names]


@dataclass(frozen=True)
class VideoFrames:
    """Frames of a video file; going through them in order decodes each one once."""

    path: Path

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in self)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Image]:
        with self._open() as source:
            for frame in source:
                yield frame.image

    def __getitem__(self, index: int) -> Image:
        with self._open(index) as source:
            return source.first.image

    def _open(self, start: int = 0) -> VideoSource:
        from fartrack.video.reader import frames_from_source  # needs PyAV, which training has to do without

        return frames_from_source(self.path, start)

    def where(self, index: int) -> str:
        """Path and number of one frame."""
        return f"{self.path}, frame {index}"


@dataclass(frozen=True)
class Sequence:
    """One video with one target.

    `boxes` has a row of NaN where there is no box. `visible` is False where the annotation says that the target is
    absent or fully hidden. `cover` is GOT-10k's visible share in eighths (0 hidden .. 8 whole), None elsewhere.
    """

    name: str
    frames: Frames
    boxes: Boxes
    visible: NDArray[np.bool_]
    cover: NDArray[np.int64] | None = None
    size: tuple[int, int] | None = None  # width, height where the annotation gives it

    def __post_init__(self) -> None:
        """Check that annotation and frames belong together."""
        if len(self.boxes) != len(self.frames):
            raise InputError(
                f"{self.name}: {len(self.frames)} frames but {len(self.boxes)} boxes; "
                f"the data set is not complete or the annotation belongs to another version"
            )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def in_sight(self) -> NDArray[np.bool_]:
        """(N,) in which frames something of the target is seen: neither absent nor wholly covered."""
        return self.visible if self.cover is None else self.visible & (self.cover > 0)

    @property
    def shown(self) -> NDArray[np.bool_]:
        """(N,) in which frames a tracker can be given the target: in sight, in a box with an area."""
        return self.in_sight & has_area(self.boxes)

    @property
    def start(self) -> Box:
        """The box given to the tracker in the first frame."""
        x, y, w, h = (float(value) for value in self.boxes[0])
        return (x, y, w, h)

    def frame_size(self) -> tuple[int, int]:
        """Width and height of the frames, from the annotation or the first frame."""
        if self.size is not None:
            return self.size
        height, width = self.frames[0].shape[:2]
        return (width, height)


@dataclass(frozen=True)
class Dataset:
    """A benchmark: names of its sequences, how to load one, and how it counts.

    `hidden` is True when the annotation is not public: results are then packed for the benchmark's server.
    `missing` lists sequences of the official list that the root does not hold, `whole` is how many there are of those
    benchmarks whose list is not known here (0: that is not known either), `left_out` names those that `only` let go.
    `remark` is what else there is to say of the sequences, nothing of those that `only` kept.
    """

    name: str
    root: Path
    names: tuple[str, ...]
    read: Callable[[Path, str], Sequence] = field(repr=False)
    rules: Rules = field(default_factory=Rules)
    hidden: bool = False
    missing: tuple[str, ...] = ()
    whole: int = 0
    left_out: frozenset[str] = frozenset()
    remark: str = ""
    prefix: str = ""  # pytracking puts it before the sequence's name in result files ("uav_", "nfs_")

    def __len__(self) -> int:
        return len(self.names)

    def load(self, name: str) -> Sequence:
        """Read the annotation of one sequence, which has to give the first box, and find its frames."""
        sequence = self.read(self.root, name)
        if not has_area(sequence.boxes[:1]).all():
            raise InputError(f"{name}: the first frame has no box to start from (it says {sequence.boxes[0].tolist()})")
        return sequence

    def read_once(self) -> Dataset:
        """The same, with each sequence read when it is first asked for and then kept: for one piece of work.

        Masks and videos take long to read, and a command asks for a sequence several times.
        """
        return self if isinstance(self.read, _Kept) else replace(self, read=_Kept(self.read))

    def only(self, names: list[str]) -> Dataset:
        """Keep the sequences named."""
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise InputError(f"{self.name}: no sequence {unknown[0]!r} in {self.root}; there is {self.names[0]!r}")
        kept = tuple(name for name in self.names if name in set(names))
        left_out = self.left_out | set(self.names) - set(kept)
        return replace(self, names=kept, missing=(), whole=0, remark="", left_out=left_out)


class _Kept:
    """Reads each sequence once."""

    def __init__(self, read: Callable[[Path, str], Sequence]) -> None:
        self._read = read
        self._sequences: dict[str, Sequence] = {}

    def __call__(self, root: Path, name: str) -> Sequence:
        if name not in self._sequences:
            self._sequences[name] = self._read(root, name)
        return self._sequences[name]

    def __reduce__(self) -> tuple[type[_Kept], tuple[Callable[[Path, str], Sequence]]]:
        return _Kept, (self._read,)  # another process keeps what it reads itself

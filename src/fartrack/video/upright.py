"""Pictures as they are meant to be seen: turned and mirrored as the file's display matrix says."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import av
import av.filter
import av.video
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

from fartrack.crops import Image

SIDE_DATA = 64
"""More than FFmpeg has kinds of side data."""


class Upright:
    """Turns and mirrors the pictures of one source (phones film lying down)."""

    def __init__(self) -> None:
        # PyAV's `to_ndarray(format=...)` hangs a converter with threads of its own on every picture.
        self._converter = VideoReformatter()
        self._matrices: dict[int, bytes | None] = {}
        self.lying = False  # whether the last picture was stored on its side

    def __call__(self, picture: av.VideoFrame) -> Image:
        """The picture as H x W x 3 uint8 BGR."""
        image = cast(Image, self._converter.reformat(picture, format="bgr24").to_ndarray())
        turn = picture.rotation
        if turn not in self._matrices:
            self._matrices[turn] = _display_matrix(picture)
        matrix = self._matrices[turn]
        self.lying = matrix is not None and _lies(matrix)
        return _turned(image, matrix)

    def close(self) -> None:
        """End the converter's threads now; an error that somebody keeps holds on to this object."""
        del self._converter


def _display_matrix(picture: av.VideoFrame) -> bytes | None:
    # PyAV's side data and their picture hold each other until the garbage collector comes, so a tiny copy is asked.
    tiny = VideoReformatter().reformat(picture, 16, 16, format="gray", interpolation="POINT", threads=1)
    try:
        matrix = tiny.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV reads none where it has no name for one of them, such as EXIF
        matrix = _named_only(tiny).side_data.get("DISPLAYMATRIX")
    return None if matrix is None else bytes(cast(Any, matrix))


def _named_only(picture: av.VideoFrame) -> av.VideoFrame:
    """The picture without the side data that PyAV has no name for."""
    named = {kind.value for kind in Type}
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=picture.time_base or Fraction(1)
    )
    unnamed = [graph.add("sidedata", f"mode=delete:type={kind}") for kind in range(SIDE_DATA) if kind not in named]
    graph.link_nodes(source, *unnamed, graph.add("buffersink")).configure()
    graph.vpush(picture)
    return graph.vpull()


def _lies(matrix: bytes) -> bool:
    """Whether it makes rows of columns."""
    a, b = np.frombuffer(matrix, "<i4")[:2].tolist()
    return abs(b) > abs(a)


def _turned(image: Image, matrix: bytes | None) -> Image:
    if matrix is not None:
        # x' = a x + c y, y' = b x + d y in 16.16 fixed point; turns by other than 90 degrees do not occur in practice.
        a, b, _, c, d = np.frombuffer(matrix, "<i4")[:5].tolist()
        if _lies(matrix):
            image, a, d = image.transpose(1, 0, 2), c, b
        image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image, np.uint8)

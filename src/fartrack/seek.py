"""Where else in the frame a target that is lost is looked for: it may have left the view and come in elsewhere.

The paper's tracker looks around the last box only. With `seek`, one more window of the frame is looked at in every
frame, once the target has been lost for a while, and taken when the network is sure of what it sees there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from fartrack.geometry import Window

PATIENCE = 5
"""Frames without the target before it is looked for elsewhere."""
TRUST = 0.8
"""Score from which a box elsewhere is believed; more than around the last box, for much is seen in a whole frame."""
REMEMBERED = 60
"""Boxes whose median size and shape are looked for: what leaves the view has shrunk at its edge."""


def places(box: Sequence[float], side: float, width: int, height: int) -> Iterator[Window]:
    """Windows that cover a frame, half a side apart, the nearest to a box first.

    Each is made when it is asked for: of a small target in a large frame there are hundreds of thousands.

    Args:
        box: x, y, w, h in pixels, where the target was last.
        side: of the windows, in pixels.
        width: of the frame.
        height: of the frame.
    """
    side = max(2, round(side))
    across, down = (max(1, math.ceil(2 * length / side) - 1) for length in (width, height))
    columns = width * np.arange(1, across + 1) / (across + 1)
    rows = height * np.arange(1, down + 1) / (down + 1)
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    order = np.argsort(np.square(rows - y)[:, None] + np.square(columns - x), axis=None, kind="stable")
    for number in order:
        row, column = divmod(int(number), across)
        yield Window(round(float(columns[column]) - side / 2), round(float(rows[row]) - side / 2), side)

"""Where else in the frame a target that is lost is looked for: it may have left the view and come in elsewhere.

The paper's tracker looks around the last box only. With `seek`, one more window of the frame is looked at in every
frame, once the target has been lost for a while, and taken when the network is sure of what it sees there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fartrack.geometry import Window

PATIENCE = 5
"""Frames without the target before it is looked for elsewhere."""
TRUST = 0.7
"""Score from which a box elsewhere is believed; more than around the last box, for much is seen in a whole frame."""
REMEMBERED = 60
"""Boxes whose median size is looked for: what leaves the view has shrunk at its edge."""


def places(box: Sequence[float], side: float, width: int, height: int) -> list[Window]:
    """Windows that cover a frame, half a side apart, the nearest to a box first.

    Args:
        box: x, y, w, h in pixels, where the target was last.
        side: of the windows, in pixels.
        width: of the frame.
        height: of the frame.
    """
    side = max(2, round(side))
    across, down = (max(1, math.ceil(2 * length / side) - 1) for length in (width, height))
    middles = [
        (width * (i + 1) / (across + 1), height * (j + 1) / (down + 1)) for j in range(down) for i in range(across)
    ]
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    middles.sort(key=lambda at: (at[0] - x) ** 2 + (at[1] - y) ** 2)
    return [Window(round(at[0] - side / 2), round(at[1] - side / 2), side) for at in middles]

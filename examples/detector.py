"""A detector says where to start, the tracker does the rest.  python examples/detector.py video.mp4"""

import sys

import cv2
import numpy as np

from fartrack import Tracker
from fartrack.video.reader import frames_from_source


def moving(image: np.ndarray, state: dict[str, np.ndarray] = {}) -> tuple | None:  # noqa: B006
    """Any function from an image to a box or None will do; this one finds the largest thing that moves."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (9, 9), 0)
    before, state["grey"] = state.get("grey", grey), grey
    if before.shape != grey.shape:
        return None
    changed = (cv2.absdiff(before, grey) > 20).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(changed, np.ones((9, 9), np.uint8)))
    x, y, w, h, area = max(stats[1:].tolist(), key=lambda row: row[4], default=(0, 0, 0, 0, 0))
    return (x, y, w, h) if area > 200 else None


def main(source: str, detect=moving) -> None:
    tracker, tracking = Tracker("pico"), False
    for frame in frames_from_source(source):
        if tracking:
            tracking, box = tracker.update(frame.image)
            if not tracking:  # lost: the detector looks in the next frame, and compares it with this one
                detect(frame.image)
        elif box := detect(frame.image):
            tracker.init(frame.image, box)
            tracking = True
        print(f"frame {frame.index}: {[round(v) for v in box] if tracking else 'nothing'}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:]) if sys.argv[1:] else sys.exit(__doc__)
    except (ValueError, OSError) as error:  # fartrack's InputError is a ValueError
        sys.exit(str(error))

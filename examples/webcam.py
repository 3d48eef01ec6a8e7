"""Follow something on a webcam and draw it again when it is lost.  python examples/webcam.py [0 [new.mp4]]"""

import sys
import time
from pathlib import Path

from fartrack import Tracker
from fartrack.video.draw import draw_result
from fartrack.video.reader import frames_from_source
from fartrack.video.select import select_box
from fartrack.video.writer import VideoWriter

PATIENCE = 30  # frames without the target before it is drawn again


def main(source: str = "0", output: str = "") -> None:
    output = output or time.strftime("webcam-%Y%m%d-%H%M%S.mp4")  # an earlier take cannot be made again
    if Path(output).exists():  # it may be the source
        sys.exit(f"{output} is there already: give another name")
    tracker, lost = Tracker("pico"), PATIENCE  # so it begins with drawing
    with (
        frames_from_source(source) as frames,
        VideoWriter(output, frames.width, frames.height, fps=frames.fps) as video,
    ):
        for frame in frames:  # until Ctrl-C
            if lost >= PATIENCE:
                box = select_box(frame.image)  # prints the address of a page to draw on
                tracker.init(frame.image, box)
                found, lost = True, 0
            else:
                found, box = tracker.update(frame.image)
                lost = 0 if found else lost + 1
            print(f"frame {frame.index}: {'at' if found else 'lost near'} {[round(v) for v in box]}")
            video.write(draw_result(frame.image, box, tracker.score, frame.index, found), frame.time)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ValueError, OSError) as error:  # fartrack's InputError is a ValueError
        sys.exit(str(error))

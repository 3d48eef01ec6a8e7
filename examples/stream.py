"""Follow a target on a camera; connect again when it breaks.  python examples/stream.py rtsp://... 310,120,80,140"""

import itertools
import sys
import time

from fartrack import InputError, Tracker
from fartrack.video.reader import frames_from_source


def main(address: str, box: str, attempts: int | str | None = None, wait: float | str = 2.0) -> None:
    tracker = Tracker("pico")
    size = None  # of the frames the tracker was started on
    for attempt in itertools.count(1):
        try:
            with frames_from_source(address) as frames:
                for frame in frames:
                    if size != (frames.width, frames.height):  # the first frame, or the camera changed its mode
                        try:
                            tracker.init(frame.image, [float(v) for v in box.split(",")])
                        except ValueError as error:  # another attempt would not mend the box
                            sys.exit(str(error))
                        size = (frames.width, frames.height)
                        continue
                    found, (x, y, w, h) = tracker.update(frame.image)  # after a break it goes on where it was
                    print(f"{frame.time:.2f} {x:.0f},{y:.0f},{w:.0f},{h:.0f} {tracker.score:.2f} {found}", flush=True)
            print("the stream ended", file=sys.stderr)
        except InputError as error:  # cannot be opened, or breaks off
            print(error, file=sys.stderr)
        if attempts is not None and attempt >= int(attempts):  # they are text when they come from the shell
            return
        time.sleep(float(wait))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:]) if sys.argv[2:] else sys.exit(__doc__)
    except (ValueError, OSError) as error:  # fartrack's InputError is a ValueError
        sys.exit(str(error))

"""Only the newest frame of a camera, so nothing queues up.  python examples/newest.py rtsp://... 310,120,80,140"""

import contextlib
import queue
import sys
import threading

from fartrack import Tracker
from fartrack.video.reader import Frame, frames_from_source


def newest(address: str):
    """Frames of a live source; of those that come while one is worked on, only the last."""
    slot: queue.Queue = queue.Queue(1)

    def read(end=None) -> None:
        try:
            with frames_from_source(address) as frames:
                for frame in frames:
                    with contextlib.suppress(queue.Empty):
                        slot.get_nowait()  # nobody took it
                    slot.put(frame)
        except Exception as error:  # cannot be opened, or breaks off
            end = error
        slot.put(end)

    threading.Thread(target=read, daemon=True).start()
    while isinstance(frame := slot.get(), Frame):
        yield frame
    if frame:
        raise frame


if __name__ == "__main__":
    try:
        tracker, frames = Tracker("pico"), newest(sys.argv[1]) if sys.argv[2:] else sys.exit(__doc__)
        tracker.init(next(frames).image, [float(v) for v in sys.argv[2].split(",")])
        for frame in frames:
            print(f"{frame.time:.2f}", *tracker.update(frame.image), flush=True)
    except (ValueError, OSError) as error:  # fartrack's InputError is a ValueError
        sys.exit(str(error))

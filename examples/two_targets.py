"""Two targets at once.  python examples/two_targets.py video.mp4 new.mp4 10,20,50,60 200,80,40,90 (with supervision)"""

import sys
from pathlib import Path

import supervision

from fartrack import MultiTracker, to_supervision
from fartrack.video.reader import frames_from_source
from fartrack.video.writer import VideoWriter


def main(source: str = "", output: str = "", *boxes: str) -> None:
    if not output.endswith(".mp4") or not boxes:
        sys.exit(__doc__)
    if Path(output).exists():  # it may be the source
        sys.exit(f"{output} is there already: give another name")
    tracker = MultiTracker("pico")
    outlines, names = supervision.BoxAnnotator(), supervision.LabelAnnotator()
    with (
        frames_from_source(source) as frames,
        VideoWriter(output, frames.width, frames.height, fps=frames.fps) as video,
    ):
        for box in boxes:
            tracker.add(frames.first.image, [float(v) for v in box.split(",")])
        next(frames)
        for frame in frames:
            targets = tracker.update(frame.image)  # {id: (found, box, score)}
            found = to_supervision(targets)
            labels = [f"{id} {score:.2f}" for id, score in zip(found.tracker_id, found.confidence, strict=True)]
            video.write(names.annotate(outlines.annotate(frame.image.copy(), found), found, labels), frame.time)
            said = [f"{id} {'at' if ok else 'lost near'} {[*map(round, box)]}" for id, (ok, box, _) in targets.items()]
            print(f"frame {frame.index}: {', '.join(said)}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ValueError, OSError) as error:  # fartrack's InputError is a ValueError
        sys.exit(str(error))

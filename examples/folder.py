"""Track in every video of a folder.  python examples/folder.py videos/ results/

The first box of videos/dog.mp4 stands in videos/dog.txt as `x,y,w,h`; results/dog.csv and results/dog.xml come out.
"""

import sys
from pathlib import Path

from fartrack import Tracker, track
from fartrack.formats import Box, Track, Video, write_boxes
from fartrack.video.reader import frames_from_source


def main(videos: str, results: str) -> int:
    tracker = Tracker("pico")  # loaded once, started anew for every video
    failed = 0
    for path in sorted(Path(videos).glob("*.mp4")):
        boxes: list[Box] = []
        try:
            start = [float(v) for v in path.with_suffix(".txt").read_text().split(",")]
            frames = frames_from_source(path)
            for r in track(frames, start, tracker=tracker):
                boxes.append(Box(r.frame, *r.box, r.score, r.found))
        except (ValueError, OSError) as error:  # the others go on; fartrack's InputError is a ValueError
            print(f"{path.name} or its .txt: {error}", file=sys.stderr)
            failed += 1
        if boxes:
            video = Video(path.name, frames.width, frames.height, float(frames.fps), len(boxes))
            targets = [Track(1, "target", tuple(boxes))]
            write_boxes("csv", Path(results, f"{path.stem}.csv"), targets, video)
            write_boxes("cvat", Path(results, f"{path.stem}.xml"), targets, video)
            print(f"{path.name}: {len(boxes)} frames, found in {sum(box.found for box in boxes)}")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(*sys.argv[1:3]), 1) if sys.argv[2:] else __doc__)

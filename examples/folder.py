"""Track in every video of a folder.  python examples/folder.py videos/ results/

The first box of videos/dog.mp4 stands in videos/dog.txt as `x,y,w,h`; results/dog.csv and results/dog.xml come out.
Where there is a dog.mov as well, they are dog.mp4.txt, dog.mp4.csv, ... and dog.mov.txt, dog.mov.csv, ...
"""

import sys
from pathlib import Path

from fartrack import Tracker, track
from fartrack.formats import Box, Track, Video, write_boxes
from fartrack.video.reader import frames_from_source


def main(videos: str, results: str) -> int:
    paths = sorted(p for p in Path(videos).glob("*") if p.suffix.lower() in (".mp4", ".mkv", ".mov", ".avi"))
    stems = [p.stem.lower() for p in paths] or sys.exit(f"{videos} is no folder with .mp4, .mkv, .mov or .avi files")
    tracker, failed = Tracker("pico"), 0  # loaded once, started anew for every video
    for path in paths:
        name = path.stem if stems.count(path.stem.lower()) == 1 else path.name
        boxes: list[Box] = []
        try:
            start = [float(v) for v in path.with_name(f"{name}.txt").read_text().split(",")]
            frames = frames_from_source(path)
            for r in track(frames, start, tracker=tracker):
                boxes.append(Box(r.frame, *r.box, r.score, r.found))
        except (ValueError, OSError) as error:  # the others go on; fartrack's InputError is a ValueError
            print(f"{path.name} or its .txt: {error}", file=sys.stderr)
            failed += 1
        if boxes:
            video = Video(path.name, frames.width, frames.height, float(frames.fps), len(boxes))
            targets = [Track(1, "target", tuple(boxes))]
            write_boxes("csv", Path(results, f"{name}.csv"), targets, video)
            write_boxes("cvat", Path(results, f"{name}.xml"), targets, video)
            print(f"{path.name}: {len(boxes)} frames, found in {sum(box.found for box in boxes)}")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(*sys.argv[1:3]), 1) if sys.argv[2:] else __doc__)

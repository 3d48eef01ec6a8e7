"""What `fartrack track` needs for labelling: corrections to start from, and formats to write at the end."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from fartrack import corrections
from fartrack.cli.parse import parse_labels
from fartrack.errors import InputError
from fartrack.files import readable
from fartrack.formats import FORMATS, Box, Track, Video, read_boxes, write_boxes, yolo
from fartrack.formats.tracks import check_tracks
from fartrack.tracking import Result, SingleTracker
from fartrack.video.reader import VideoSource, frames_from_source


class Corrections:
    """The boxes of a person for one or several targets of a video."""

    def __init__(
        self, path: Path, before: Path | None, source: str, frames: VideoSource, labels: Sequence[str]
    ) -> None:
        """Read and check them, and leave out what was the same in `before`.

        `frames` is `source` opened. `labels`, one for all targets or one for each in the order of their ids, are for
        those that have none in either file.
        """
        self.source = source
        if frames.live:
            raise InputError(f"--boxes {path}: corrections need a recorded video, {frames.name} is live")
        video = _video(frames, frames.name)
        tracks = read_boxes(path, video)
        last = max(box.frame for track in tracks for box in track.boxes)
        if frames.count is not None and last >= frames.count:
            # Some containers only guess how many frames there are, so they are counted before anyone is blamed.
            with frames_from_source(source) as again:
                check_tracks(tracks, replace(video, frames=sum(1 for _ in again)), str(path))
        old = dict.fromkeys(track.id for track in tracks)
        if before is not None:
            old |= _paired(tracks, read_boxes(before, video), f"{path} and {before}")
        names = dict(zip(sorted(old), parse_labels(labels, len(tracks)), strict=True))
        self.tracks = [replace(t, label=_label(t, old[t.id], names[t.id])) for t in tracks]
        self.keyframes = {t.id: corrections.keyframes_of(t, old[t.id]) for t in tracks}
        for id, keyframes in self.keyframes.items():
            if all(box is None for box in keyframes.values()):
                raise InputError(f"{path}: target {id} has no box to track from; draw one, or delete the target")
            corrections.check_keyframes(keyframes, frames)  # while nothing is written yet

    def track(self, frames: VideoSource, tracker_factory: Callable[[], SingleTracker]) -> Generator[tuple[Result, ...]]:
        """The results of all targets, frame by frame. With several targets the video is opened once for each."""
        sources = [frames, *(frames_from_source(self.source, frames.first.index) for _ in self.tracks[1:])]
        share = corrections.MEMORY // len(self.tracks)
        with ExitStack() as stack:
            runs = []
            for source, track in zip(sources, self.tracks, strict=True):
                run = corrections.track_between(source, self.keyframes[track.id], tracker_factory, memory=share)
                runs.append(stack.enter_context(closing(run)))
            yield from zip(*runs, strict=True)


def _paired(tracks: Sequence[Track], before: Sequence[Track], where: str) -> dict[int, Track | None]:
    """Each target as it was, None for a new one.

    Tools give new ids (CVAT counts from 0) and leave no gap where a target was deleted, so the boxes that did not
    change say most; the others go by id and label. Only where that finds no target at all the order counts.
    """
    unchanged = {(track.id, old.id): _unchanged(track, old) for track in tracks for old in before}
    pairs = [(track, old) for track in tracks for old in before]
    pairs.sort(key=lambda pair: (-unchanged[pair[0].id, pair[1].id], not _alike(*pair), pair[0].id != pair[1].id))
    paired: dict[int, Track | None] = {}
    taken: set[int] = set()
    for track, old in pairs:
        same = unchanged[track.id, old.id] > 0 or (track.id == old.id and _alike(track, old))
        if same and track.id not in paired and old.id not in taken:
            paired[track.id] = old
            taken.add(old.id)
    if paired:
        return paired
    if len(tracks) != len(before):
        raise InputError(
            f"{where}: {len(tracks)} and {len(before)} targets, none of them in both; give files of the same targets"
        )
    ordered = (sorted(some, key=lambda track: track.id) for some in (tracks, before))
    return {track.id: old for track, old in zip(*ordered, strict=True)}


def _label(track: Track, old: Track | None, name: str) -> str:
    """What a target is called, `name` where neither its file nor the one before says so."""
    return next((one.label for one in (track, old) if one is not None and one.label != "target"), name)


def _unchanged(track: Track, old: Track) -> int:
    """In how many frames both have the same box."""
    boxes = {box.frame: box for box in old.boxes}
    return sum(box.frame in boxes and corrections.same_place(box, boxes[box.frame]) for box in track.boxes)


def _alike(track: Track, old: Track) -> bool:
    """Whether the labels agree; formats without labels say "target"."""
    return track.label == old.label or "target" in (track.label, old.label)


def _video(frames: VideoSource, name: str, count: int = 0) -> Video:
    """What the formats need to know of a video; its names can be written anywhere."""
    images = tuple(readable(image) for image in frames.images)
    return Video(readable(name), frames.width, frames.height, float(frames.fps), count, images)


class Labels:
    """Collects the results of all targets and writes them in the formats asked for."""

    def __init__(
        self, folder: Path, formats: Sequence[str], targets: Sequence[tuple[int, str]], frames: VideoSource
    ) -> None:
        """`targets` are (id, label), in the order of the results that `add` gets."""
        self.folder, self.frames, self.targets = folder, frames, targets
        self.formats = [name for name in formats if name != "csv"]  # that one is written row by row
        self.boxes: list[list[Box]] = [[] for _ in targets]
        self.last = -1
        self.stem = yolo.stem_of(_video(frames, frames.name))

    def add(self, results: Sequence[Result]) -> None:
        """Take in one frame."""
        if not self.formats:
            return
        if self.last < 0 and "yolo" in self.formats:
            yolo.clear(self.folder / FORMATS["yolo"].target)
        self.last = results[0].frame
        for boxes, result in zip(self.boxes, results, strict=True):
            boxes.append(Box(result.frame, *result.box, result.score, result.found))
        if "yolo" in self.formats:
            yolo.write_image(self.folder / FORMATS["yolo"].target, self.last, results[0].image, self.stem(self.last))

    def write(self, format: str, finished: bool) -> Path | None:
        """Write what was collected in one format; `finished` says whether the video came to its end."""
        if self.last < 0:
            return None
        count = self.last + 1 if finished else max(self.last + 1, self.frames.count or 0)
        video = _video(self.frames, Path(self.frames.name).name, count)
        tracks = [Track(id, label, tuple(boxes)) for (id, label), boxes in zip(self.targets, self.boxes, strict=True)]
        return write_boxes(format, self.folder / FORMATS[format].target, tracks, video)

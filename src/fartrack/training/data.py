"""What a run trains on: packs that stay in memory, data sets that do too or are streamed in large shares.

A streamed share is a pack like any other, decoded by worker threads while the one before is trained on. So sampling,
augmentation and losses know nothing of where pictures come from, and the share of a step is always the same one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch

from fartrack.errors import InputError
from fartrack.training.cache import read_cached
from fartrack.training.pack import Levels, Pack, Row, Tally, assemble, empty_pack, pyramid, shows
from fartrack.training.readers import READERS, Listing, Recording
from fartrack.training.synth import Sampler

log = logging.getLogger(__name__)

VARIABLE = "FARTRACK_DATA"
MAX_SIDE, LARGEST, TARGET = 640, 1280, 64
"""Pictures cut out of a data set's frames are shrunk to the first, but a target not below the last: search crops show
it at about that size, and one enlarged again would be blurred as no video is. The second is the limit for both."""
REACH = 10.0
"""Side of that cut around a target, in multiples of its size; drawn search crops rarely need more."""
BYTES, BYTES_OF_TRACKS = 2e6, 4e6
"""What a picture takes in memory, in all its sizes, about: cut around its target, or around all of its track."""
HELD_OUT = 20
"""Of a thousand recordings, or tracks and stills of a pack, how many are never trained on."""


class Supply(Protocol):
    """Where samples come from."""

    fingerprint: str

    def at(self, step: int) -> Sampler:
        """What a step's samples are drawn from."""
        ...

    def all_at(self, step: int) -> list[Sampler]:
        """What a step's clips are drawn from, where each may come from another: all that `at` takes in turn."""
        ...

    def reads(self, step: int) -> bool:
        """Whether a step is the first that needs data which may yet turn out to be broken."""
        ...

    @property
    def held_out(self) -> Sampler:
        """What measuring draws from: never trained on."""
        ...

    def to(self, device: torch.device) -> Supply:
        """The same with its pictures on another device."""
        ...


class Resident:
    """One pack for the whole run."""

    def __init__(self, pack: Pack, held_out: Pack | None = None) -> None:
        self.pack = pack
        self.fingerprint = pack.fingerprint
        share = HELD_OUT / 1000 if held_out is None else 0.0
        self._train = Sampler(pack, share)
        self.held_out = Sampler(pack, share, train=False) if held_out is None else Sampler(held_out, 0.0)

    def at(self, step: int) -> Sampler:
        """Always the same."""
        return self._train

    def all_at(self, step: int) -> list[Sampler]:
        """That one."""
        return [self._train]

    def reads(self, step: int) -> bool:
        """All of it has been read."""
        return False

    def to(self, device: torch.device) -> Resident:
        """Move pictures and tables."""
        self.pack = self.pack.to(device)
        pack = self.pack if self.held_out.pack is self._train.pack else self.held_out.pack.to(device)
        self._train, self.held_out = self._train.to(device, self.pack), self.held_out.to(device, pack)
        return self


class Streamed:
    """A share of the recordings for some steps, then another; the next one is decoded meanwhile."""

    def __init__(
        self, listings: Sequence[Listing], *, memory: float, steps: int, workers: int, seed: int, gap: int,
        tracks: bool = False, rank: int = 0,
    ) -> None:  # fmt: skip
        """Prepare; the first share is decoded when the first step asks for it.

        Args:
            listings: the data sets.
            memory: GB for the share in use and the next one together.
            steps: for how many steps a share is used.
            workers: decoding threads.
            seed: of the run.
            gap: frames that the pictures drawn of a recording lie apart at most.
            tracks: whole runs of frames in one fixed window, for sequences, instead of frames around their target.
            rank: of this process; each draws its own shares.
        """
        self.steps, self.workers, self.seed, self.gap, self.tracks, self.rank = steps, workers, seed, gap, tracks, rank
        self.pictures = max(64, int(memory * 1e9 / picture_bytes(tracks) / 2))
        self.fingerprint = fingerprint(listings)
        apart = held_out_videos([one for each in listings for one in each.recordings])

        def of_each(measured: bool) -> list[list[Recording]]:
            parts = ([one for one in each.recordings if (_video(one) in apart) is measured] for each in listings)
            return [part for part in parts if part]

        self._sources = of_each(measured=False)
        self._device = torch.device("cpu")
        self._pool = ThreadPoolExecutor(1, "share")
        self._shares: dict[int, Future[Sampler]] = {}
        self._tally = Tally()
        jobs = draw_jobs(of_each(measured=True), min(2000, self.pictures), np.random.default_rng(0), gap, tracks)
        held = empty_pack()
        with suppress(InputError):  # not one picture of them: nothing is measured, least of all on what is trained on
            held = decode_jobs(jobs, workers, tracks, self._tally, judge=False)
        self.held_out = Sampler(held, 0.0)

    def at(self, step: int) -> Sampler:
        """The share of a step; the next one is begun."""
        number = step // self.steps
        for wanted in (number, number + 1):
            if wanted not in self._shares:
                self._shares[wanted] = self._pool.submit(self._share, wanted)
        self._shares = {k: v for k, v in self._shares.items() if k in (number, number + 1)}
        return self._shares[number].result()

    def all_at(self, step: int) -> list[Sampler]:
        """That share."""
        return [self.at(step)]

    def reads(self, step: int) -> bool:
        """At the first step of each share."""
        return step % self.steps == 0

    def _share(self, number: int) -> Sampler:
        rng = np.random.default_rng([self.seed, number, self.rank])
        jobs = draw_jobs(self._sources, self.pictures, rng, self.gap, self.tracks)
        pack = decode_jobs(jobs, self.workers, self.tracks, self._tally)
        return Sampler(pack, 0.0).to(self._device, pack.to(self._device))

    def to(self, device: torch.device) -> Streamed:
        """Shares will be moved when they are decoded."""
        self._device = device
        self.held_out = self.held_out.to(device, self.held_out.pack.to(device))
        return self


class Mixed:
    """Several supplies in turn, one for each step."""

    def __init__(self, parts: Sequence[Supply]) -> None:
        self.parts = list(parts)
        self.fingerprint = "+".join(part.fingerprint for part in parts)

    def at(self, step: int) -> Sampler:
        """The turn of a step."""
        return self.parts[step % len(self.parts)].at(step // len(self.parts))

    def all_at(self, step: int) -> list[Sampler]:
        """One of each."""
        return [sampler for part in self.parts for sampler in part.all_at(step)]

    def reads(self, step: int) -> bool:
        """When one does, whether it is asked in turn or with the others."""
        return any(part.reads(step) or part.reads(step // len(self.parts)) for part in self.parts)

    @property
    def held_out(self) -> Sampler:
        """Of the first one that has tracks there, which the sequence level needs, else of the first that has any."""
        return max((part.held_out for part in self.parts), key=lambda held: (len(held.track_start) > 0, not held.empty))

    def to(self, device: torch.device) -> Mixed:
        """Move all."""
        self.parts = [part.to(device) for part in self.parts]
        return self


# -- recordings -> a pack --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """Frames of one recording to decode."""

    recording: Recording
    frames: tuple[int, ...]


def picture_bytes(tracks: bool) -> float:
    """What a picture takes in memory, about."""
    return BYTES_OF_TRACKS if tracks else BYTES


def is_held_out(recording: Recording) -> bool:
    """Whether a recording is for measuring only: a matter of its video's name, not of what else is there."""
    return _lot(_video(recording)) % 1000 < HELD_OUT


def held_out_videos(recordings: Sequence[Recording]) -> set[str]:
    """Videos (and pictures) that are for measuring only; of a small set whose names choose none, as many by lot."""
    sources: dict[str, list[Recording]] = {}
    for recording in recordings:
        sources.setdefault(recording.source, []).append(recording)
    apart: set[str] = set()
    for some in sources.values():
        chosen = {_video(one) for one in some if is_held_out(one)}
        videos = {_video(one) for one in some}
        if not chosen and HELD_OUT and len(videos) > 1:
            chosen = set(sorted(videos, key=_lot)[: max(1, len(videos) * HELD_OUT // 1000)])
        apart |= chosen
    return apart


def _video(recording: Recording) -> str:
    return f"{recording.source}/{recording.video or recording.name}"


def _lot(video: str) -> int:
    return int.from_bytes(hashlib.sha256(video.encode()).digest()[:4], "big")


def fingerprint(listings: Sequence[Listing]) -> str:
    """A digest of names and annotations."""
    digest = hashlib.sha256()
    for listing in listings:
        for recording in listing.recordings:
            digest.update(f"{recording.source}/{recording.name}".encode() + recording.boxes.tobytes())
    return digest.hexdigest()[:16]


def all_jobs(listings: Sequence[Listing]) -> list[Job]:
    """Every frame with a box."""
    recordings = (recording for listing in listings for recording in listing.recordings)
    return [Job(one, (0,) if one.still else tuple(_seen(one).tolist())) for one in recordings]


def draw_jobs(
    sources: Sequence[Sequence[Recording]], pictures: int, rng: np.random.Generator, gap: int, tracks: bool
) -> list[Job]:
    """About so many pictures, evenly over the sources (as the paper's 1:1:1:1), a few of each recording drawn."""
    jobs = []
    span = 63 if tracks else gap
    for recordings in sources:
        room = pictures // len(sources)
        for number in rng.permutation(len(recordings)).tolist():  # a small source is gone through once
            if room <= 0:
                break
            recording, frames = recordings[number], (0,)
            if not recording.still:
                seen = _seen(recording)
                anchor = int(seen[int(rng.integers(len(seen)))])  # so that what follows a gap is drawn too
                start = max(int(seen[0]), min(anchor - int(rng.integers(span + 1)), int(seen[-1]) - span))
                window = seen[(seen >= start) & (seen <= start + span)]
                count = len(window) if tracks else min(len(window), 10)
                frames = tuple(np.sort(rng.choice(window, count, replace=False)).tolist())
            jobs.append(Job(recording, frames))
            room -= len(frames)
    return jobs


def decode_jobs(
    jobs: Sequence[Job], workers: int, tracks: bool = False, tally: Tally | None = None, judge: bool = True
) -> Pack:
    """Decode frames into a pack; what is broken is skipped and named.

    Args:
        jobs: what to decode.
        workers: threads.
        tracks: whole runs of frames in one fixed window.
        tally: of what is broken in other parts of the same data.
        judge: stop when more than one in a hundred are broken so far.

    Raises:
        InputError: more than one in a hundred are broken.
    """

    def decoded() -> Iterator[tuple[Row, Levels | str]]:
        with ThreadPoolExecutor(workers) as pool:
            for number, rows in enumerate(pool.map(lambda job: _decode(job, tracks), jobs)):
                for row, levels in rows:
                    if "track" in row:  # a recording drawn twice is two tracks
                        row["track"]["id"] += f"#{number}"
                    yield row, levels

    return assemble(decoded(), tally, judge)


def _seen(recording: Recording) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.isfinite(recording.boxes).all(1))


def _decode(job: Job, tracks: bool) -> list[tuple[Row, Levels | str]]:
    recording = job.recording
    result: list[tuple[Row, Levels | str]] = []
    try:
        frames = recording.frames()
    except InputError as error:
        broken: Row = {"file": f"{recording.source}/{recording.name}"}
        return [(broken, str(error))] * len(job.frames)  # each of them
    of_target = recording.boxes[list(job.frames)]
    window = _around(of_target) if tracks and not recording.still else None
    target = np.inf if recording.still else max(8.0, float(np.nanmedian(of_target[:, 2:].prod(1)) ** 0.5))
    for index in job.frames:
        row: Row = {"file": f"{recording.source}/{recording.name}/{index}", "source": recording.source}
        try:
            image = frames[index]
            size = image.shape[:2]
            owner = np.zeros(size, np.uint8) if recording.mask is None else recording.mask(index, size)
        except InputError as error:
            result.append((row, str(error)))
            continue
        boxes = recording.boxes if recording.still else recording.boxes[index : index + 1]
        where = (-1e9, -1e9, 1e9, 1e9) if recording.still else window or _around(boxes)
        image, owner, boxes = _cut(image, owner, boxes, where, target)
        masked = {} if recording.mask is None else {"mask": 1}
        row["objects"] = [
            {"box": box, "class": kind} | ({"mask": i} if masked and (owner == i).any() else {})
            for i, (box, kind) in enumerate(zip(boxes.tolist(), recording.kinds, strict=True), 1)
            if np.isfinite(box).all() and shows(box, *image.shape[1::-1])  # some sets carry boxes on outside
        ]
        if not recording.still:
            row["track"] = {"id": f"{recording.source}/{recording.name}", "frame": index}
        result.append((row, pyramid(image, owner)))
    return result


def _around(boxes: npt.NDArray[np.float32]) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 with room around all of the boxes for search crops."""
    room = 0.5 * (REACH - 1) * np.sqrt(boxes[:, 2:].prod(1, keepdims=True)).clip(4)
    low, high = (boxes[:, :2] - room).min(0), (boxes[:, :2] + boxes[:, 2:] + room).max(0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _cut(
    image: npt.NDArray[np.uint8],
    owner: npt.NDArray[np.uint8],
    boxes: npt.NDArray[np.float32],
    where: tuple[float, float, float, float],
    target: float,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """A window of a frame, shrunk, with its boxes; `target` is the side of what must stay recognisable."""
    height, width = image.shape[:2]
    x0, y0 = max(0, int(where[0])), max(0, int(where[1]))
    x1, y1 = min(width, int(min(where[2], width)) + 1), min(height, int(min(where[3], height)) + 1)
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    image, owner = image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)], owner[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    boxes = boxes - np.array([x0, y0, 0, 0], np.float32)
    side = max(image.shape[:2])
    scale = min(1.0, LARGEST / side, max(MAX_SIDE / side, TARGET / target))
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        ratio = np.array([size[0] / image.shape[1], size[1] / image.shape[0]] * 2, np.float32)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        owner = np.asarray(cv2.resize(owner, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        boxes = boxes * ratio
    return image, owner, boxes


# -- opening ---------------------------------------------------------------------------------------------------


def find_data(specs: Sequence[str], environment: Mapping[str, str] | None = None) -> list[tuple[str, Path]]:
    """(reader's name, folder) of each data set asked for; "pack" is our own format.

    Args:
        specs: ``NAME=DIR``, or a folder of shards, or a shard; none means whatever is in $FARTRACK_DATA.
        environment: in place of `os.environ`.

    Raises:
        InputError: nothing is given, or a name is unknown.
        FileNotFoundError: a path does not exist.
    """
    known = {**{_plain(name): name for name in READERS}, "pack": "pack", "ytvos": "youtube-vos", "coco2017": "coco"}
    if specs:
        found = []
        for spec in specs:
            name, equals, path = spec.partition("=")
            if not equals:
                name, path = "pack", spec
            if _plain(name) not in known:
                raise InputError(f"--data {spec}: {name!r} is unknown: choose one of pack, {', '.join(READERS)}")
            if not Path(path).exists():
                raise FileNotFoundError(f"--data {spec}: {path} does not exist: check the path")
            found.append((known[_plain(name)], Path(path)))
        return found
    given = (environment if environment is not None else os.environ).get(VARIABLE)
    if not given:
        raise InputError(f"no training data: give --data DIR (shards) or --data NAME=DIR, or set {VARIABLE}")
    root = Path(given).expanduser() if given.startswith("~/") else Path(given)
    if not root.is_dir():
        raise FileNotFoundError(f"{VARIABLE}={root} is not a folder: check the path")
    if any(root.glob("*.tar")):
        return [("pack", root)]
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
    found = [(known[_plain(folder.name)], folder) for folder in folders if _plain(folder.name) in known]
    if not found:
        raise InputError(
            f"{VARIABLE}={root} holds no data set: folders named pack, {', '.join(READERS)} were looked for"
        )
    return found


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def open_data(
    specs: Sequence[str], *, memory: float = 24.0, steps: int = 200, workers: int = 4, seed: int = 0, gap: int = 300,
    tracks: bool = False, rank: int = 0, cache: Path | None = None,
) -> Supply:  # fmt: skip
    """Open data sets: those that fit stay in memory, the others are streamed. What was found is logged.

    Raises:
        InputError: nothing is given or found, or more than 1 % of it is broken.
        FileNotFoundError: a path does not exist.
    """
    found = find_data(specs)
    packs = [path for name, path in found if name == "pack"]
    parts: list[Supply] = []
    if packs:
        pack = read_cached(packs, workers, cache)
        log.info("%s", describe_pack(pack))
        parts.append(Resident(pack))
    listings = [READERS[name](path, workers) for name, path in found if name != "pack"]
    for listing in listings:
        log.info("%s", listing.summary())
        Tally().add(listing.broken, len(listing.recordings) + len(listing.broken), f"sequences of {listing.source}")
    if listings:
        jobs = all_jobs(listings)
        if sum(len(job.frames) for job in jobs) * picture_bytes(tracks) < memory * 1e9:
            apart = held_out_videos([job.recording for job in jobs])
            train = [job for job in jobs if _video(job.recording) not in apart]
            held = [job for job in jobs if _video(job.recording) in apart]
            tally = Tally()  # two in a hundred recordings are too few to judge by
            kept_out = None
            with suppress(InputError):  # not one picture of them: a share of the others is held out
                kept_out = decode_jobs(held, workers, tracks, tally, judge=False) if held else None
            kept = decode_jobs(train, workers, tracks, tally)
            kept.fingerprint = fingerprint(listings)
            parts.append(Resident(kept, kept_out))
        else:
            log.info("streaming: %d pictures do not fit into %g GB", sum(len(job.frames) for job in jobs), memory)
            streamed = Streamed(
                listings, memory=memory, steps=steps, workers=workers, seed=seed, gap=gap, tracks=tracks, rank=rank
            )
            parts.append(streamed)
    return parts[0] if len(parts) == 1 else Mixed(parts)


def describe_pack(pack: Pack) -> str:
    """One line for the start of a run."""
    tracks = int(pack.objects.track.max()) + 1 if len(pack.objects.track) else 0
    skipped = f", {len(pack.skipped):,} BROKEN" if pack.skipped else ""
    counts = f"{len(pack.files):,} pictures, {len(pack.objects.picture):,} objects, {tracks:,} tracks"
    return f"pack: {counts} of {len(pack.sources)} sources{skipped}"

"""Trackers for other processes: what they are told to do lies in files, so that every process can see it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from template_tracker import TemplateTracker


@dataclass(frozen=True)
class Counting:
    """Makes a real tracker that leaves a file in `folder` for every sequence it starts."""

    folder: str
    threads: int = 1

    def __call__(self):
        return _CountingTracker(self.folder)


class _CountingTracker(TemplateTracker):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def init(self, frame, box):
        leave_mark(self.folder, "start")
        super().init(frame, box)


def leave_mark(folder, name):
    """A new file for each call, also when two processes call at the same time."""
    for number in range(1000):
        try:
            Path(folder, f"{name}-{number}").touch(exist_ok=False)
            return number
        except FileExistsError:
            continue
    raise RuntimeError


@dataclass(frozen=True)
class Dying(Counting):
    """The first `deaths` sequences that are started kill the process that runs them."""

    deaths: int = 1

    def __call__(self):
        return _DyingTracker(self.folder, self.deaths)


class _DyingTracker(_CountingTracker):
    def __init__(self, folder, deaths):
        super().__init__(folder)
        self.deaths = deaths

    def init(self, frame, box):
        super().init(frame, box)
        if leave_mark(self.folder, "turn") < self.deaths:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


@dataclass(frozen=True)
class Stuck(Counting):
    """Never ends the sequence that comes after so many, so that somebody can kill it there, however late."""

    after: int = 2

    def __call__(self):
        return _StuckTracker(self.folder, self.after)


class _StuckTracker(_CountingTracker):
    def __init__(self, folder, after):
        super().__init__(folder)
        self.after = after

    def update(self, frame):
        if self.started > self.after:
            time.sleep(3600)
        return super().update(frame)


class FailsOnSecond(TemplateTracker):
    """Raises in the third frame of the second sequence it starts."""

    def init(self, frame, box):
        super().init(frame, box)
        self.frames = 0

    def update(self, frame):
        self.frames += 1
        if self.started == 2 and self.frames == 2:
            raise RuntimeError("no more\nideas")
        return super().update(frame)


class NoScore:
    """Has init and update and nothing else."""

    def init(self, frame, box):
        self.box = box

    def update(self, frame):
        return True, self.box


class GivesNaN(NoScore):
    def update(self, frame):
        return True, (float("nan"), 0.0, 1.0, 1.0)


class GivesNegative(NoScore):
    def update(self, frame):
        return True, (1.0, 2.0, -3.0, 4.0)


class SureBeyondMeasure(NoScore):
    score = float("inf")

"""One-pass evaluation: start on the first frame's box, follow to the end, write the boxes down.

Only the process that calls `evaluate` writes files, each sequence once and whole. So a killed run goes on where it
was, several workers give the same bytes as one, and a worker that dies loses nothing: its sequence is done again.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import signal
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from fartrack.errors import InputError, gist
from fartrack.evaluation.annotations import read_boxes
from fartrack.evaluation.peers import TrackerLike, score_of
from fartrack.evaluation.results import Pass, write_pass
from fartrack.evaluation.sequences import Dataset, Sequence
from fartrack.files import clear_leftovers, write_whole
from fartrack.signals import handled

TrackerFactory = Callable[[], TrackerLike]
Tell = Callable[["Event"], None]
RETRIES = 2
"""How often a sequence is given to another worker after its worker died."""
TELL_EVERY = 0.5
"""Seconds from one event of a sequence's frames to the next."""
SETTINGS, FAILURES = "run.json", "failures.txt"


@dataclass(frozen=True)
class Event:
    """Something happened to a sequence: some frames are done, it is done, or it failed."""

    kind: Literal["frames", "done", "failed"]
    name: str
    frames: int = 0
    total: int = 0
    result: Pass | None = None
    reason: str = ""
    details: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a run went: sequences done now, found done, and failed with the reason."""

    done: tuple[str, ...]
    resumed: tuple[str, ...]
    failed: Mapping[str, str]


def evaluate(
    dataset: Dataset,
    tracker_factory: TrackerFactory,
    out: str | Path,
    workers: int = 1,
    *,
    threads: int = 1,
    ray: str | None = None,
    about: Mapping[str, str] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Outcome:
    """Run a tracker once over every sequence of a data set.

    Args:
        dataset: the sequences.
        tracker_factory: makes the tracker. With several workers or Ray it has to be picklable.
        out: folder of the result files, named as pytracking names them (uav_bike1.txt); sequences whose file is
            there are not run again.
        workers: processes; each runs one sequence at a time.
        threads: CPU threads of each tracker: OpenCV gets as many, and Ray reserves them.
        ray: address of a Ray cluster ("local" starts one here) to run on instead.
        about: what these results belong to. It is kept in `run.json`; a folder that belongs to something else is
            refused.
        on_event: is told what happens.

    Raises:
        InputError: the folder holds results of something else, or the tracker cannot be opened.
    """
    _no_clash(dataset)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, about)
    clear_leftovers(folder)
    resumed = tuple(name for name in dataset.names if (folder / f"{dataset.prefix}{name}.txt").is_file())
    _same_sequences(folder, dataset, resumed)
    pending = [name for name in dataset.names if name not in set(resumed)]
    (folder / FAILURES).unlink(missing_ok=True)

    done: list[str] = []
    failed: dict[str, str] = {}
    details: list[str] = []

    def tell(event: Event) -> None:
        if event.kind == "done" and event.result is not None:
            write_pass(folder, dataset.prefix + event.name, event.result)
            done.append(event.name)
        elif event.kind == "failed":
            failed[event.name] = event.reason
            details.append(f"{event.name}: {event.reason}\n{event.details}\n")
            log = "\n".join(details)
            write_whole(folder / FAILURES, log.encode("utf-8", "backslashreplace"))  # names may be no UTF-8
        if on_event is not None:
            on_event(event)

    runner = _Runner(dataset, tracker_factory, threads)
    if pending and ray is not None:
        _on_ray(runner, pending, ray, tell)
    elif pending and workers > 1:
        tracker_factory()  # a tracker that cannot be opened is one error here, not one for each sequence
        _in_processes(runner, pending, min(workers, len(pending)), tell)
    elif pending:
        _here(runner, pending, tell)
    return Outcome(tuple(done), resumed, failed)


def _claim(folder: Path, about: Mapping[str, str] | None) -> None:
    """Write down what the folder's results belong to, or see that it is the same as before."""
    if about is None:
        return
    path = folder / SETTINGS
    holds_results = any(path.name != FAILURES for path in folder.glob("*.txt"))
    if holds_results and not path.is_file():
        raise InputError(f"{folder}: holds results that do not say whose they are ({SETTINGS}); give another --out")
    if path.is_file():
        before = belongs_to(folder)
        if not before:
            raise InputError(f"{path}: damaged; remove the folder or give another --out")
        differing = [key for key in {**before, **about} if before.get(key) != about.get(key)]
        if differing and holds_results:
            key = differing[0]
            raise InputError(
                f"{folder}: holds results of another run ({key}: {before.get(key)}, now {about.get(key)}); "
                f"remove it or give another --out"
            )
    write_whole(path, json.dumps(dict(about), indent=1) + "\n")


def belongs_to(folder: Path) -> dict[str, str]:
    """What the results in a folder belong to; empty where it does not say, or cannot be read."""
    try:
        return dict(json.loads((folder / SETTINGS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _no_clash(dataset: Dataset) -> None:
    """Times and scores of car lie in car_time.txt and car_score.txt: none may be called so, nor as the log is."""
    names = set(dataset.names)
    for name in dataset.names:
        if f"{dataset.prefix}{name}.txt".lower() == FAILURES:  # some file systems see no difference
            raise InputError(f"{dataset.name}: {FAILURES} is for what fails; give the sequence {name} another name")
        if clash := next((name + end for end in ("_time", "_score") if name + end in names), None):
            raise InputError(
                f"{dataset.name}: results of the sequence {clash} and the times or scores of {name} lie in one file; "
                "rename one of them"
            )


def _same_sequences(folder: Path, dataset: Dataset, names: Iterable[str]) -> None:
    """See that results begin with the box that the data set gives: the same names may be another version of it."""
    for name in names:
        path = folder / f"{dataset.prefix}{name}.txt"
        try:
            given, first = dataset.load(name).start, read_boxes(path)[0]
        except InputError:  # what is damaged, here or there, is said when it is scored
            continue
        if np.abs(first - given).max() > 0.01:
            then, now = (",".join(f"{v:g}" for v in box) for box in (first, given))
            raise InputError(
                f"{path}: is of another version of the data (it begins at {then}, the annotation at {now}); "
                "remove the folder or give another --out"
            )


# --- one sequence -----------------------------------------------------------------------------------------------------


def run_sequence(tracker: TrackerLike, sequence: Sequence, on_frames: Callable[[int], None] | None = None) -> Pass:
    """Follow the target through a sequence. What is timed is `init` and `update`, from decoded frame to box."""
    count = len(sequence)
    boxes, times, scores = np.empty((count, 4)), np.empty(count), np.full(count, np.nan)
    told = time.monotonic()
    index = -1
    for index, image in enumerate(sequence.frames):
        begun = time.perf_counter()
        if index == 0:
            tracker.init(image, sequence.start)
            times[0] = time.perf_counter() - begun
            boxes[0], scores[0] = sequence.start, 1.0
            continue
        answer = tracker.update(image)
        times[index] = time.perf_counter() - begun
        try:
            _, (x, y, w, h) = answer
            boxes[index] = x, y, w, h
        except (TypeError, ValueError):  # those of got10k's toolkit give a box alone, some none where they are lost
            raise InputError(
                f"the tracker gave {answer!r:.80} for frame {index} ({sequence.frames.where(index)}): "
                "found, (x, y, w, h) is needed, also where it is lost"
            ) from None
        score = score_of(tracker)
        scores[index] = np.nan if score is None else score
        if not np.isfinite(boxes[index]).all() or (boxes[index, 2:] < 0).any():  # written down it could not be scored
            raise ValueError(
                f"the tracker gave {(x, y, w, h)} as box of frame {index} ({sequence.frames.where(index)})"
            )
        if on_frames is not None and time.monotonic() - told > TELL_EVERY:
            on_frames(index)
            told = time.monotonic()
    if index + 1 != count:
        raise InputError(f"{sequence.name}: {index + 1} of {count} frames could be read")
    unscored = count > 1 and not bool(np.isfinite(scores[1:]).all())
    return Pass(boxes, times, None if unscored else scores)


class _Runner:
    """Opens the tracker when it is first needed and turns whatever goes wrong with a sequence into an event.

    Until then it can be sent to another process.
    """

    def __init__(self, dataset: Dataset, factory: TrackerFactory, threads: int) -> None:
        self.dataset, self.factory, self.threads = dataset, factory, threads
        self._tracker: TrackerLike | None = None

    def open(self) -> None:
        """Open the tracker."""
        cv2.setNumThreads(self.threads)  # the same bytes however many work here
        self._tracker = self.factory()

    def run(self, name: str, tell: Tell | None = None) -> Event:
        """Run one sequence."""
        try:
            if self._tracker is None:
                self.open()
            assert self._tracker is not None
            sequence = self.dataset.load(name)
            total = len(sequence)
            notify = None if tell is None else (lambda frames: tell(Event("frames", name, frames, total)))
            result = run_sequence(self._tracker, sequence, notify)
            return Event("done", name, total, total, result)
        except (Exception, SystemExit) as error:  # anything: the other sequences go on, and this one is named
            self._tracker = None
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            return Event("failed", name, reason=" ".join(reason.split()), details=traceback.format_exc())


def _here(runner: _Runner, names: list[str], tell: Tell) -> None:
    """One sequence after the other in this process."""
    threads = cv2.getNumThreads()
    try:
        runner.open()
        for name in names:
            tell(runner.run(name, tell))
    finally:
        cv2.setNumThreads(threads)


# --- processes --------------------------------------------------------------------------------------------------------


class _Worker:
    """A process that runs one sequence at a time, and the end of the pipe that talks to it."""

    def __init__(self, runner: _Runner) -> None:
        context = multiprocessing.get_context("spawn")  # forked copies of threads and sessions hang
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, runner), daemon=True)
        with handled(
            signal.SIG_IGN, [signal.SIGINT]
        ):  # which it takes over: a Ctrl-C while it loads is not for it either
            self.process.start()
        theirs.close()
        self.name: str | None = None

    def give(self, name: str) -> None:
        """Hand over a sequence; a worker that is already gone is noticed when its pipe is read."""
        self.name = name
        with suppress(OSError):
            self.pipe.send(name)

    def stop(self) -> None:
        """End it, whatever it does."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _serve(pipe: Connection, runner: _Runner) -> None:
    """Run the sequences that come through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    with suppress(EOFError, OSError):
        while True:
            name = pipe.recv()
            pipe.send(runner.run(name, pipe.send))


def _in_processes(runner: _Runner, names: list[str], count: int, tell: Tell) -> None:
    """Run sequences in `count` processes; one whose process dies is given to a new one, at most `RETRIES` times."""
    waiting = deque(names)
    deaths: dict[str, int] = {}
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.name is not None for worker in workers):
            while waiting and len(workers) < count:
                workers.append(_Worker(runner))
            for worker in workers:
                if worker.name is None and waiting:
                    worker.give(waiting.popleft())
            ready = wait([worker.pipe for worker in workers if worker.name is not None])
            for worker in [worker for worker in workers if worker.pipe in ready]:
                try:
                    event: Event = worker.pipe.recv()
                except (EOFError, OSError):  # it died in the middle
                    workers.remove(worker)
                    worker.process.join()
                    name = worker.name or ""
                    deaths[name] = deaths.get(name, 0) + 1
                    if deaths[name] <= RETRIES:
                        waiting.appendleft(name)
                    else:
                        tell(Event("failed", name, reason=_death(worker.process.exitcode, deaths[name])))
                    continue
                if event.kind != "frames":
                    worker.name = None
                tell(event)
    finally:
        for worker in workers:
            worker.stop()


def _death(code: int | None, times: int) -> str:
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    hint = "; out of memory?" if code == -9 else ""
    return f"the worker died {times} times ({how}{hint})"


# --- Ray --------------------------------------------------------------------------------------------------------------

_RUNNERS: dict[int, _Runner] = {}  # in a Ray worker: the tracker stays open from one task to the next


def _ray_task(job: int, runner: _Runner, name: str) -> Event:
    """Run one sequence in a Ray worker."""
    if job not in _RUNNERS:
        _RUNNERS.clear()
        _RUNNERS[job] = runner
    return _RUNNERS[job].run(name)


def _knock(address: str) -> None:
    """See that somebody listens at HOST:PORT: Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise InputError(f"--ray {address}: no cluster answers there ({error}); use local to start one") from None


def _on_ray(runner: _Runner, names: list[str], address: str, tell: Tell) -> None:
    """Run one sequence a task on a Ray cluster; Ray runs a task again when its worker or machine dies.

    The data set has to be under the same path on every machine. Results come back here and are written here.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--ray: Ray is not installed; pip install ray") from None
    runner.factory()
    _knock(address)
    started = not ray.is_initialized()
    if started:
        local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = gist(error)
            raise InputError(f"--ray {address}: no cluster answers there ({reason}); use local to start one") from None
    try:
        task = ray.remote(max_retries=RETRIES, num_cpus=runner.threads)(_ray_task)
        job, shared = time.time_ns(), ray.put(runner)
        room = max(4, 2 * int(ray.cluster_resources().get("CPU", 1)))  # a queue of thousands would only cost memory
        waiting = deque(names)
        running: dict[Any, str] = {}
        while waiting or running:
            while waiting and len(running) < room:
                name = waiting.popleft()
                running[task.remote(job, shared, name)] = name
            ready, _ = ray.wait(list(running), num_returns=1)
            for reference in ready:
                name = running.pop(reference)
                try:
                    event = ray.get(reference)
                except ray.exceptions.WorkerCrashedError:
                    event = Event("failed", name, reason=f"the worker died {RETRIES + 1} times")
                except ray.exceptions.RayError as error:
                    text = str(error).strip()  # a whole traceback; its last line says what it was
                    event = Event("failed", name, reason=text.rpartition("\n")[2].strip(), details=text)
                tell(event)
    finally:
        if started:
            ray.shutdown()

"""Several targets in one video, one call of the network a frame."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from fartrack import crops
from fartrack.crops import GivenImage
from fartrack.errors import InputError
from fartrack.geometry import Box
from fartrack.runtime import Output, Runtime, embed, open_runtime
from fartrack.runtime.choice import choose
from fartrack.target import GivenBox, Look, Target


class MultiTracker:
    """Follows any number of targets through one video; they share the decoded frame and run as one batch.

        tracker = fartrack.MultiTracker("pico")
        dog, cat = tracker.add(frame, (10, 20, 80, 60)), tracker.add(frame, (200, 40, 30, 30))
        for frame in frames:
            for id, (found, box, score) in tracker.update(frame).items():
                ...
        tracker.remove(cat)

    Each target is tracked as `fartrack.Tracker` would track it alone; targets may come and go at any frame. The boxes
    are the same in float32, to within a thousandth of a pixel. int8 and OpenVINO in bfloat16, which a packaged name may
    run in, round otherwise in another batch, and from frame to frame that grows: up to 11 pixels in 120 frames, neither
    better nor worse on the whole.

    OpenVINO compiles the network for batches in a thread of its own from the first frame with two targets on, once, for
    one to three seconds. Targets run one after the other for 240 calls meanwhile, so that frames do not wait; after
    `tracker.prepare()`, which waits for it, they run together from the first call.

    As with `fartrack.Tracker`, one is for one thread, and it is not copied or pickled.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "pico",
        runtime: str | None = None,
        threads: int | None = None,
        seek: bool = False,
    ) -> None:
        """Load a model; arguments as in `fartrack.Tracker`.

        Raises:
            FileNotFoundError: no such model.
            InputError: the runtime is unknown or not installed, or the file is not a model.
        """
        self.runtime: Runtime = open_runtime(*choose(model, runtime), threads)
        self.config = self.runtime.config
        self.network_seconds = 0.0
        """Time spent in the network so far."""
        self.seek = seek
        self._targets: dict[int, Target] = {}
        self._next = 1

    def prepare(self) -> None:
        """Wait until the engine is ready to run several targets together, which takes OpenVINO alone some seconds."""
        getattr(self.runtime, "prepare", lambda: None)()

    def add(self, frame: GivenImage, box: GivenBox) -> int:
        """Begin to follow what is in the box of this frame; call it before the `update` of the next frame.

        Returns:
            The target's number: 1, 2, ... in the order of their coming, never used twice.

        Raises:
            InputError: the frame is no image or of another size than the others' frames, or the box is not one in it.
        """
        image = crops.as_bgr(frame)
        for other in itertools.islice(self._targets.values(), 1):  # all are of one size
            other.check(image)
        target = Target(self.config, image, box, seeks=self.seek)
        template = target.first_template(image)
        begun = time.perf_counter()
        tokens = embed(self.runtime, template[None])[0]
        self.network_seconds += time.perf_counter() - begun
        target.start(template, tokens)
        number, self._next = self._next, self._next + 1
        self._targets[number] = target
        return number

    def update(self, frame: GivenImage) -> dict[int, tuple[bool, Box, float]]:
        """Find all targets in the next frame.

        Returns:
            Per target whether it was found, its box x, y, w, h in pixels and its score; empty without targets.

        Raises:
            InputError: the frame is no image or has another size; the state stays.
        """
        image = crops.as_bgr(frame)
        for target in self._targets.values():
            target.check(image)
        # Targets that have just begun remember whole templates, and of some none is new: batches of their own.
        batches: dict[tuple[int, int], list[tuple[Target, Look]]] = {}
        for target in self._targets.values():
            look = target.look(image)
            batch = batches.setdefault((look.memory.shape[1], len(look.template)), [])
            batch.append((target, look))
            elsewhere = target.elsewhere(image)
            if elsewhere is not None:
                batch.append((target, look._replace(search=elsewhere)))
        calls: list[list[tuple[Target, Look]]] = []
        for batch in batches.values():
            # Who is alone and looked for elsewhere is called twice, as `Tracker` does it, or OpenVINO would compile for
            # several targets that are not there.
            alone = len({target for target, _ in batch}) == 1
            calls += [[one] for one in batch] if alone else [batch]
        answers: dict[Target, list[Output]] = {}
        for batch in calls:
            search = np.stack([look.search for _, look in batch])
            template = np.stack([look.template for _, look in batch])
            memory = np.stack([look.memory for _, look in batch])
            words = [look.trajectory for _, look in batch if look.trajectory is not None]
            begun = time.perf_counter()
            output = self.runtime(search, template, memory, np.stack(words) if words else None)
            self.network_seconds += time.perf_counter() - begun
            for i, (target, _) in enumerate(batch):
                answers.setdefault(target, []).append(Output(*(x[i] for x in output)))
        # All at once, so that an exception on the way, as of a signal, leaves none a frame behind the others.
        self._targets = {number: target.after(image, *answers[target]) for number, target in self._targets.items()}
        return {number: (t.found, t.box, t.score) for number, t in self._targets.items()}

    def remove(self, number: int) -> None:
        """Stop following a target.

        Raises:
            InputError: there is no such target.
        """
        try:
            del self._targets[number]
        except (KeyError, TypeError):  # unknown, or of a kind that is no key, as a list
            there = ", ".join(map(str, self._targets)) or "none"
            raise InputError(f"target {number} is not tracked: there are {there}") from None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MultiTracker is not copied or pickled: make another one of the same model")

    def __bool__(self) -> bool:
        return True  # without targets too, or `tracker or MultiTracker()` would drop one that is loaded

    def __len__(self) -> int:
        return len(self._targets)

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._targets))  # who goes through them may remove some

    def __contains__(self, number: object) -> bool:
        return number in self._targets

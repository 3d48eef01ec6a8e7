"""Template memory: which past templates the network sees, and which are worth keeping (section 3.2)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fartrack.config import ModelConfig
from fartrack.crops import Image
from fartrack.insight import TemplateView

Tokens = npt.NDArray[np.float32]


def sample_history(newest: int, slots: int, policy: str) -> list[int]:
    """Numbers of the templates that fill the slots, oldest first; the last is `newest`, where there is more than one.

    Where not every frame gives a template, these are not numbers of frames.

    Args:
        newest: number of the newest template, counted from 0; `newest + 1` templates exist.
        slots: how many are wanted.
        policy: "linear" (evenly over all of them) or "exponential" (``int(t * (1 - 0.7^i))``).
    """
    if newest + 1 < slots:
        return [0] * (slots - newest - 1) + list(range(newest + 1))
    if slots == 1:
        return [0]
    middle = range(1, slots - 1)
    if policy == "linear":
        between = [round(newest * i / (slots - 1)) for i in middle]
    else:
        between = [int(newest * (1 - 0.7**i)) for i in middle]
    return [0, *between, newest]


def most_salient(saliency: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.int64]:
    """Indices of the `count` most salient tokens in rising order; of equals the earlier is dropped first."""
    order = np.argsort(saliency, kind="stable")
    return np.sort(order[len(saliency) - count :])


class TemplateMemory:
    """Templates of one video: a bounded set of settled ones (embedded, pruned) and the newest, still a picture.

    What the policy can still ask for is kept, up to `capacity` templates: that is exact for about ``1.4 * capacity``
    frames. From then on every second, fourth, ... is kept, so that they stay even over time and the frame that the
    policy asks for is at most ``t / capacity`` away from one that is there.

    What is in it is replaced, never changed in place: a shallow copy stays as it is.
    """

    def __init__(self, config: ModelConfig, capacity: int | None = None, pictures: bool = False) -> None:
        """Remember nothing yet; `pictures` keeps the crops of the templates as well, for `views`."""
        self.config = config
        if capacity is None:  # keys and values of every layer take more room than embeddings: fewer templates then
            capacity = max(48, 192 * config.width // config.memory_width)
        self.capacity = max(capacity, 2 * config.templates)
        self.stride = 1
        self.newest = -1
        self.newest_crop: Image | None = None
        """None once it is settled, until there is another."""
        self._kept: dict[int, Tokens] = {}
        self._settled: Tokens | None = None
        self._slots: list[Tokens] = []
        self._stacked = np.empty((0,), np.float32)
        self._views: dict[int, TemplateView] | None = {} if pictures else None
        self._newest_view: TemplateView | None = None

    def start(self, crop: Image, tokens: Tokens) -> None:
        """Begin with the first frame's template.

        Args:
            crop: (S, S, 3) uint8 RGB.
            tokens: (template tokens, D) the same, embedded; whole, because its mask is decided one frame later.
        """
        self.stride, self.newest, self.newest_crop = 1, 0, crop
        self._kept = {0: tokens}
        if self._views is not None:
            self._newest_view = TemplateView(0, crop, None)
            self._views = {0: self._newest_view}

    def settle(self, tokens: Tokens, saliency: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """Prune the newest template, once and for all, and store it; returns which tokens stay."""
        keep = most_salient(saliency, self.config.kept_tokens)
        self._settled = self.pruned(tokens, keep)
        if self._newest_view is not None:
            self._newest_view = replace(self._newest_view, kept=keep)
        if self.newest % self.stride == 0:
            self._kept = {**self._kept, self.newest: self._settled}
            if self._views is not None and self._newest_view is not None:
                self._views = {**self._views, self.newest: self._newest_view}
            if len(self._kept) > self.capacity:
                self._thin()
                if self._views is not None:
                    self._views = {i: view for i, view in self._views.items() if i in self._kept}
        if self.config.templates > 1 or self.config.rests:  # else every frame reads this picture
            self.newest_crop = None
        return keep

    def pruned(self, tokens: Tokens, keep: npt.NDArray[np.int64]) -> Tokens:
        """The tokens that stay."""
        return tokens[keep]

    def _thin(self) -> None:
        """Drop what will never be asked for again; where that is not enough, every second one."""
        between = sample_history(self.newest + 1, self.config.templates, self.config.memory)[1:-1]
        oldest = between[0] if between else self.newest + 1  # only grows; the first frame stays for ever
        self._kept = {i: t for i, t in self._kept.items() if i == 0 or i > oldest - self.stride}
        while len(self._kept) > self.capacity:
            self.stride *= 2
            self._kept = {i: t for i, t in self._kept.items() if i % self.stride == 0}

    def add(self, crop: Image, frame: int | None = None) -> None:
        """Take the template of the frame just tracked as the newest; the one before must be settled.

        Args:
            crop: (S, S, 3) uint8 RGB.
            frame: number of the frame, which `views` tell; default: every frame gave one.
        """
        self.newest += 1
        self.newest_crop = crop
        if self._views is not None:
            self._newest_view = TemplateView(self.newest if frame is None else frame, crop, None)

    def older(self) -> Tokens:
        """(slots - 1, n, D): tokens of all slots but the newest, oldest first; overwritten by the next call.

        Once the newest is settled it is among them: (slots, n, D).
        """
        slots = self.settled()
        shape = (len(slots), *slots[0].shape) if slots else (0, self.config.kept_tokens, self.config.memory_width)
        if shape != self._stacked.shape:
            self._slots, self._stacked = [], np.empty(shape, np.float32)
        for i, tokens in enumerate(slots):  # over a megabyte, most of it as for the frame before
            if not self._slots or tokens is not self._slots[i]:
                self._stacked[i] = tokens
        self._slots = slots
        return self._stacked

    def settled(self) -> list[Tokens]:
        """(n, D) tokens of each slot that is settled, oldest first, as they were stored: of all but a new one."""
        wanted = sample_history(self.newest, self.config.templates, self.config.memory)[:-1]
        there = [self._kept[self._nearest(i)] for i in wanted]
        if self.newest_crop is None and self._settled is not None:
            there.append(self._settled)
        return there

    def _nearest(self, index: int) -> int:
        if index in self._kept:
            return index
        below = index - index % self.stride
        there = [i for i in (below, below + self.stride) if i in self._kept]
        return min(there or self._kept, key=lambda i: abs(i - index))

    def frames(self) -> list[int]:
        """Numbers of the templates that fill the slots now, oldest first."""
        wanted = sample_history(self.newest, self.config.templates, self.config.memory)
        return [*(self._nearest(i) for i in wanted[:-1]), self.newest]

    def views(self) -> tuple[TemplateView, ...]:
        """The templates that fill the slots now as pictures, oldest first; a new one is whole."""
        if self._views is None or self._newest_view is None:
            raise ValueError("this memory keeps no pictures: make it with pictures=True")
        return (*(self._views[i] for i in self.frames()[:-1]), self._newest_view)

    def __len__(self) -> int:
        return len(self._kept)

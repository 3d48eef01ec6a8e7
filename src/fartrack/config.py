"""The configuration of a network and of how it tracks; every size is derived here, once.

A model file carries its configuration as JSON, so a tracker opened from a file needs nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from fartrack.errors import InputError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of R, G, B in 0..1: what a pixel is measured by before the patch embedding."""


@dataclass(frozen=True)
class ModelConfig:
    """FARTrack's network (sections 1 to 4 of the paper). The defaults are ours; `RELEASE` are the authors' quirks.

    Lengths are in pixels, factors are multiples of the target's size ``sqrt(w * h)``.
    """

    name: str = "pico"
    depth: int = 6
    """Encoder layers: 15 is tiny, 10 nano, 6 pico. All are prefixes of one network."""
    width: int = 192
    heads: int = 3
    mlp_ratio: int = 4
    patch: int = 16

    templates: int = 5
    """Templates seen at once: the first frame, the previous frame and samples of what lies between; 1: the first
    frame alone, whole."""
    template_size: int = 112
    template_factor: float = 2.0
    template_tint: float = 0.0
    """Share of a tint in what a template shows outside of its box, so that the network is told what of the picture
    the target is, and which box was given and not its own. 0 leaves it as it is, as in the paper."""
    lighten: float = 0.0
    """Crops whose mean is below this, of 255, are brightened, the more the darker. 0 leaves all as they are (paper)."""
    search_size: int = 224
    search_factor: float = 4.0
    trajectory: int = 0
    """Past boxes fed as coordinate tokens; 0 switches them off."""

    bins: int = 300
    """Words per unit of the search crop's side."""
    low: float = -0.5
    high: float = 1.5
    """The coordinate range that the words cover, in units of the search crop."""

    keep: float = 0.75
    """Share of a template's tokens that stays after its saliency is known; 1 switches pruning off."""
    attention: Literal["joint", "oneway"] = "joint"
    """`oneway`: template tokens attend only to their own whole template, so their keys and values are computed once."""
    saliency: Literal["centre-and-commands", "centre-token"] = "centre-and-commands"
    """Whose attention makes a template token salient: the centre 3 x 3 search tokens and the commands, or one token."""
    memory: Literal["linear", "exponential"] = "linear"
    """How the middle templates are sampled from the history."""
    update_interval: int = 1
    """Frames from one new template to the next, but for the first ones and unsure ones, which all give one
    (`fartrack.target.AT_FIRST`, `SURE`). In the paper every frame does. In a frame between nothing of a template is
    computed; with joint attention there are none."""
    withhold: bool = False
    """A frame that is not found gives no template. In the paper every frame gives one."""
    doubt: float = 0.0
    trust: float = 0.0
    patience: int = 3
    """A box is taken over whole when the best score of the last `patience` frames reaches `trust`, not at all when
    that is `doubt` or less, and in part between: a target that hardly shows is waited for where it was last, one that
    is blurred for a frame or two is not. With doubt and trust 0 every box counts whole, as in the paper."""
    decoding: Literal["paper", "release"] = "paper"
    """`release`: arg-max over all words with half a word added, expectation on the grid ``k / bins``, and the search
    window taken to stand where it stood before it was rounded to whole pixels."""
    block_eps: float = 1e-6
    final_eps: float = 1e-6
    margin: float = 10.0
    """Pixels of a box that stay inside the frame, and the least length of its sides; for a target that was given with
    shorter ones (but for `decoding` "release") as few as these."""

    score_bias: float = 5.5
    score_slope: float = -1.5
    score_shape: float = 0.0
    """The score is ``sigmoid(score_bias + score_slope * entropy + score_shape * change)``: entropy in nats, mean of the
    four coordinates, and how far the box's shape lies from that of the frames before (`geometry.change_of_shape`)."""
    lost_below: float = 0.5
    """`update` says "not found" under this score."""

    def __post_init__(self) -> None:
        kinds = ((name, _other_than(kind, getattr(self, name))) for name, kind in _kinds().items())
        self._refuse([(says is not None, f"{name} {says}") for name, says in kinds])
        at_least_1 = ("depth", "width", "heads", "mlp_ratio", "patch", "template_size", "search_size")
        self._refuse([(getattr(self, name) < 1, f"{name} must be at least 1") for name in at_least_1])
        self._refuse([(getattr(self, n) <= 0, f"{n} must be above 0") for n in ("block_eps", "final_eps")])
        problems = [
            (
                not self.name or self.name.startswith(".") or any(mark in self.name for mark in "/\\"),
                "name must be one that files can have, without a path",
            ),
            (self.width % self.heads != 0, "width must be a multiple of heads"),
            (self.templates < 1, "templates must be at least 1"),
            (self.update_interval < 1, "update_interval must be at least 1"),
            (self.template_size % self.patch != 0, "template_size must be a multiple of patch"),
            (self.search_size % self.patch != 0, "search_size must be a multiple of patch"),
            (self.search_grid < 3, "search_size must be at least 3 patches"),
            (min(self.template_factor, self.search_factor) <= 0, "template_factor and search_factor must be above 0"),
            (not 0 <= self.template_tint <= 1, "template_tint must be in 0..1"),
            (not 0 <= self.lighten <= 255, "lighten must be in 0..255"),
            (not 0 < self.keep <= 1, "keep must be above 0 and at most 1"),
            (self.bins < 2, "bins must be at least 2"),
            (not 2 <= self.bins * (self.high - self.low) <= 1e5, "bins * (high - low) must be in 2..100000"),
            (self.margin < 0, "margin must not be negative"),
            (self.trajectory < 0, "trajectory must not be negative"),
            (self.patience < 1, "patience must be at least 1"),
            (not (0 <= self.doubt < self.trust or self.doubt == self.trust == 0), "doubt must be in 0..trust"),
        ]
        self._refuse(problems)

    def _refuse(self, problems: list[tuple[bool, str]]) -> None:
        for wrong, message in problems:
            if wrong:
                raise InputError(f"model config {self.name!r}: {message}")

    @cached_property
    def template_grid(self) -> int:
        """Tokens along one side of a template."""
        return self.template_size // self.patch

    @cached_property
    def search_grid(self) -> int:
        """Tokens along one side of the search crop."""
        return self.search_size // self.patch

    @cached_property
    def template_tokens(self) -> int:
        """Tokens of one whole template."""
        return self.template_grid**2

    @cached_property
    def kept_tokens(self) -> int:
        """Tokens of one template after pruning; a template that stays the newest is whole."""
        if self.templates == 1:
            return self.template_tokens
        left_out = int(round(self.template_tokens * (1 - self.keep), 6))  # 1 - 0.8 is 0.19999...
        return max(1, self.template_tokens - left_out)

    @cached_property
    def renewal(self) -> int:
        """Frames from one new template to the next; 1 with joint attention, where those between would cost as much."""
        return self.update_interval if self.attention == "oneway" else 1

    @cached_property
    def rests(self) -> bool:
        """Whether there are frames without a new template, in which the network is given none."""
        return self.attention == "oneway" and (self.update_interval > 1 or self.templates == 1)

    @cached_property
    def memory_width(self) -> int:
        """Numbers remembered of one template token: its embedding, or its key and value in every layer (`oneway`)."""
        return self.width if self.attention == "joint" else 2 * self.depth * self.width

    @cached_property
    def search_tokens(self) -> int:
        """Tokens of the search crop."""
        return self.search_grid**2

    @cached_property
    def trajectory_tokens(self) -> int:
        """Tokens of the past boxes."""
        return 4 * self.trajectory

    @cached_property
    def coordinate_words(self) -> int:
        """Words that stand for coordinates; the special ones follow them."""
        return round(self.bins * (self.high - self.low))

    @cached_property
    def padding_word(self) -> int:
        """The word after the four commands."""
        return self.coordinate_words + 4

    @cached_property
    def words(self) -> int:
        """Size of the vocabulary: coordinates, four commands, padding."""
        return self.coordinate_words + 5

    @cached_property
    def tokens(self) -> int:
        """Tokens of the dense layout: every template whole."""
        return self.templates * self.template_tokens + self.search_tokens + self.trajectory_tokens + 4

    @cached_property
    def salient_rows(self) -> tuple[int, ...]:
        """Search tokens whose attention decides saliency (row-major indices into the search grid)."""
        c = self.search_grid // 2
        if self.saliency == "centre-token":
            return (c * self.search_grid + c,)
        # On an even grid the crop's centre is a corner of four tokens; the window's middle is the lower right one.
        return tuple(r * self.search_grid + col for r in (c - 1, c, c + 1) for col in (c - 1, c, c + 1))

    def replace(self, **changes: Any) -> ModelConfig:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """The fields as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str, path: Path | None = None) -> ModelConfig:
        """Read what `to_json` wrote.

        Args:
            text: of the config.
            path: the file that carries it, for messages.

        Raises:
            InputError: not JSON, fields that this version does not know, or values that no network has.
        """
        where = "" if path is None else f"{path}: "
        try:
            return ModelConfig(**json.loads(text))
        except InputError as error:
            raise InputError(f"{where}{error}; make the file again") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"{where}model config cannot be read ({error}): was it written by a newer fartrack?"
            ) from None


@cache
def _kinds() -> dict[str, Any]:
    """The fields of a config and their types."""
    return get_type_hints(ModelConfig)


def _other_than(kind: Any, value: object) -> str | None:
    """What a value must be, where it is not of a field's type; None where it is."""
    if choices := get_args(kind):
        return None if value in choices else f"is {value!r}: it must be {' or '.join(choices)}"
    if kind is float:  # whole numbers count, infinite ones do not
        good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    else:
        good = type(value) is kind
    return None if good else f"is {value!r}: it must be {NAMED[kind]}"


NAMED = {float: "a finite number", int: "a whole number", str: "text", bool: "true or false"}


OURS: dict[str, Any] = {
    "template_tint": 0.4,
    "lighten": 50.0,
    "search_size": 192,
    "search_factor": 3.0,
    "attention": "oneway",
    "update_interval": 10,
}
"""What the packaged models do otherwise than the paper, and why: docs/method.md."""
PICO = ModelConfig(name="pico", depth=6, **OURS)
NANO = ModelConfig(name="nano", depth=10, **OURS)
TINY = ModelConfig(name="tiny", depth=15, **OURS)
PRESETS = {c.name: c for c in (PICO, NANO, TINY)}
"""The paper's three depths."""

RELEASE: dict[str, Any] = {
    "template_tint": 0.0,
    "lighten": 0.0,
    "template_size": 112,
    "search_size": 224,
    "search_factor": 4.0,
    "attention": "joint",
    "update_interval": 1,
    "withhold": False,
    "saliency": "centre-token",
    "memory": "exponential",
    "decoding": "release",
    "lost_below": 0.25,
    "block_eps": 1e-5,
    "final_eps": 1e-6,
}
"""What the authors' released checkpoints do differently from the paper. These are of the last, sparse stage."""

RELEASE_UNMASKED: dict[str, Any] = RELEASE | {"keep": 1.0, "block_eps": 1e-6}
"""Their frame-level and distilled checkpoints: trained without masks, so nothing is pruned, with a ViT's own norms."""

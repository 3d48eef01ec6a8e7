"""What training samples show: which object, seen from where, before what, beside what, in which light.

A sample is one object seen several times: in frames of its track, or in one still picture under independent changes
of scale, aspect, rotation, place, background and light. Here it is only drawn, as small tensors, by the same code on
the GPU and the CPU; `fartrack.training.render` makes the pixels.
Coordinates: a crop's pixels are (u, v) in [-0.5, 0.5]; an affine maps them to pixels of the picture.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.training.options import SynthConfig
from fartrack.training.pack import Pack

NEAR = 0.3
"""Of the search crop's jitter, in samples in which the target hardly moved."""
DRIFTS = 0.3
"""Of each crop's own jitter, in samples of a tracker that has drifted; the rest is common to its crops."""
PART, SMALLEST = (0.3, 0.8), 16.0
"""Of a target that is a part of an object: which share of its sides, and how long in pixels of its picture at least."""
LOOSE, ASIDE = 0.3, 0.1
"""Of boxes that are not tight: logarithm of their sides, and shares of them that they are off; at most."""
POSE_ASPECT, POSE_SLANT = 0.4, 0.3
"""In samples of many poses: logarithm by which a side grows at most while the other shrinks, and shear."""


@dataclass
class Plan:
    """What a batch of B samples with K crops each (templates, then the search crop) will show; small tensors.

    All chance is spent here. Making pixels of it is `fartrack.training.render`'s part, on whichever device.
    """

    objects: Tensor
    """(B, K) rows of the object table."""
    affine: Tensor
    """(B, K, 2, 3) from (u, v, 1) to pixels of the object's picture."""
    target: Tensor
    """(B, 4) x0, y0, x1, y1 of the target in units of the search crop."""
    label: Tensor
    """(B, K) the object is cut out by this label of its mask; 0 leaves the picture whole."""
    backdrop: Tensor
    """(B,) picture seen where the object's own is not."""
    behind: Tensor
    """(B, K, 2, 3) to pixels of the backdrop."""
    black: Tensor
    """(B,) black instead of the backdrop."""
    blur: Tensor
    """(B, K) levels of the pyramid to go down for softness."""
    rival: Tensor
    """(R,) pictures of objects put beside the targets of the last R samples."""
    rival_label: Tensor
    """(R,) their masks' labels, 0 for none."""
    rival_affine: Tensor
    """(R, 2, 3) from (u, v, 1) of the search crop."""
    rival_oval: Tensor
    """(R, 4) middle and half axes of the ellipse a rival without mask is cut out by, in units of the search crop."""
    cover: Tensor
    """(B, 4) middle and half sides of an occluder, in units of the search crop; 0 for none."""
    partner: Tensor
    """(B,) sample whose search crop the occluder is a piece of."""
    change: Tensor
    """(B, K, 5) of brightness, contrast, colour, warmth, green."""
    gray: Tensor
    """(B,)"""
    template_noise: Tensor
    """(S, S) of deviation 1."""
    search_noise: Tensor
    template_box: Tensor
    """(B, T, 2) half sides of the box that each template is taken to show, in its middle, in units of the crop."""
    trajectory: Tensor | None
    """(B, N, 4) past boxes in units of the search crop, oldest first, when the network reads them."""

    def to(self, device: torch.device) -> Plan:
        """The same on another device."""
        values = [getattr(self, f.name) for f in fields(self)]
        moved: list[Any] = [None if v is None else v.to(device, non_blocking=True) for v in values]
        return Plan(*moved)

    def part(self, rank: int, world: int) -> Plan:
        """One process's part of a batch. Samples stay in pairs, for they lend each other occluders."""
        b, r = len(self.objects), len(self.rival)
        rows = torch.arange(b).view(-1, 2)[rank::world].flatten()
        rivals = rows[rows >= b - r] - (b - r)
        whole = {"template_noise", "search_noise", "partner"}

        def pick(name: str) -> Tensor | None:
            value = getattr(self, name)
            if value is None or name in whole:
                return value
            return value[(rivals if name.startswith("rival") else rows).to(value.device)]

        picked: dict[str, Any] = {f.name: pick(f.name) for f in fields(self)}
        return Plan(**picked | {"partner": self.partner[: len(rows)]})


class Sampler:
    """Draws which objects make a batch: sources first, then classes, then objects, so that no large one drowns it."""

    def __init__(self, pack: Pack, held_out: float, train: bool = True) -> None:
        self.pack = pack
        o = pack.objects
        # The smaller one: of what is hidden but for a few pixels, these would be the target.
        area = o.box[:, 2:].prod(1).sqrt().minimum(o.outline[:, 2:].prod(1).sqrt())
        unit = torch.where(o.track >= 0, 1_000_003 + o.track, o.picture)
        # Tracks and pictures are held out whole, by a hash that does not depend on the number of shards read.
        held = (unit * 2654435761 % 1000).float() < 1000 * held_out
        usable = (area >= 8) & (held != train)
        self.track_rows, self.track_start, self.track_count, self.track_reach = self._tracks(pack, usable)
        still = usable & ((o.track < 0) | (torch.rand(len(area), generator=_rng(1)) < 0.15))
        self.stills = still.nonzero().flatten()
        self.still_reach = hierarchical(o.source[self.stills], o.kind[self.stills]).double().cumsum(0)
        per_source: list[Tensor] = [((o.source == s) & usable).nonzero().flatten() for s in range(len(pack.sources))]
        self.source_start = torch.tensor([0, *[len(p) for p in per_source]]).cumsum(0)
        self.by_source = torch.cat(per_source)
        names = torch.tensor([n in ("sprite", "eth80", "tiny-imagenet", "sky") for n in pack.sources])
        backdrop = ~names[pack.picture_source] & (pack.pictures.size[:, 0].min(1).values >= 120)
        if train:
            backdrop[o.picture[held]] = False
        self.backdrops = (backdrop if backdrop.any() else backdrop | True).nonzero().flatten()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw: of a few clips none may be held out."""
        return not len(self.stills) and not len(self.track_start)

    def _tracks(self, pack: Pack, usable: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        o = pack.objects
        rows = (usable & (o.track >= 0)).nonzero().flatten()
        # By track, then time, whatever that is counted in: microseconds, say.
        rows = rows[o.frame[rows].argsort(stable=True)]
        rows = rows[o.track[rows].argsort(stable=True)]
        ids, count = o.track[rows].unique_consecutive(return_counts=True)
        start = count.cumsum(0) - count
        source = o.source[rows[start]]
        # Drawn cut-outs on borrowed backgrounds teach less than real motion.
        worth = {"sprite": 0.25, "sky": 1.0, "eth80": 1.0, "fod": 1.0}
        real = torch.tensor([worth.get(n, 2.5) for n in pack.sources])
        weight = hierarchical(source, ids) * (count >= 2) * real[source]
        return rows, start, count, weight.double().cumsum(0)

    def to(self, device: torch.device, pack: Pack) -> Sampler:
        """Move the tables to where the pack has been moved to."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        self.pack = pack
        return self

    def draw(self, batch: int, crops: int, track_share: float, gap: int, rng: torch.Generator) -> Tensor:
        """(batch, crops) rows of the object table; the last column is the search frame, tracks come first.

        Raises:
            InputError: there is nothing to draw.
        """
        if self.empty:
            raise InputError("the data has no object of 8 pixels or more to make samples of: check --data")
        device = self.stills.device
        n = round(batch * track_share) if len(self.track_start) else 0
        n = n if len(self.stills) else batch
        parts = []
        if n:
            t = _choose(self.track_reach, n, rng)
            count = self.track_count[t].unsqueeze(1)
            span = count.clamp(max=gap + 1)
            begin = (torch.rand(n, 1, device=device, generator=rng) * (count - span + 1)).long()
            at = begin + (torch.rand(n, crops, device=device, generator=rng) * span).long()
            if crops > 2:  # the newest template is the frame before, most of the time
                step = torch.randint(0, 2, (n,), device=device, generator=rng) * 2 - 1
                near = (at[:, -1] + step).clamp(min=0).minimum(count[:, 0] - 1)
                recent = torch.rand(n, device=device, generator=rng) < 0.6
                at[:, -2] = torch.where(recent, near, at[:, -2])
            parts.append(self.track_rows[self.track_start[t].unsqueeze(1) + at])
        if n < batch:
            pick = _choose(self.still_reach, batch - n, rng)
            parts.append(self.stills[pick].unsqueeze(1).expand(-1, crops))
        return torch.cat(parts)

    def only_tracks(self, which: Tensor) -> Sampler:
        """A sampler of some tracks, each as likely as the others."""
        chosen = copy.copy(self)
        chosen.track_reach = which.double().cumsum(0)
        return chosen

    def beside(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """For each object another one to stand beside it: of its source, else any; not of its own picture or track."""
        o = self.pack.objects
        kin = self.same_source(o.source[rows], rng)
        anyone = (torch.rand(len(rows), device=rows.device, generator=rng) * len(self.by_source)).long()
        return torch.where(o.same(rows, kin), self.by_source[anyone], kin)

    def same_source(self, source: Tensor, rng: torch.Generator) -> Tensor:
        """For each source one random object of it."""
        lo, hi = self.source_start[source], self.source_start[source + 1]
        return self.by_source[lo + (torch.rand(len(source), device=lo.device, generator=rng) * (hi - lo)).long()]


class Chance:
    """Random numbers of one generator, on one device."""

    def __init__(self, device: torch.device, rng: torch.Generator) -> None:
        self.device, self.rng = device, rng

    def uniform(self, *shape: int, lo: float = -1.0, hi: float = 1.0) -> Tensor:
        """Of that shape, evenly between two bounds."""
        return lo + (hi - lo) * torch.rand(*shape, device=self.device, generator=self.rng)

    def normal(self, *shape: int) -> Tensor:
        """Of that shape, of deviation 1."""
        return torch.randn(*shape, device=self.device, generator=self.rng)


@dataclass
class View:
    """Where the crops of a batch look, templates first; `Plan` says what the first three are."""

    affine: Tensor
    target: Tensor
    template_box: Tensor
    scale: Tensor
    """(B, K) factor on each crop's side."""
    factor: Tensor
    """(K,) sides of the target that each crop shows."""
    flip: Tensor
    """(B, K) -1 where mirrored."""


def plan(
    sampler: Sampler, config: ModelConfig, synth: SynthConfig, batch: int, templates: int,
    rng: torch.Generator,
) -> Plan:  # fmt: skip
    """Draw one batch; everything random comes from `rng`, and no shape depends on what is drawn."""
    crops = templates + 1
    objects = sampler.draw(batch, crops, synth.track_share, synth.gap, rng)
    o, chance = sampler.pack.objects, Chance(objects.device, rng)
    label, box = _meant(sampler, objects, synth, chance)
    view = _view(box, config, synth, chance)
    backdrop, behind = _backdrop(sampler, view, config, chance)
    # At run time what lies outside the frame is black; now and then it must be so here.
    black = (chance.uniform(batch, lo=0) < 0.2) & ~(label > 0).any(1)
    rival, rival_affine, rival_oval, itself = _rivals(sampler, objects, view, synth, chance)
    size = view.target[:, 2:] - view.target[:, :2]
    middle = view.target[:, :2] + size * chance.uniform(batch, 2, lo=0)
    soft = chance.uniform(batch, crops, lo=0)
    change = _light(batch, crops, synth, chance)
    half = 0.5 * size * chance.uniform(batch, 2, lo=0.2, hi=0.75)
    half *= chance.uniform(batch, 1, lo=0) < synth.occluder_share
    gray = chance.uniform(batch, lo=0) < synth.gray_share
    template_noise = chance.normal(config.template_size, config.template_size)
    search_noise = chance.normal(config.search_size, config.search_size)
    trajectory = None
    if config.trajectory:
        trajectory = _trajectory(view.target, config.trajectory, config.search_factor, chance.uniform)
    return Plan(
        objects=objects,
        affine=view.affine,
        target=view.target,
        label=label,
        backdrop=backdrop,
        behind=behind,
        black=black,
        blur=(soft < synth.blur_share).long() + (soft < 0.3 * synth.blur_share).long(),
        rival=o.picture[rival],
        rival_label=o.mask[rival] * ~itself,
        rival_affine=rival_affine,
        rival_oval=rival_oval,
        cover=torch.cat([middle, half], 1),
        partner=(torch.arange(batch, device=chance.device) ^ 1).clamp(max=batch - 1),
        change=change,
        gray=gray,
        template_noise=template_noise,
        search_noise=search_noise,
        template_box=view.template_box,
        trajectory=trajectory,
    )


def _meant(sampler: Sampler, objects: Tensor, synth: SynthConfig, chance: Chance) -> tuple[Tensor, Tensor]:
    """(B, K) labels by which objects are cut out, 0 for none, and (B, K, 4) boxes of what is meant."""
    o = sampler.pack.objects
    mask = o.mask[objects]
    paste = (mask > 0) & (chance.uniform(len(objects), 1, lo=0) < synth.paste_share)
    paste |= (mask > 0) & o.alone[objects]
    box = torch.where(paste.unsqueeze(-1), o.outline[objects], o.box[objects])  # what is cut out fills its mask
    if synth.part_share or synth.loose_share:
        alike = (objects == objects[:, :1]).all(1)
        box = _as_meant(box, alike, synth, chance.uniform)
    return mask * paste, box


def _view(box: Tensor, config: ModelConfig, synth: SynthConfig, chance: Chance) -> View:
    """Where crops look that are to show (B, K, 4) boxes."""
    batch, crops, uniform = *box.shape[:2], chance.uniform
    is_search = torch.arange(crops, device=chance.device) == crops - 1
    scale, offset, stretch = _jitter(batch, is_search, config, synth, chance)
    factor = torch.where(is_search, config.search_factor, config.template_factor)
    turn = torch.where(uniform(batch, crops, lo=0) < synth.turn_share, 180.0, synth.template_rotation)
    angle = torch.where(is_search, 0.0, turn * (math.pi / 180)) * uniform(batch, crops)
    cos, sin = angle.cos(), angle.sin()
    wide, high = _turned(box[..., 2], box[..., 3], cos, sin)
    jittered = (wide * high).sqrt() * scale
    centre = box[..., :2] + box[..., 2:] / 2 + jittered.unsqueeze(-1) * offset
    side = jittered * factor
    aspect, flip, slant = _pose(batch, is_search, synth, chance)
    axes = torch.stack([side * aspect * flip, side / aspect], -1)  # length of the crop's sides in picture pixels
    ax, ay = axes.unbind(-1)
    affine = _affine(cos * ax, slant * cos * ax - sin * ay, sin * ax, slant * sin * ax + cos * ay, centre)
    corner = (box[:, -1, :2] - centre[:, -1]) / axes[:, -1]
    other = (box[:, -1, :2] + box[:, -1, 2:] - centre[:, -1]) / axes[:, -1]
    target = torch.cat([corner.minimum(other), corner.maximum(other)], -1) + 0.5
    # The box that a tracker would have put there: of the crop's own size, and of about the target's shape.
    across = torch.hypot((cos / ax + slant * sin / ay) * box[..., 2], (sin / ax - slant * cos / ay) * box[..., 3])
    shape = (0.5 * (across * ay / high).log() + stretch)[:, :-1]
    template_box = 0.5 / config.template_factor * torch.stack([shape.exp(), (-shape).exp()], -1)
    return View(affine, target, template_box, scale, factor, flip)


def _jitter(
    batch: int, is_search: Tensor, config: ModelConfig, synth: SynthConfig, chance: Chance
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each crop: the factor on its side (B, K), what it is off in sides of the target (B, K, 2), and the logarithm
    by which the box that a tracker would have put there is too wide (B, K)."""
    crops, uniform, normal = len(is_search), chance.uniform, chance.normal
    first = torch.arange(crops, device=chance.device) == 0
    scale_sd = torch.where(is_search, synth.scale_jitter, torch.where(first, 0.03, synth.template_scale_jitter))
    shift = torch.where(is_search, synth.centre_jitter, torch.where(first, 0.05, synth.template_centre_jitter))
    # Now and then a later template shows what is beside the target, as after a drift: the first one is to be trusted.
    if synth.wrong_template_share and crops > 2:
        wrong = (uniform(batch, crops, lo=0) < synth.wrong_template_share) & ~first & ~is_search
        shift = torch.where(wrong, 3.0, shift)
    # A tracker's next target is mostly near the last one: some samples are as far off as that, the others farther.
    near = torch.where(is_search & (uniform(batch, 1, lo=0) < synth.near_share), NEAR, 1.0)
    scale_sd, shift = scale_sd * near, shift * near
    scale = normal(batch, crops) * scale_sd
    offset = (0.5 * shift).unsqueeze(-1) * uniform(batch, crops, 2)
    stretch = normal(batch, crops) * scale_sd if config.template_tint else torch.zeros_like(scale)
    if synth.drift_share:
        drifts = (uniform(batch, 1, lo=0) < synth.drift_share) & ~first
        scale = torch.where(drifts, 0.4 * normal(batch, 1) + DRIFTS * scale, scale)
        stretch = torch.where(drifts, 0.25 * normal(batch, 1) + DRIFTS * stretch, stretch)
        offset = torch.where(drifts.unsqueeze(-1), 0.5 * uniform(batch, 1, 2) + DRIFTS * offset, offset)
    return scale.clamp(-1.1, 0.9).exp(), offset, stretch


def _pose(batch: int, is_search: Tensor, synth: SynthConfig, chance: Chance) -> tuple[Tensor, Tensor, Tensor]:
    """(B, K) of each crop: the factor by which it is wider, -1 where it is mirrored, and its shear."""
    crops, uniform = len(is_search), chance.uniform
    aspect = synth.aspect * uniform(batch, crops)
    flip = torch.where(uniform(batch, 1) < 0, -1.0, 1.0).expand(-1, crops)
    slant = torch.zeros_like(aspect)
    if synth.pose_share:
        poses = uniform(batch, 1, lo=0) < synth.pose_share
        flip = torch.where(poses & (uniform(batch, crops) < 0), -flip, flip)
        aspect = torch.where(poses, POSE_ASPECT * uniform(batch, crops), aspect)
        slant = torch.where(poses & ~is_search, POSE_SLANT * uniform(batch, crops), slant)
    return aspect.exp(), flip, slant


def _backdrop(sampler: Sampler, view: View, config: ModelConfig, chance: Chance) -> tuple[Tensor, Tensor]:
    """(B,) pictures that lie behind, and (B, K, 2, 3) where the crops look in them."""
    batch, crops = view.scale.shape
    backdrop = sampler.backdrops[(chance.uniform(batch, lo=0) * len(sampler.backdrops)).long()]
    size = sampler.pack.pictures.size[backdrop, 0].float()
    side = size.amin(1) * chance.uniform(batch, lo=0.4, hi=0.95)
    room = (size - side.unsqueeze(1)).clamp(min=0)
    centre = size / 2 + 0.5 * room * chance.uniform(batch, 2)
    drift = side.view(-1, 1, 1) * 0.12 * chance.uniform(batch, crops, 2)
    scale = side.unsqueeze(1) * view.factor / config.search_factor * view.scale
    zero = torch.zeros_like(scale)
    return backdrop, _affine(scale * view.flip, zero, zero, scale, centre.unsqueeze(1) + drift)


def _rivals(
    sampler: Sampler, objects: Tensor, view: View, synth: SynthConfig, chance: Chance
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distractors of the same source, in the last part of the batch (a fixed number, so that shapes stay the same).

    Gives (R,) their rows, (R, 2, 3) and (R, 4) what `Plan` says, and (R,) which of them are the target itself.
    """
    o, start = sampler.pack.objects, len(objects) - round(len(objects) * synth.distractor_share)
    rival = sampler.beside(objects[start:, -1], chance.rng)
    affine, oval = _beside(o.box[rival], view.target[start:], view.flip[start:, -1], chance.uniform)
    itself = o.same(rival, objects[start:, -1])  # by chance after all: two of it, and nobody could tell which
    oval[:, :2] += 10.0 * itself.unsqueeze(1)
    return rival, affine, oval, itself


def _light(batch: int, crops: int, synth: SynthConfig, chance: Chance) -> Tensor:
    """(B, K, 5) changes of the light, in part common to a sample's crops."""
    # However strong: a negative of the picture is no light.
    common = chance.uniform(batch, 1, 5)
    change = (synth.light * (common + 0.5 * chance.uniform(batch, crops, 5))).clamp(min=-0.9)
    dark = chance.uniform(batch, 1, lo=0) < synth.dark_share
    change[..., 0] = torch.where(dark, chance.uniform(batch, crops, lo=-0.85, hi=0.5), change[..., 0])
    return change


def _turned(w: Tensor, h: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Sides of the upright box around a box that is turned, taken for an ellipse: things seldom fill their corners."""
    w2, h2, c2, s2 = w.square(), h.square(), cos.square(), sin.square()
    return (w2 * c2 + h2 * s2).sqrt(), (w2 * s2 + h2 * c2).sqrt()


def _affine(xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor, centre: Tensor) -> Tensor:
    """(..., 2, 3) from its entries."""
    return torch.stack([torch.stack([xx, xy, centre[..., 0]], -1), torch.stack([yx, yy, centre[..., 1]], -1)], -2)


def _beside(box: Tensor, target: Tensor, flip: Tensor, uniform: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """Where rivals go: their affines over the whole search crop, and the ellipse (middle, half axes) they fill."""
    n = len(box)
    length = (target[:, 2:] - target[:, :2]).clamp(min=0.02).prod(1).sqrt()
    turn = math.pi * uniform(n)
    away = uniform(n, lo=1.0, hi=2.2) * length
    middle = (target[:, :2] + target[:, 2:]) / 2 + away.unsqueeze(1) * torch.stack([turn.cos(), turn.sin()], 1)
    # One unit of the search crop is this many pixels of the rival's picture, so that both look alike in size.
    pixels = box[:, 2:].prod(1).sqrt() / (length * uniform(n, lo=0.7, hi=1.3))
    across = pixels * flip
    centre = box[:, :2] + box[:, 2:] / 2 - torch.stack([across, pixels], 1) * (middle - 0.5)
    zero = torch.zeros_like(pixels)
    return _affine(across, zero, zero, pixels, centre), torch.cat([middle, 0.5 * box[:, 2:] / pixels.unsqueeze(1)], 1)


def _trajectory(target: Tensor, count: int, factor: float, uniform: Callable[..., Tensor]) -> Tensor:
    """(B, N, 4) past boxes as a tracker would have them: the last one made the crop, so it lies in its centre.

    The way there from the target is continued backwards as far as a random share of it is true motion.
    """
    b = len(target)
    size = (target[:, 2:] - target[:, :2]).clamp(min=1e-3)
    ratio = (size[:, 0] / size[:, 1]).sqrt() * (0.15 * uniform(b)).exp()
    last = torch.stack([ratio, 1 / ratio], -1) / factor
    step = (0.5 - (target[:, :2] + target[:, 2:]) / 2) * uniform(b, 1, lo=0, hi=0.6)
    ago = torch.arange(count - 1, -1, -1, device=target.device).view(1, -1, 1)
    middle = 0.5 + step.unsqueeze(1) * ago + 0.02 * ago * uniform(b, count, 2)
    half = 0.5 * last.unsqueeze(1) * (0.05 * ago * uniform(b, count, 1)).exp()
    return torch.cat([middle - half, middle + half], -1)


def _as_meant(box: Tensor, alike: Tensor, synth: SynthConfig, uniform: Callable[..., Tensor]) -> Tensor:
    """Boxes as another person would have drawn them, which the first template shows.

    Args:
        box: (B, K, 4) x, y, w, h of the objects.
        alike: (B,) all crops show one picture, in which a part of an object is always the same part.
        synth: shares.
        uniform: makes random numbers.
    """
    b = len(box)
    kind = uniform(b, 1, 1, lo=0)
    share = uniform(b, 1, 2, lo=PART[0], hi=PART[1])
    part = torch.cat([box[..., :2] + uniform(b, 1, 2, lo=0) * (1 - share) * box[..., 2:], share * box[..., 2:]], -1)
    spread, aside = (LOOSE * uniform(b, 1, 2)).exp(), ASIDE * uniform(b, 1, 2)
    loose = torch.cat([box[..., :2] + (aside + (1 - spread) / 2) * box[..., 2:], spread * box[..., 2:]], -1)
    large = (part[..., 2:].prod(-1) >= SMALLEST**2).all(1)
    is_part = (kind < synth.part_share) & (alike & large).view(-1, 1, 1)
    is_loose = kind > 1 - synth.loose_share
    return torch.where(is_part, part, torch.where(is_loose, loose, box))


def hierarchical(source: Tensor, kind: Tensor) -> Tensor:
    """Weights by which sources share the draw by the 0.6th power of their size, classes within one by the 0.3rd."""
    _, inverse, count = kind.unique(return_inverse=True, return_counts=True)
    weight = count.float().pow(-0.7)[inverse]
    total = torch.zeros(int(source.max()) + 1 if len(source) else 1).index_add_(0, source, weight)
    size = torch.bincount(source, minlength=len(total)).float()
    return weight / total[source].clamp(min=1e-9) * size[source].pow(0.6) / size.pow(0.6).sum().clamp(min=1e-9)


def _choose(reach: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Numbers drawn by weights given as their running sum (`multinomial` would make a GPU wait)."""
    at = torch.rand(count, device=reach.device, generator=rng, dtype=torch.float64) * reach[-1]
    return torch.searchsorted(reach, at, right=True).clamp(max=len(reach) - 1)


def _rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)

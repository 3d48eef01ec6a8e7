"""Training samples made from a pack: templates and a search crop, cut, composed and coloured in batched tensor code.

The same code runs on the GPU and the CPU. A sample is one object seen several times: in frames of its track, or in
one still picture under independent changes of scale, aspect, rotation, place, background and light.
Coordinates: a crop's pixels are (u, v) in [-0.5, 0.5]; an affine maps them to pixels of the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fartrack.config import ModelConfig
from fartrack.training.pack import LEVELS, Pack, Pictures


@dataclass(frozen=True)
class SynthConfig:
    """How samples are drawn. Shares are of the batch, jitters as in section 5 of the method."""

    track_share: float = 0.4
    centre_jitter: float = 3.5
    """The search crop's centre moves by up to half of this times ``sqrt(w * h)``."""
    scale_jitter: float = 0.5
    template_centre_jitter: float = 0.25
    template_scale_jitter: float = 0.12
    aspect: float = 0.15
    template_rotation: float = 12.0
    """Degrees."""
    paste_share: float = 0.5
    """Of objects with a mask: cut out and put on another picture."""
    distractor_share: float = 0.3
    occluder_share: float = 0.25
    gray_share: float = 0.08
    blur_share: float = 0.15
    light: float = 0.25
    gap: int = 300


@dataclass
class Samples:
    """One batch."""

    templates: Tensor
    """(B, T, 3, S, S) float RGB in 0..255, oldest first."""
    search: Tensor
    """(B, 3, S, S) float RGB in 0..255."""
    box: Tensor
    """(B, 4) x0, y0, x1, y1 of the target in units of the search crop."""
    objects: Tensor
    """(B, T + 1) rows of the object table."""
    search_grid: Tensor
    """(B, G, G, 3): where each search token's centre lies in its picture (x, y in 0..1) and how surely it shows it."""
    template_grid: Tensor
    """(B, T, g, g, 3): the same for templates."""


class Sampler:
    """Draws which objects make a batch: sources first, then classes, then objects, so that no large source drowns it."""

    def __init__(self, pack: Pack, held_out: float = 0.02, train: bool = True) -> None:
        o = pack.objects
        area = o.box[:, 2:].prod(1).sqrt()
        unit = torch.where(o.track >= 0, 1_000_003 + o.track, o.picture)
        # Tracks and pictures are held out whole, by a hash that does not depend on the number of shards read.
        held = (unit * 2654435761 % 1000).float() < 1000 * held_out
        usable = (area >= 8) & (held != train)
        self.tracks = self._tracks(pack, usable)
        still = usable & ((o.track < 0) | (torch.rand(len(area), generator=_rng(1)) < 0.15))
        self.stills = still.nonzero().flatten()
        self.still_weight = _hierarchical(o.source[self.stills], o.kind[self.stills])
        per_source: list[Tensor] = [((o.source == s) & usable).nonzero().flatten() for s in range(len(pack.sources))]
        self.source_start = torch.tensor([0, *[len(p) for p in per_source]]).cumsum(0)
        self.by_source = torch.cat(per_source)
        names = torch.tensor([n in ("sprite", "eth80", "tiny-imagenet", "sky") for n in pack.sources])
        backdrop = ~names[pack.picture_source] & (pack.pictures.size[:, 0].min(1).values >= 120)
        self.backdrops = backdrop.nonzero().flatten()

    def _tracks(self, pack: Pack, usable: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        o = pack.objects
        rows = (usable & (o.track >= 0)).nonzero().flatten()
        # A track may hold several objects a frame only in theory: sort by track, then time.
        rows = rows[(o.track[rows] * 1_000_000 + o.frame[rows]).argsort()]
        ids, count = o.track[rows].unique_consecutive(return_counts=True)
        start = count.cumsum(0) - count
        source = o.source[rows[start]]
        # Drawn cut-outs on borrowed backgrounds teach less than real motion.
        real = torch.tensor([0.25 if n == "sprite" else 1.0 if n in ("sky", "eth80", "fod") else 2.5 for n in pack.sources])
        weight = _hierarchical(source, ids) * (count >= 2) * real[source]
        return rows, start, count, weight / weight.sum().clamp(min=1e-9)

    def to(self, device: torch.device) -> Sampler:
        """Move the tables."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        self.tracks = tuple(t.to(device) for t in self.tracks)  # type: ignore[assignment]
        return self

    def draw(self, batch: int, crops: int, track_share: float, rng: torch.Generator) -> Tensor:
        """(batch, crops) rows of the object table; the last column is the search frame, tracks come first."""
        device = self.stills.device
        n = round(batch * track_share) if len(self.tracks[1]) else 0
        rows, start, count, weight = self.tracks
        parts = []
        if n:
            t = torch.multinomial(weight, n, replacement=True, generator=rng)
            c = count[t].unsqueeze(1)
            at = (torch.rand(n, crops, device=device, generator=rng) * c).long()
            if crops > 2:  # the newest template is the frame before, most of the time
                step = torch.randint(0, 2, (n,), device=device, generator=rng) * 2 - 1
                near = (at[:, -1] + step).clamp(min=0).minimum(c[:, 0] - 1)
                recent = torch.rand(n, device=device, generator=rng) < 0.6
                at[:, -2] = torch.where(recent, near, at[:, -2])
            parts.append(rows[start[t].unsqueeze(1) + at])
        pick = torch.multinomial(self.still_weight, batch - n, replacement=True, generator=rng)
        parts.append(self.stills[pick].unsqueeze(1).expand(-1, crops))
        return torch.cat(parts)

    def same_source(self, source: Tensor, rng: torch.Generator) -> Tensor:
        """For each source one random object of it."""
        lo, hi = self.source_start[source], self.source_start[source + 1]
        return self.by_source[lo + (torch.rand(len(source), device=lo.device, generator=rng) * (hi - lo)).long()]


def make(
    pack: Pack, sampler: Sampler, config: ModelConfig, synth: SynthConfig, batch: int, templates: int,
    rng: torch.Generator,
) -> Samples:  # fmt: skip
    """Draw and make one batch; everything random comes from `rng`."""
    crops = templates + 1
    objects = sampler.draw(batch, crops, synth.track_share, rng)
    device = objects.device
    o = pack.objects

    def uniform(*shape: int, lo: float = -1.0, hi: float = 1.0) -> Tensor:
        return lo + (hi - lo) * torch.rand(*shape, device=device, generator=rng)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, generator=rng)

    # Where each crop looks -------------------------------------------------------------------------------------
    box = o.box[objects]  # (B, K, 4)
    length = box[..., 2:].prod(-1).sqrt()
    is_search = torch.arange(crops, device=device) == crops - 1
    first = torch.arange(crops, device=device) == 0
    scale_sd = torch.where(is_search, synth.scale_jitter, torch.where(first, 0.03, synth.template_scale_jitter))
    shift = torch.where(is_search, synth.centre_jitter, torch.where(first, 0.05, synth.template_centre_jitter))
    scale = (normal(batch, crops) * scale_sd).clamp(-1.1, 0.9).exp()
    factor = torch.where(is_search, config.search_factor, config.template_factor)
    jittered = length * scale
    centre = box[..., :2] + box[..., 2:] / 2 + (jittered * shift).unsqueeze(-1) * 0.5 * uniform(batch, crops, 2)
    side = jittered * factor
    aspect = (synth.aspect * uniform(batch, crops)).exp()
    flip = torch.where(uniform(batch, 1) < 0, -1.0, 1.0)
    angle = torch.where(is_search, 0.0, math.radians(synth.template_rotation)) * uniform(batch, crops)
    axes = torch.stack([side * aspect * flip, side / aspect], -1)  # length of the crop's sides in picture pixels
    cos, sin = angle.cos(), angle.sin()
    affine = torch.stack(
        [
            torch.stack([cos * axes[..., 0], -sin * axes[..., 1], centre[..., 0]], -1),
            torch.stack([sin * axes[..., 0], cos * axes[..., 1], centre[..., 1]], -1),
        ],
        -2,
    )
    corner = (box[:, -1, :2] - centre[:, -1]) / axes[:, -1]
    other = (box[:, -1, :2] + box[:, -1, 2:] - centre[:, -1]) / axes[:, -1]
    target = torch.cat([corner.minimum(other), corner.maximum(other)], -1) + 0.5

    # What lies behind and in front -----------------------------------------------------------------------------
    mask = o.mask[objects]
    paste = (mask > 0) & (uniform(batch, 1, lo=0) < synth.paste_share)
    sprite = (mask > 0) & (o.track[objects] >= 0)  # animated cut-outs have no surroundings of their own
    paste |= sprite
    pick = (uniform(batch, lo=0) * len(sampler.backdrops)).long()
    backdrop = sampler.backdrops[pick]
    bsize = pack.pictures.size[backdrop, 0].float()
    bside = bsize.min(1).values * uniform(batch, lo=0.4, hi=0.95)
    room = (bsize - bside.unsqueeze(1)).clamp(min=0)
    bcentre = bsize / 2 + 0.5 * room * uniform(batch, 2)
    drift = bside.view(-1, 1, 1) * 0.12 * uniform(batch, crops, 2)
    bscale = bside.unsqueeze(1) * factor / config.search_factor * scale
    zero = torch.zeros_like(bscale)
    behind = torch.stack(
        [
            torch.stack([bscale * flip, zero, bcentre[:, None, 0] + drift[..., 0]], -1),
            torch.stack([zero, bscale, bcentre[:, None, 1] + drift[..., 1]], -1),
        ],
        -2,
    )
    # At run time what lies outside the frame is black; now and then it must be so here.
    black = (uniform(batch, 1, lo=0) < 0.2) & ~paste
    rival = sampler.same_source(o.source[objects[:, -1]], rng)

    def layers(which: slice, pixels: int) -> tuple[Tensor, Tensor]:
        """(B * K', 3, S, S) and how surely each pixel shows the object's own picture, (B * K', S, S)."""
        own = affine[:, which].flatten(0, 1)
        blur = (uniform(len(own), lo=0) < synth.blur_share).long()
        colour, owner, inside = _look(pack.pictures, o.picture[objects[:, which]].flatten(), own, pixels, blur)
        sheet, _, there = _look(
            pack.pictures,
            backdrop.unsqueeze(1).expand(-1, crops)[:, which].flatten(),
            behind[:, which].flatten(0, 1),
            pixels,
            blur,
        )
        sheet = sheet * (there * ~black.expand(-1, crops)[:, which].flatten().view(-1, 1, 1)).unsqueeze(1)
        cut = paste[:, which].flatten().view(-1, 1, 1)
        alpha = inside * torch.where(cut, (owner == mask[:, which].flatten().view(-1, 1, 1)).float(), 1.0)
        return sheet + (colour - sheet) * alpha.unsqueeze(1), inside * (alpha if cut.any() else 1.0)

    seen, seen_surely = layers(slice(crops - 1, crops), config.search_size)
    past, past_surely = layers(slice(0, templates), config.template_size)
    seen = seen.clone()

    # Distractors of the same source, in the last part of the batch (a fixed number, so that shapes stay the same).
    n = round(batch * synth.distractor_share)
    if n:
        tail = slice(batch - n, batch)
        seen[tail], hidden = _add_rival(pack, config, seen[tail], target[tail], rival[tail], flip[tail], uniform)
        seen_surely[tail] *= 1 - hidden
    past = past.view(batch, templates, 3, config.template_size, config.template_size)
    past_surely = past_surely.view(batch, templates, config.template_size, config.template_size)
    seen, seen_surely = _occlude(seen, seen_surely, target, synth.occluder_share, uniform)

    # Light -----------------------------------------------------------------------------------------------------
    both = uniform(batch, 1, 5)
    each = both + 0.5 * uniform(batch, crops, 5)
    gray = uniform(batch, lo=0) < synth.gray_share
    past = _light(past, each[:, :templates], gray, synth.light, rng)
    seen = _light(seen.unsqueeze(1), each[:, templates:], gray, synth.light, rng)[:, 0]

    sizes = pack.pictures.size[o.picture[objects], 0].float()
    return Samples(
        past,
        seen,
        target,
        objects,
        _token_places(affine[:, -1], sizes[:, -1], seen_surely, config.search_grid),
        _token_places(affine[:, :-1], sizes[:, :-1], past_surely, config.template_grid),
    )


def _look(pictures: Pictures, which: Tensor, affine: Tensor, pixels: int, blur: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sample pictures bilinearly.

    Args:
        pictures: the store.
        which: (N,) pictures.
        affine: (N, 2, 3) from (u, v, 1) to picture pixels.
        pixels: side of the result.
        blur: (N,) extra levels of the pyramid to go down.

    Returns:
        colour (N, 3, S, S) in 0..255; owner (N, S, S) label of the nearest pixel; inside (N, S, S) 0 or 1.
    """
    shrink = affine[:, :, :2].norm(dim=1).max(1).values / pixels
    level = ((shrink.clamp(min=1e-3).log2() + 0.4).floor().long() + blur).clamp(0, LEVELS - 1)
    whole = pictures.size[which, 0].float()
    at = (torch.arange(pixels, device=which.device) + 0.5) / pixels - 0.5
    u, v = at.view(1, 1, -1), at.view(1, -1, 1)
    a = affine.view(-1, 6, 1, 1)
    x = a[:, 0] * u + a[:, 1] * v + a[:, 2]
    y = a[:, 3] * u + a[:, 4] * v + a[:, 5]
    w0, h0 = whole[:, 0].view(-1, 1, 1), whole[:, 1].view(-1, 1, 1)
    inside = ((x >= 0) & (x < w0) & (y >= 0) & (y < h0)).float()
    if which.device.type == "cpu":
        return (*_warp_opencv(pictures, which, affine, pixels, level), inside)
    return (*_warp_torch(pictures, which, x, y, level), inside)


def _warp_torch(pictures: Pictures, which: Tensor, x: Tensor, y: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear gather for the GPU: everything in one batch, no shape that depends on data."""
    wh = pictures.size[which, level]
    whole = pictures.size[which, 0].float()
    base = pictures.offset[which, level].view(-1, 1, 1)
    w, h = wh[:, 0].view(-1, 1, 1), wh[:, 1].view(-1, 1, 1)
    x = (x * (w / whole[:, 0].view(-1, 1, 1)) - 0.5).clamp(min=0)
    y = (y * (h / whole[:, 1].view(-1, 1, 1)) - 0.5).clamp(min=0)
    x0, y0 = x.long().minimum(w - 1), y.long().minimum(h - 1)
    x1, y1 = (x0 + 1).minimum(w - 1), (y0 + 1).minimum(h - 1)
    fx, fy = (x - x0).clamp(0, 1).unsqueeze(-1), (y - y0).clamp(0, 1).unsqueeze(-1)

    def tap(row: Tensor, column: Tensor) -> Tensor:
        return pictures.pixels[base + row * w + column].unsqueeze(-1).view(torch.uint8)

    corners = [tap(y0, x0), tap(y0, x1), tap(y1, x0), tap(y1, x1)]
    top = torch.lerp(corners[0][..., :3].float(), corners[1][..., :3].float(), fx)
    bottom = torch.lerp(corners[2][..., :3].float(), corners[3][..., :3].float(), fx)
    return torch.lerp(top, bottom, fy).permute(0, 3, 1, 2), corners[0][..., 3].long()


def _warp_opencv(
    pictures: Pictures, which: Tensor, affine: Tensor, pixels: int, level: Tensor
) -> tuple[Tensor, Tensor]:
    """The same for the CPU, where a loop over OpenCV's vector code is ten times faster than gathers."""
    n = len(which)
    colour = np.empty((n, pixels, pixels, 4), np.uint8)
    owner = np.empty((n, pixels, pixels), np.uint8)
    flat = pictures.pixels.numpy()
    sizes, offsets = pictures.size.numpy(), pictures.offset.numpy()
    for i, (p, lv, m) in enumerate(zip(which.tolist(), level.tolist(), affine.double().numpy(), strict=True)):
        (w, h), start = sizes[p, lv], offsets[p, lv]
        image = flat[start : start + w * h].view(np.uint8).reshape(h, w, 4)
        # From output pixel centres to this level's pixel centres.
        to_unit = np.array([[1 / pixels, 0, 0.5 / pixels - 0.5], [0, 1 / pixels, 0.5 / pixels - 0.5], [0, 0, 1]])
        ratio = np.array([[w / sizes[p, 0, 0], 0], [0, h / sizes[p, 0, 1]]])
        matrix = ratio @ m @ to_unit - np.array([[0, 0, 0.5], [0, 0, 0.5]])
        how = cv2.WARP_INVERSE_MAP
        cv2.warpAffine(
            image, matrix, (pixels, pixels), colour[i], flags=cv2.INTER_LINEAR | how, borderMode=cv2.BORDER_REPLICATE
        )
        label = np.ascontiguousarray(image[..., 3])
        if label.any():
            cv2.warpAffine(
                label, matrix, (pixels, pixels), owner[i], flags=cv2.INTER_NEAREST | how, borderMode=cv2.BORDER_REPLICATE
            )
        else:
            owner[i] = 0
    rgb = torch.from_numpy(colour)[..., :3].permute(0, 3, 1, 2).float()
    return rgb, torch.from_numpy(owner).long()


def _add_rival(
    pack: Pack, config: ModelConfig, seen: Tensor, target: Tensor, rival: Tensor, flip: Tensor, uniform: object
) -> tuple[Tensor, Tensor]:
    """Put another object of the same source beside the target, softly cut out; returns pictures and what it hides."""
    o, n = pack.objects, len(rival)
    box = o.box[rival]
    size = (target[:, 2:] - target[:, :2]).clamp(min=0.02)
    length = size.prod(1).sqrt()
    turn = math.pi * uniform(n)  # type: ignore[operator]
    away = uniform(n, lo=1.0, hi=2.2) * length  # type: ignore[operator]
    middle = (target[:, :2] + target[:, 2:]) / 2 + away.unsqueeze(1) * torch.stack([turn.cos(), turn.sin()], 1)
    # One unit of the search crop is this many pixels of the rival's picture, so that both look alike in size.
    pixels = box[:, 2:].prod(1).sqrt() / (length * uniform(n, lo=0.7, hi=1.3))  # type: ignore[operator]
    centre = box[:, :2] + box[:, 2:] / 2
    x = torch.stack([pixels * flip[:, 0], 0 * pixels, centre[:, 0] - pixels * flip[:, 0] * (middle[:, 0] - 0.5)], 1)
    y = torch.stack([0 * pixels, pixels, centre[:, 1] - pixels * (middle[:, 1] - 0.5)], 1)
    colour, owner, inside = _look(
        pack.pictures, o.picture[rival], torch.stack([x, y], 1), config.search_size, torch.zeros_like(rival)
    )
    at = (torch.arange(config.search_size, device=seen.device) + 0.5) / config.search_size
    half = 0.5 * box[:, 2:] / pixels.unsqueeze(1)
    dx = (at.view(1, 1, -1) - middle[:, 0].view(-1, 1, 1)) / half[:, 0].view(-1, 1, 1)
    dy = (at.view(1, -1, 1) - middle[:, 1].view(-1, 1, 1)) / half[:, 1].view(-1, 1, 1)
    oval = ((1.1 - (dx * dx + dy * dy).sqrt()) * 6).clamp(0, 1)
    has = (o.mask[rival] > 0).view(-1, 1, 1)
    alpha = inside * torch.where(has, (owner == o.mask[rival].view(-1, 1, 1)).float(), oval)
    return seen + (colour - seen) * alpha.unsqueeze(1), alpha


def _occlude(seen: Tensor, surely: Tensor, target: Tensor, share: float, uniform: object) -> tuple[Tensor, Tensor]:
    """Cover a part of some targets with a piece of another sample's search crop."""
    b, _, s, _ = seen.shape
    at = (torch.arange(s, device=seen.device) + 0.5) / s
    size = target[:, 2:] - target[:, :2]
    middle = target[:, :2] + size * uniform(b, 2, lo=0, hi=1)  # type: ignore[operator]
    half = 0.5 * size * uniform(b, 2, lo=0.2, hi=0.75)  # type: ignore[operator]
    on = (uniform(b, lo=0) < share).view(-1, 1, 1)  # type: ignore[operator]
    x = (at.view(1, 1, -1) - middle[:, 0].view(-1, 1, 1)).abs() < half[:, 0].view(-1, 1, 1)
    y = (at.view(1, -1, 1) - middle[:, 1].view(-1, 1, 1)).abs() < half[:, 1].view(-1, 1, 1)
    cover = (x & y & on).float()
    return seen + (seen.roll(1, 0) - seen) * cover.unsqueeze(1), surely * (1 - cover)


def _light(image: Tensor, change: Tensor, gray: Tensor, amount: float, rng: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation, warmth and noise; `change` (B, K, 5) in about [-1.5, 1.5]."""
    b, k = image.shape[:2]
    brightness, contrast, colour, warmth, green = (amount * change).unbind(-1)
    weights = torch.tensor([0.299, 0.587, 0.114], device=image.device)
    saturation = torch.where(gray.view(-1, 1), torch.zeros_like(colour), (1 + 1.5 * colour).clamp(min=0))
    # Everything is one 3 x 3 matrix and an offset per crop: one pass over the pixels.
    matrix = weights.expand(3, 3) + saturation[..., None, None] * (torch.eye(3, device=image.device) - weights)
    gain = 1 + torch.stack([0.3 * warmth, 0.15 * green, -0.3 * warmth], -1)
    gain = gain * ((1 + contrast) * (1 + brightness)).unsqueeze(-1)
    offset = 115.0 * (gain - gain * (1 + contrast).unsqueeze(-1).reciprocal()).neg()
    flat = image.flatten(3).flatten(0, 1)
    out = torch.baddbmm(offset.view(-1, 3, 1), (gain.unsqueeze(-1) * matrix).flatten(0, 1), flat).view(image.shape)
    noise = torch.randn(image.shape[-2:], device=image.device, generator=rng)
    return out.addcmul_((6 * green.abs()).view(b, k, 1, 1, 1), noise).clamp_(0, 255)


def _token_places(affine: Tensor, size: Tensor, surely: Tensor, grid: int) -> Tensor:
    """(..., 2, 3), (..., 2), (..., S, S) -> (..., grid, grid, 3): picture place in 0..1 and sureness per token."""
    at = (torch.arange(grid, device=affine.device) + 0.5) / grid - 0.5
    v, u = torch.meshgrid(at, at, indexing="ij")
    place = torch.stack([u, v, torch.ones_like(u)], -1)
    xy = torch.einsum("...ij,hwj->...hwi", affine, place) / size[..., None, None, :]
    flat = surely.reshape(-1, 1, *surely.shape[-2:])
    sure = F.adaptive_avg_pool2d(flat, grid).view(*surely.shape[:-2], grid, grid, 1)
    inside = ((xy > 0) & (xy < 1)).all(-1, keepdim=True)
    return torch.cat([xy, sure * inside], -1)


def _hierarchical(source: Tensor, kind: Tensor) -> Tensor:
    """Weights by which sources share the draw by the 0.6th power of their size, classes within a source evenly."""
    kinds, inverse, count = kind.unique(return_inverse=True, return_counts=True)
    weight = count.float().pow(-0.7)[inverse]
    total = torch.zeros(int(source.max()) + 1 if len(source) else 1).index_add_(0, source, weight)
    size = torch.bincount(source, minlength=len(total)).float()
    return weight / total[source].clamp(min=1e-9) * size[source].pow(0.6) / size.pow(0.6).sum().clamp(min=1e-9)


def _rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def easier(synth: SynthConfig, amount: float) -> SynthConfig:
    """A curriculum: `amount` 0 is gentle, 1 the whole of `synth`."""

    def blend(low: float, high: float) -> float:
        return low + (high - low) * min(1.0, max(0.0, amount))

    return replace(
        synth,
        centre_jitter=blend(min(1.6, synth.centre_jitter), synth.centre_jitter),
        scale_jitter=blend(min(0.15, synth.scale_jitter), synth.scale_jitter),
        distractor_share=blend(0.0, synth.distractor_share),
        occluder_share=blend(0.0, synth.occluder_share),
        template_rotation=blend(0.0, synth.template_rotation),
        light=blend(0.1, synth.light),
    )

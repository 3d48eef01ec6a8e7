"""Plans made into pixels. One plan, two ways that agree: batched tensor code (GPU), a loop over OpenCV (CPU)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fartrack.config import ModelConfig
from fartrack.crops import BRIGHTEST, GIVEN, OWN, STEEP
from fartrack.training.pack import LEVELS, Objects, Pictures
from fartrack.training.synth import Plan

Bytes = npt.NDArray[np.uint8]


@dataclass
class Samples:
    """One batch."""

    templates: Tensor
    """(B, T, 3, S, S) float RGB in 0..255: the given one, then others in no order of time."""
    search: Tensor
    """(B, 3, S, S) float RGB in 0..255."""
    box: Tensor
    """(B, 4) x0, y0, x1, y1 of the target in units of the search crop."""
    pictures: Tensor
    """(B, T + 1) numbers of the pictures that the crops show."""
    search_grid: Tensor
    """(B, G, G, 3): where each search token's centre lies in its picture (x, y in 0..1) and how surely it shows it."""
    template_grid: Tensor
    """(B, T, g, g, 3): the same for templates."""
    trajectory: Tensor | None = None
    """(B, N, 4) past boxes in units of the search crop, oldest first."""


def render(
    pictures: Pictures, objects: Objects, plan: Plan, config: ModelConfig, draw: Callable[..., Any] | None = None
) -> Samples:
    """Make a plan's crops on the device where the pictures are; `draw` is `render_torch`, compiled perhaps."""
    own = objects.picture[plan.objects]
    if draw is None:
        draw = render_opencv if pictures.pixels.device.type == "cpu" else render_torch
    past, seen, past_surely, seen_surely = draw(pictures, own, plan, config)
    past, seen = lighten(past, config.lighten), lighten(seen, config.lighten)
    past = tint_outside(past, plan.template_box, config.template_tint)
    sizes = pictures.size[own, 0].float()
    return Samples(
        past,
        seen,
        plan.target,
        own,
        _token_places(plan.affine[:, -1], sizes[:, -1], seen_surely, config.search_grid),
        _token_places(plan.affine[:, :-1], sizes[:, :-1], past_surely, config.template_grid),
        plan.trajectory,
    )


def lighten(crops: Tensor, below: float) -> Tensor:
    """The same as `crops.lighten` does, (..., 3, S, S) in 0..255."""
    if not below:
        return crops
    every = (-3, -2, -1)
    mean = crops.sum(every, keepdim=True) / (crops >= 0.5).sum(every, keepdim=True).clamp(min=1)
    return (crops * ((below / mean.clamp(min=1)) ** STEEP).clamp(1, BRIGHTEST)).clamp(max=255)


def tint_outside(templates: Tensor, half: Tensor, share: float) -> Tensor:
    """The same as `crops.tint_outside` does, for boxes in the middle of crops.

    Args:
        templates: (B, T, 3, S, S) in 0..255, RGB; the first one's box was given.
        half: (B, T, 2) half sides of the boxes in units of the crop.
        share: of the tint, 0 to 1.
    """
    if not share:
        return templates
    size = templates.shape[-1]
    at = torch.arange(size, device=templates.device)
    low, high = ((0.5 - half) * size).unsqueeze(-1), ((0.5 + half) * size).unsqueeze(-1)
    covered = (torch.minimum(at + 1, high) - torch.maximum(at, low)).clamp(0, 1)  # (B, T, 2, S)
    outside = share * (1 - covered[:, :, 1, :, None] * covered[:, :, 0, None, :])
    given, own = _tints(templates.device)
    colour = torch.cat([given.expand_as(templates[:, :1]), own.expand_as(templates[:, 1:])], 1)
    return torch.lerp(templates, colour, outside.unsqueeze(2).expand_as(templates))


@cache
def _tints(device: torch.device) -> Tensor:
    """(2, 3, 1, 1): made once, for a copy to the GPU makes it wait."""
    return torch.tensor([GIVEN, OWN], dtype=torch.float32, device=device).view(2, 3, 1, 1)


def _level(affine: Tensor, blur: Tensor, pixels: int | Tensor) -> Tensor:
    """Which size of its picture a crop of so many pixels reads; `blur` goes further down."""
    shrink = affine[..., :2].norm(dim=-2).amax(-1) / pixels
    return ((shrink.clamp(min=1e-3).log2() + 0.4).floor().long() + blur).clamp(0, LEVELS - 1)


# -- tensors ---------------------------------------------------------------------------------------------------


def render_torch(
    pictures: Pictures, own: Tensor, plan: Plan, config: ModelConfig
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Templates, search crops and how surely their tokens show the object's own picture; no shape depends on data."""
    b, crops = own.shape
    t = crops - 1

    def layers(which: slice, pixels: int) -> tuple[Tensor, Tensor]:
        """(B * K', 3, S, S) and which pixels show the object's own picture, (B * K', S, S)."""
        blur = plan.blur[:, which].flatten()
        colour, owner, inside = _look(
            pictures, own[:, which].flatten(), plan.affine[:, which].flatten(0, 1), pixels, blur
        )
        k = colour.shape[0] // b
        backdrop = plan.backdrop.repeat_interleave(k)
        sheet, _, there = _look(pictures, backdrop, plan.behind[:, which].flatten(0, 1), pixels, blur)
        sheet = sheet * (there * ~plan.black.repeat_interleave(k).view(-1, 1, 1)).unsqueeze(1)
        label = plan.label[:, which].flatten().view(-1, 1, 1)
        alpha = inside * ((owner == label) | (label == 0))
        return sheet + (colour - sheet) * alpha.unsqueeze(1), alpha

    seen, seen_surely = layers(slice(t, crops), config.search_size)
    past, past_surely = layers(slice(0, t), config.template_size)
    past, past_surely = past.unflatten(0, (b, t)), past_surely.unflatten(0, (b, t))
    n = len(plan.rival)
    if n:
        beside, hidden = _rivals(pictures, plan, seen[b - n :], config.search_size)
        seen = torch.cat([seen[: b - n], beside])
        seen_surely = torch.cat([seen_surely[: b - n], seen_surely[b - n :] * (1 - hidden)])
    cover = _cover(plan.cover, config.search_size)
    seen = seen + (seen[plan.partner] - seen) * cover.unsqueeze(1)
    seen_surely = seen_surely * (1 - cover)
    gain, offset, grain = light(plan)
    seen = _relight(seen.flatten(2), gain[:, -1], offset[:, -1], grain[:, -1], plan.search_noise)
    flat = past.flatten(0, 1).flatten(2)
    gain, offset = gain[:, :-1].flatten(0, 1), offset[:, :-1].flatten(0, 1)
    past = _relight(flat, gain, offset, grain[:, :-1].flatten(), plan.template_noise).unflatten(0, (b, t))
    return past, seen, _pool(past_surely, config.template_grid), _pool(seen_surely, config.search_grid)


def _look(
    pictures: Pictures, which: Tensor, affine: Tensor, pixels: int, blur: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
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
    level = _level(affine, blur, pixels)
    whole = pictures.size[which, 0].float()
    at = (torch.arange(pixels, device=which.device) + 0.5) / pixels - 0.5
    u, v = at.view(1, 1, -1), at.view(1, -1, 1)
    a = affine.view(-1, 6, 1, 1)
    x = a[:, 0] * u + a[:, 1] * v + a[:, 2]
    y = a[:, 3] * u + a[:, 4] * v + a[:, 5]
    w0, h0 = whole[:, 0].view(-1, 1, 1), whole[:, 1].view(-1, 1, 1)
    inside = ((x >= 0) & (x < w0) & (y >= 0) & (y < h0)).float()

    wh = pictures.size[which, level]
    base = pictures.offset[which, level].view(-1, 1, 1)
    w, h = wh[:, 0].view(-1, 1, 1), wh[:, 1].view(-1, 1, 1)
    x = (x * (w / w0) - 0.5).clamp(min=0)
    y = (y * (h / h0) - 0.5).clamp(min=0)
    x0, y0 = x.long().minimum(w - 1), y.long().minimum(h - 1)
    x1, y1 = (x0 + 1).minimum(w - 1), (y0 + 1).minimum(h - 1)
    fx, fy = (x - x0).clamp(0, 1), (y - y0).clamp(0, 1)

    def tap(row: Tensor, column: Tensor) -> Tensor:
        return pictures.pixels[base + row * w + column]

    near_x, near_y = fx < 0.5, fy < 0.5
    top, bottom = (tap(y0, x0), tap(y0, x1)), (tap(y1, x0), tap(y1, x1))
    nearest = torch.where(near_y, torch.where(near_x, *top), torch.where(near_x, *bottom))

    def channel(shift: int) -> Tensor:
        a, b, c, d = (((pixel >> shift) & 255).float() for pixel in (*top, *bottom))
        return torch.lerp(torch.lerp(a, b, fx), torch.lerp(c, d, fx), fy)

    return torch.stack([channel(0), channel(8), channel(16)], 1), ((nearest >> 24) & 255).long(), inside


def _rivals(pictures: Pictures, plan: Plan, seen: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Put the rivals into their search crops, softly cut out; returns crops and what the rivals hide."""
    colour, owner, inside = _look(pictures, plan.rival, plan.rival_affine, pixels, torch.zeros_like(plan.rival))
    at = (torch.arange(pixels, device=seen.device) + 0.5) / pixels
    middle, half = plan.rival_oval[:, :2], plan.rival_oval[:, 2:]
    dx = (at.view(1, 1, -1) - middle[:, 0].view(-1, 1, 1)) / half[:, 0].view(-1, 1, 1)
    dy = (at.view(1, -1, 1) - middle[:, 1].view(-1, 1, 1)) / half[:, 1].view(-1, 1, 1)
    oval = ((1.1 - (dx * dx + dy * dy).sqrt()) * 6).clamp(0, 1)
    label = plan.rival_label.view(-1, 1, 1)
    alpha = inside * torch.where(label > 0, (owner == label).float(), oval)
    return seen + (colour - seen) * alpha.unsqueeze(1), alpha


def _cover(cover: Tensor, pixels: int) -> Tensor:
    """(B, S, S): 1 where the occluder is, a piece of another sample's search crop."""
    at = (torch.arange(pixels, device=cover.device) + 0.5) / pixels
    x = (at.view(1, 1, -1) - cover[:, 0].view(-1, 1, 1)).abs() < cover[:, 2].view(-1, 1, 1)
    y = (at.view(1, -1, 1) - cover[:, 1].view(-1, 1, 1)).abs() < cover[:, 3].view(-1, 1, 1)
    return (x & y).float()


@cache
def _luminance(device: torch.device) -> tuple[Tensor, Tensor]:
    """Weights of gray as a (3, 3) matrix, and the identity: made once, for a copy to the GPU makes it wait."""
    return torch.tensor([0.299, 0.587, 0.114], device=device).expand(3, 3), torch.eye(3, device=device)


def light(plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Brightness, contrast, saturation and warmth as one matrix and offset per crop, and the noise's deviation.

    Returns:
        (B, K, 3, 3), (B, K, 3), (B, K).
    """
    brightness, contrast, colour, warmth, green = plan.change.unbind(-1)
    weights, eye = _luminance(plan.change.device)
    saturation = (1 + 1.5 * colour).clamp(min=0) * ~plan.gray.unsqueeze(1)
    matrix = weights + saturation[..., None, None] * (eye - weights)
    gain = 1 + torch.stack([0.3 * warmth, 0.15 * green, -0.3 * warmth], -1)
    gain = gain * ((1 + contrast) * (1 + brightness)).unsqueeze(-1)
    offset = 115.0 * (gain / (1 + contrast).unsqueeze(-1) - gain)
    return gain.unsqueeze(-1) * matrix, offset, 6 * green.abs()


def _relight(flat: Tensor, gain: Tensor, offset: Tensor, grain: Tensor, noise: Tensor) -> Tensor:
    """(N, C, S * S) with (N, 3, C) -> (N, 3, S, S): one pass over the pixels, then noise."""
    out = torch.baddbmm(offset.unsqueeze(-1), gain, flat).unflatten(2, noise.shape)
    return out.addcmul_(grain.view(-1, 1, 1, 1), noise).clamp_(0, 255)


def _pool(surely: Tensor, grid: int) -> Tensor:
    """(..., S, S) -> (..., grid, grid)."""
    flat = surely.flatten(0, -3).unsqueeze(1)
    return F.avg_pool2d(flat, flat.shape[-1] // grid).view(*surely.shape[:-2], grid, grid)


def _token_places(affine: Tensor, size: Tensor, sure: Tensor, grid: int) -> Tensor:
    """(..., 2, 3), (..., 2), (..., grid, grid) -> (..., grid, grid, 3): place in 0..1 and sureness."""
    at = (torch.arange(grid, device=affine.device) + 0.5) / grid - 0.5
    v, u = torch.meshgrid(at, at, indexing="ij")
    place = torch.stack([u, v, torch.ones_like(u)], -1)
    xy = torch.einsum("...ij,hwj->...hwi", affine, place) / size[..., None, None, :]
    inside = ((xy > 0) & (xy < 1)).all(-1, keepdim=True)
    return torch.cat([xy, sure.unsqueeze(-1) * inside], -1)


# -- OpenCV ----------------------------------------------------------------------------------------------------


def render_opencv(
    pictures: Pictures, own: Tensor, plan: Plan, config: ModelConfig
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same for the CPU: bytes until the light, and no layer that is not seen."""
    b, crops = own.shape
    t, big, small = crops - 1, config.search_size, config.template_size
    store = _Store(pictures)
    pixels = torch.tensor([small] * t + [big])
    levels, below = (_level(a, plan.blur, pixels).tolist() for a in (plan.affine, plan.behind))
    which, labels = own.tolist(), plan.label.tolist()
    affine, behind = plan.affine.double().numpy(), plan.behind.double().numpy()
    backdrop, black = plan.backdrop.tolist(), plan.black.tolist()
    past, seen = np.empty((b, t, small, small, 4), np.uint8), np.empty((b, big, big, 4), np.uint8)
    past_alpha, seen_alpha = np.empty((b, t, small, small), np.uint8), np.empty((b, big, big), np.uint8)
    for i in range(b):
        for k in range(crops):
            out, alpha = (past[i, k], past_alpha[i, k]) if k < t else (seen[i], seen_alpha[i])
            store.warp(which[i][k], levels[i][k], affine[i, k], out)
            store.alpha(which[i][k], levels[i][k], affine[i, k], labels[i][k], alpha)
            if alpha.all():
                continue
            if black[i]:
                out[alpha == 0] = 0
                continue
            sheet, there = np.empty_like(out), np.empty_like(alpha)
            store.warp(backdrop[i], below[i][k], behind[i, k], sheet)
            store.alpha(backdrop[i], below[i][k], behind[i, k], 0, there)
            if not there.all():
                sheet[there == 0] = 0
            cv2.copyTo(sheet, cv2.bitwise_not(alpha), out)
    _rivals_opencv(store, plan, seen, seen_alpha)
    _cover_opencv(plan, seen, seen_alpha)
    gain, offset, grain = light(plan)
    gain = F.pad(gain, (0, 1))  # the fourth byte of a pixel is no colour

    def develop(pixels: Bytes, columns: slice, noise: Tensor) -> Tensor:
        flat = torch.from_numpy(pixels).flatten(0, -4).flatten(1, 2).float().transpose(1, 2)
        return _relight(
            flat, gain[:, columns].flatten(0, 1), offset[:, columns].flatten(0, 1), grain[:, columns].flatten(), noise
        )

    templates = develop(past, slice(0, t), plan.template_noise).unflatten(0, (b, t))
    search = develop(seen, slice(t, crops), plan.search_noise)
    return templates, search, _pool_bytes(past_alpha, config.template_grid), _pool_bytes(seen_alpha, config.search_grid)


class _Store:
    """Pictures as arrays."""

    def __init__(self, pictures: Pictures) -> None:
        self.picture, self.size = pictures.rgba, pictures.size.numpy()

    def matrix(self, number: int, level: int, affine: npt.NDArray[np.float64], pixels: int) -> npt.NDArray[np.float64]:
        """(2, 3) from output pixel centres to this level's pixel centres."""
        matrix = affine / pixels
        matrix[:, 2] = affine[:, 2] + (affine[:, 0] + affine[:, 1]) * (0.5 / pixels - 0.5)
        matrix *= (self.size[number, level] / self.size[number, 0])[:, None]
        matrix[:, 2] -= 0.5
        return matrix

    def warp(self, number: int, level: int, affine: npt.NDArray[np.float64], out: Bytes) -> None:
        """Sample a picture bilinearly into `out`."""
        side = out.shape[0]
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        matrix = self.matrix(number, level, affine, side)
        cv2.warpAffine(self.picture(number, level), matrix, (side, side), out, how, cv2.BORDER_REPLICATE)

    def alpha(self, number: int, level: int, affine: npt.NDArray[np.float64], label: int, out: Bytes) -> None:
        """255 where the picture (label 0) or its object of that label is, else 0."""
        side = out.shape[0]
        if label:
            plane = np.ascontiguousarray(self.picture(number, level)[..., 3])
            how = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
            matrix = self.matrix(number, level, affine, side)
            cv2.warpAffine(plane, matrix, (side, side), out, how, cv2.BORDER_REPLICATE)
            cv2.inRange(out, label, label, out)  # type: ignore[call-overload]
        else:
            out[:] = 255
        width, height = self.size[number, 0]
        low, high = affine[:, 2] - 0.5 * np.abs(affine[:, :2]).sum(1), affine[:, 2] + 0.5 * np.abs(affine[:, :2]).sum(1)
        if low.min() >= 0 and high[0] < width and high[1] < height:
            return
        at = (np.arange(side) + 0.5) / side - 0.5
        if affine[0, 1] == 0 and affine[1, 0] == 0:  # not rotated: what is inside is a rectangle
            x, y = affine[0, 0] * at + affine[0, 2], affine[1, 1] * at + affine[1, 2]
            out[(y < 0) | (y >= height)] = 0
            out[:, (x < 0) | (x >= width)] = 0
            return
        x = (affine[0, 0] * at + affine[0, 2])[None] + (affine[0, 1] * at)[:, None]
        y = (affine[1, 0] * at + affine[1, 2])[None] + (affine[1, 1] * at)[:, None]
        out[(x < 0) | (x >= width) | (y < 0) | (y >= height)] = 0


def _rivals_opencv(store: _Store, plan: Plan, seen: Bytes, alpha: Bytes) -> None:
    """Put the rivals into the last search crops, in place."""
    n, side = len(plan.rival), seen.shape[1]
    if not n:
        return
    level = _level(plan.rival_affine, torch.zeros_like(plan.rival), side).tolist()
    oval, affine = plan.rival_oval.double().numpy(), plan.rival_affine.double().numpy()
    colour, mask = np.empty((side, side, 4), np.uint8), np.empty((side, side), np.uint8)
    at = (np.arange(side, dtype=np.float32) + 0.5) / side
    for j, (number, label) in enumerate(zip(plan.rival.tolist(), plan.rival_label.tolist(), strict=True)):
        crop, sure = seen[len(seen) - n + j], alpha[len(seen) - n + j]
        x, y, half_x, half_y = oval[j]
        if label:  # its own mask says where it is, and that may be beyond its box's ellipse
            columns = rows = slice(0, side)
        else:
            columns, rows = (
                slice(max(0, int((c - 1.1 * h) * side)), max(0, min(side, int((c + 1.1 * h) * side) + 2)))
                for c, h in ((x, half_x), (y, half_y))
            )
        if columns.start >= columns.stop or rows.start >= rows.stop:
            continue
        store.warp(number, level[j], affine[j], colour)
        store.alpha(number, level[j], affine[j], label, mask)
        if label:
            cv2.copyTo(colour, mask, crop)
            sure[mask > 0] = 0
            continue
        dx, dy = (at[columns] - x) / half_x, (at[rows] - y) / half_y
        soft = np.clip((1.1 - np.sqrt((dx * dx)[None] + (dy * dy)[:, None])) * 6, 0, 1) * (mask[rows, columns] > 0)
        soft = soft.astype(np.float32)
        crop[rows, columns] = cv2.blendLinear(
            np.ascontiguousarray(colour[rows, columns]), np.ascontiguousarray(crop[rows, columns]), soft, 1 - soft
        )
        sure[rows, columns] = (sure[rows, columns] * (1 - soft)).astype(np.uint8)


def _cover_opencv(plan: Plan, seen: Bytes, alpha: Bytes) -> None:
    """Cover parts of search crops with pieces of others, in place."""
    side, cover, partner = seen.shape[1], plan.cover.numpy(), plan.partner.tolist()
    at = (np.arange(side, dtype=np.float32) + 0.5) / side
    pieces = []
    for i in np.flatnonzero((cover[:, 2:] > 0).all(1)).tolist():
        x = np.flatnonzero(np.abs(at - cover[i, 0]) < cover[i, 2])
        y = np.flatnonzero(np.abs(at - cover[i, 1]) < cover[i, 3])
        if len(x) and len(y):
            where = slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)
            pieces.append((i, where, seen[partner[i]][where].copy()))
    for i, where, piece in pieces:
        seen[i][where] = piece
        alpha[i][where] = 0


def _pool_bytes(alpha: Bytes, grid: int) -> Tensor:
    """(..., S, S) in 0..255 -> (..., grid, grid) float in 0..1."""
    flat = alpha.reshape(-1, *alpha.shape[-2:])
    pooled = [cv2.resize(plane, (grid, grid), interpolation=cv2.INTER_AREA) for plane in flat]
    return torch.from_numpy(np.stack(pooled)).view(*alpha.shape[:-2], grid, grid).float() / 255

"""Videos that were never filmed: cut-outs that move, turn and change before a moving picture, others around them.

Tracks of a small pack are few and short, and most of their boxes are another tracker's. Every object with a mask can
play in a scene of any length, and where it is is known to the pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch

from fartrack.crops import Image
from fartrack.training.clips import Clip
from fartrack.training.cutouts import Bytes, CutOut, bent, outline, turned
from fartrack.training.motion import Floats, affine_about, between_centres, draw_light, relit
from fartrack.training.synth import ASIDE, LOOSE, PART, Sampler, hierarchical

Size = tuple[int, int]
"""Width and height."""

WIDTH, HEIGHT = (220, 352), (180, 300)
"""Sides of a scene's frames in pixels."""
LENGTH = (16.0, 128.0)
"""Of a target, the root of its box's area."""
PART_SHARE, SMALLEST = 0.4, 12.0
"""Of scenes, in how many the target is a part of an actor, and how long in pixels its first box is at least."""
LOOSE_SHARE = 0.3
"""Of scenes, in how many no box is tight, all in the same way."""
SPEED = (0.01, 0.3)
"""Of a target before its backdrop, in multiples of its length a frame."""
ROLL_SHARE, ROLL, SWAY = 0.3, 0.2, 0.35
"""Of actors, how many roll over; by how many radians a frame at most; and how far the others sway to either side."""
SPIN_SHARE, THINNEST = 0.15, 0.4
"""Of actors, how many turn about their upright axis, and how narrow they are when seen from the side."""
TURN_SHARE, BACKS, SIDEWAYS = 0.3, 36, (0.65, 1.3)
"""Of actors with one picture, how many turn so that their other side is seen; views of such a turn; and how wide they
are from the side."""
BEND_SHARE, BENDS, BEND = 0.2, 25, 1.6
"""Of the same, how many bend; steps of that; and by how many radians at most, less where they are stout."""
ZOOM, POSE, SLANT = 0.6, 0.25, 0.2
"""Logarithms by which an actor grows and its sides change against one another on the way, and its shear; at most."""
OTHERS, HIDER_SHARE = 3, 0.35
"""Actors behind the target, at most, half of them of its source; and of scenes, how many have one before it."""
PAN, CAMERA_ROLL, CAMERA_ZOOM = 0.03, 0.1, 0.15
"""Of the camera: widths of the frame that it moves by in a frame, radians, and a logarithm; at most."""
BLUR_SHARE, SHUTTER, SOFTEST = 0.4, 0.6, 2.0
"""Of scenes, how many are blurred; for how much of a frame the shutter is open; and the lens's deviation in pixels."""
GRAY_SHARE, DARK_SHARE, DARK = 0.12, 0.2, 0.25
"""Of scenes, how many have no colour, and how many are dark: with down to which factor."""
JPEG_SHARE, JPEG = 0.5, (25, 90)
"""Of scenes, how many are compressed, and their quality."""


@dataclass(frozen=True)
class Actor:
    """One thing that moves through a scene of L frames."""

    poses: Sequence[CutOut]
    pose: npt.NDArray[np.int64]
    """(L,) which of them is shown."""
    affine: Floats
    """(L, 2, 3) from pixels of the cut-out to pixels of the frame; corners of pixels are at whole numbers."""

    def box(self, number: int) -> Floats:
        """(4,) x, y, w, h in a frame, upright and tight."""
        affine = self.affine[number]
        corners = self.poses[self.pose[number]].outline @ affine[:, :2].T + affine[:, 2]
        low, high = corners.min(0), corners.max(0)
        return np.concatenate([low, high - low])

    def middle(self, number: int) -> Floats:
        """(2,) where its middle is in a frame."""
        affine = self.affine[number]
        return affine[:, :2] @ self.poses[self.pose[number]].middle + affine[:, 2]

    def show(self, frame: Image, number: int, shutter: float) -> None:
        """Paint it over (H, W, 3), blurred along its way while the shutter is open."""
        x, y, w, h = self.box(number).tolist()
        line = _line(shutter * (self.middle(number) - self.middle(max(0, number - 1))))
        room = 2 + max(line.shape)
        x0, y0 = max(0, int(x) - room), max(0, int(y) - room)
        x1, y1 = min(frame.shape[1], int(x + w) + room), min(frame.shape[0], int(y + h) + room)
        if x0 >= x1 or y0 >= y1:
            return
        matrix = between_centres(self.affine[number])
        matrix[:, 2] -= x0, y0
        shown = cv2.warpAffine(self.poses[self.pose[number]].pixels, matrix, (x1 - x0, y1 - y0))
        if line.size > 1:
            shown = cv2.filter2D(shown, -1, line, borderType=cv2.BORDER_CONSTANT)
        there = frame[y0:y1, x0:x1]
        behind = there * ((255 - shown[..., 3:]) * np.float32(1 / 255))
        there[:] = cv2.add(np.ascontiguousarray(shown[..., :3]), np.rint(behind).astype(np.uint8))


@dataclass(frozen=True)
class Scene:
    """A video of L frames, each made when it is looked at."""

    backdrop: Image
    camera: Floats
    """(L, 2, 3) from pixels of the backdrop to pixels of the frame."""
    actors: Sequence[Actor]
    """From the farthest to the nearest."""
    size: Size
    """Of a frame."""
    light: Floats
    """(L, 4) factors of B, G, R and level added."""
    shutter: float
    soft: float
    """Deviation of the lens's blur in pixels."""
    gray: bool
    quality: int | None
    """Of its JPEG pictures."""

    def __len__(self) -> int:
        return len(self.camera)

    def __getitem__(self, index: int, /) -> Image:
        matrix = between_centres(self.camera[index])
        frame = cv2.warpAffine(self.backdrop, matrix, self.size, borderMode=cv2.BORDER_REFLECT_101)
        for actor in self.actors:
            actor.show(frame, index, self.shutter)  # type: ignore[arg-type]
        if self.soft > 0.3:
            frame = cv2.GaussianBlur(frame, (0, 0), self.soft)
        frame = relit(frame, self.light[index])  # type: ignore[arg-type]
        if self.gray:
            frame = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        if self.quality is not None:
            coded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
            frame = cv2.imdecode(coded, cv2.IMREAD_COLOR)  # type: ignore[assignment]
        return frame  # type: ignore[return-value]


class Kept:
    """Frames that are made once."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._made: dict[int, Image] = {}

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, index: int, /) -> Image:
        if index not in self._made:
            self._made[index] = self.scene[index]
        return self._made[index]


class Cast:
    """Objects of a sampler that have masks: stills, and tracks as several poses of one thing."""

    def __init__(self, sampler: Sampler) -> None:
        o = sampler.pack.objects
        self.sampler, self.pictures = sampler, sampler.pack.pictures
        single = sampler.stills[(o.mask[sampler.stills] > 0) & (o.track[sampler.stills] < 0)]
        self.rows: list[list[int]] = [[row] for row in single.tolist()]
        for start, count in zip(sampler.track_start.tolist(), sampler.track_count.tolist(), strict=True):
            rows = sampler.track_rows[start : start + count]
            if bool((o.mask[rows] > 0).all()):
                self.rows.append(rows.tolist())
        first = torch.tensor([rows[0] for rows in self.rows], dtype=torch.long)
        self.source = o.source[first].numpy()
        weight = hierarchical(o.source[first], o.kind[first]).double().numpy()
        self.weight = weight / max(1e-12, weight.sum())
        """How often each is drawn."""

    def __len__(self) -> int:
        return len(self.rows)

    def clip(self, length: int, rng: np.random.Generator) -> Clip:
        """A scene of one target with its boxes; all chance comes from `rng`."""
        size = int(rng.integers(*WIDTH)), int(rng.integers(*HEIGHT))
        backdrop, camera = self._backdrop(size, length, rng)
        goal = float(np.exp(rng.uniform(*np.log(LENGTH))))
        chosen = int(rng.choice(len(self), p=self.weight))
        kin = self.weight * (self.source == self.source[chosen])
        others = [
            int(rng.choice(len(self), p=self.weight if rng.random() < 0.5 else kin / kin.sum()))
            for _ in range(int(rng.integers(OTHERS + 1)))
        ]
        actors = [
            self._actor(other, goal * np.exp(rng.uniform(-0.5, 0.5)), size, camera, rng)
            for other in others
            if other != chosen  # nobody could tell which is meant
        ]
        target = self._actor(chosen, goal, size, camera, rng)
        actors.append(target)
        meant = _as_meant(target, rng)
        boxes = np.array([meant.box(i) for i in range(length)])
        hider = int(rng.choice(len(self), p=self.weight))
        if rng.random() < HIDER_SHARE and hider != chosen:
            actors.append(self._hider(hider, boxes, rng))
        light = draw_light(length, lambda: _wave(length, rng), rng)
        if rng.random() < DARK_SHARE:
            light *= np.exp(rng.uniform(np.log(DARK), 0))
        blurred = rng.random() < BLUR_SHARE
        scene = Scene(
            backdrop, camera, actors, size, light,
            shutter=float(SHUTTER * rng.random()) if blurred else 0.0,
            soft=float(SOFTEST * rng.random()) if blurred else 0.0,
            gray=bool(rng.random() < GRAY_SHARE),
            quality=int(rng.integers(*JPEG)) if rng.random() < JPEG_SHARE else None,
        )  # fmt: skip
        return Clip(Kept(scene), boxes, int(rng.integers(2**31)))

    def _backdrop(self, size: Size, length: int, rng: np.random.Generator) -> tuple[Image, Floats]:
        """A picture, and the way of a camera over it."""
        number = int(self.sampler.backdrops[int(rng.integers(len(self.sampler.backdrops)))])
        picture = np.ascontiguousarray(self.pictures.rgba(number)[:, :: rng.choice([-1, 1]), 2::-1])
        height, width = picture.shape[:2]
        fill = max(size[0] / width, size[1] / height) * rng.uniform(1.0, 1.6)
        zoom = fill * np.exp(CAMERA_ZOOM * rng.uniform(-1, 1) * _wave(length, rng))
        angle = CAMERA_ROLL * rng.uniform(-1, 1) * _wave(length, rng)
        pan = PAN * size[0] * max(0.0, rng.uniform(-0.4, 1))
        at = np.array(size) / 2 + _walk(length, pan, rng)
        return picture, affine_about(np.array([width, height]) / 2, at, zoom, zoom, angle)

    def _actor(self, number: int, goal: float, size: Size, camera: Floats, rng: np.random.Generator) -> Actor:
        """One that walks about in the frame, `goal` pixels long."""
        length = len(camera)
        room = 0.3 * goal
        start = rng.uniform(room, np.array(size) - room)
        speed = goal * np.exp(rng.uniform(*np.log(SPEED)))
        under = np.linalg.solve(camera[0, :, :2], start - camera[0, :, 2])  # the camera's way moves all that is seen
        carried = camera[:, :, :2] @ under + camera[:, :, 2] - start
        way = _within(start + carried + _walk(length, speed, rng), room, np.array(size) - room)
        return self._moved(number, goal, way, rng)

    def _hider(self, number: int, boxes: Floats, rng: np.random.Generator) -> Actor:
        """One that passes before a target with these boxes."""
        long = float(np.sqrt(boxes[:, 2:].prod(1)).mean())
        course = rng.uniform(0, 2 * np.pi)
        speed = long * rng.uniform(0.05, 0.3) * np.array([np.cos(course), np.sin(course)])
        since = np.arange(len(boxes)) - rng.uniform(0.1, 1) * len(boxes)
        way = boxes[:, :2] + boxes[:, 2:] / 2 + since[:, None] * speed
        return self._moved(number, long * rng.uniform(0.4, 1.1), way, rng)

    def _moved(self, number: int, goal: float, way: Floats, rng: np.random.Generator) -> Actor:
        """One whose middle goes this way, (L, 2)."""
        length = len(way)
        poses, pose, wide = self._animated(number, goal, length, rng)
        angle: npt.NDArray[np.floating]
        if rng.random() < ROLL_SHARE:
            angle = ROLL * rng.uniform(-1, 1) * np.arange(length)
        else:
            angle = SWAY * rng.uniform(-1, 1) * _wave(length, rng)
        grown = np.exp(
            0.5 * ZOOM * (rng.uniform(-1, 1) * np.linspace(0, 1, length) + rng.uniform(-1, 1) * _wave(length, rng))
        )
        shape = np.exp(POSE * rng.uniform(-1, 1) * _wave(length, rng))
        side = np.full(length, rng.choice([-1.0, 1.0]))
        if rng.random() < SPIN_SHARE:
            facing = np.cos(rng.uniform(0.02, 0.2) * np.arange(length))
            side *= np.copysign(np.maximum(np.abs(facing), THINNEST), facing)
        slant = SLANT * rng.uniform(-1, 1) * _wave(length, rng)
        middle = np.array([cut_out.middle for cut_out in poses])[pose]
        return Actor(poses, pose, affine_about(middle, way, grown * shape * side * wide, grown / shape, angle, slant))

    def _animated(
        self, number: int, goal: float, length: int, rng: np.random.Generator
    ) -> tuple[list[CutOut], npt.NDArray[np.int64], Floats]:
        """An object's cut-outs, and for each frame, (L,), which of them is shown and how much wider than it is.

        The only picture of one may turn or bend; several are gone through to and fro.
        """
        poses = self._poses(self.rows[number], goal, rng)
        how = rng.random() if len(poses) == 1 else 1.0
        if how < TURN_SHARE:
            turn = _turn(length, rng)
            views = turned(poses[0], self._back(number, rng), 2 * np.pi * np.arange(BACKS) / BACKS)
            shown = np.rint(turn * BACKS / (2 * np.pi)).astype(int) % BACKS
            return views, shown, 1 + (rng.uniform(*SIDEWAYS) - 1) * np.abs(np.sin(turn))
        if how < TURN_SHARE + BEND_SHARE:
            short, long = sorted(poses[0].pixels.shape[:2])
            most = min(BEND, 0.8 * long / short) * rng.uniform(-1, 1)
            bends = bent(poses[0], rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.8), most * np.linspace(-1, 1, BENDS))
            return bends, np.rint((_wave(length, rng) + 1) / 2 * (BENDS - 1)).astype(int), np.ones(length)
        order = np.array([*range(len(poses)), *range(len(poses) - 2, 0, -1)])
        return poses, order[np.arange(length) // int(rng.integers(1, 6)) % len(order)], np.ones(length)

    def _poses(self, rows: Sequence[int], goal: float, rng: np.random.Generator) -> list[CutOut]:
        """Cut-outs of an object's pictures, the first of them `goal` pixels long."""
        o = self.sampler.pack.objects
        long = float(o.outline[rows[0], 2:].prod().sqrt())  # what is cut out fills its mask, whatever was boxed
        gain, level = np.exp(0.25 * rng.normal()), 12 * rng.normal()
        return [self._cut_out(row, goal / long, gain, level) for row in rows]

    def _back(self, number: int, rng: np.random.Generator) -> Bytes:
        """(h, w, 3) what an object might look like from behind: itself in other colours, or another one."""
        own = rng.random() < 0.5
        row = self.rows[number if own else int(rng.choice(len(self), p=self.weight))][0]
        inside = self.pictures.rgba(int(self.sampler.pack.objects.picture[row]))[self._place(row)][..., 2::-1]
        if own:
            inside = np.clip(inside * np.exp(0.3 * rng.normal(size=3)), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(inside)

    def _place(self, row: int) -> tuple[slice, slice]:
        """Rows and columns of an object's box in its picture, one at least."""
        x, y, w, h = np.rint(self.sampler.pack.objects.box[row].numpy()).astype(int).tolist()
        return slice(max(0, y), max(0, y) + max(1, h)), slice(max(0, x), max(0, x) + max(1, w))

    def _cut_out(self, row: int, scale: float, gain: float, level: float) -> CutOut:
        o = self.sampler.pack.objects
        rgba = self.pictures.rgba(int(o.picture[row]))
        alpha = np.where(rgba[..., 3] == int(o.mask[row]), np.uint8(255), np.uint8(0))
        if not alpha.any():  # a label that the mask does not have
            alpha[self._place(row)] = 255
        x, y, w, h = cv2.boundingRect(alpha)
        inside = slice(y, y + h), slice(x, x + w)
        lit = relit(np.ascontiguousarray(rgba[inside][..., 2::-1]), np.array([gain, gain, gain, level]))
        shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        room = cv2.copyMakeBorder(alpha[inside], 1, 1, 1, 1, cv2.BORDER_CONSTANT)
        bgr = cv2.copyMakeBorder(lit, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        to = max(3, round((w + 2) * scale)), max(3, round((h + 2) * scale))
        alpha, bgr = cv2.resize(room, to, interpolation=shrink), cv2.resize(bgr, to, interpolation=shrink)
        hull = outline(alpha)
        if hull is None:  # so thin that it is nowhere half there
            hull = np.array([[0, 0], to], float)
        pixels = np.dstack([np.rint(bgr * (alpha[..., None] / 255)).astype(np.uint8), alpha])
        return CutOut(np.ascontiguousarray(pixels), hull)


def _as_meant(actor: Actor, rng: np.random.Generator) -> Actor:
    """The actor with the outline that its boxes are drawn around, which need not be its own.

    Whoever draws the first box says what the target is: a head, or a person with the board under its feet.
    """
    kind = rng.random()
    share = rng.uniform(*PART, 2)
    low = rng.uniform(0, 1 - share)
    spread, aside = np.exp(LOOSE * rng.uniform(-1, 1, 2)), ASIDE * rng.uniform(-1, 1, 2)
    poses: list[CutOut] = []
    for pose in actor.poses:
        meant_by: Floats | None = pose.outline
        if kind < PART_SHARE:
            meant_by = pose.part(low, low + share)
        elif kind < PART_SHARE + LOOSE_SHARE:
            meant_by = pose.middle + (pose.outline - pose.middle) * spread + aside * np.ptp(pose.outline, 0)
        if meant_by is None:
            return actor  # next to nothing of it lies there
        poses.append(replace(pose, outline=meant_by))
    meant = replace(actor, poses=poses)
    return meant if meant.box(0)[2:].prod() >= SMALLEST**2 else actor


# -- ways ------------------------------------------------------------------------------------------------------


def _walk(length: int, speed: float, rng: np.random.Generator) -> Floats:
    """(L, 2) from the origin, at about that many pixels a frame; the course changes by and by."""
    steps = rng.normal(size=(length, 2))
    course = np.empty_like(steps)
    course[0] = steps[0]
    for i in range(1, length):
        course[i] = 0.85 * course[i - 1] + 0.53 * steps[i]
    way = np.cumsum(0.8 * speed * course, 0)
    return way - way[0]


def _within(way: Floats, low: Floats | float, high: Floats) -> Floats:
    """What leaves the room comes back, as from a wall."""
    room = np.maximum(high - low, 1e-6)
    return low + room - np.abs((way - low) % (2 * room) - room)


def _wave(length: int, rng: np.random.Generator) -> Floats:
    """Two sines of chance's periods, within -1 and 1."""
    time = np.arange(length)
    waves = [np.sin(2 * np.pi * (time / rng.uniform(10, 80) + rng.random())) for _ in range(2)]
    return (waves[0] + waves[1]) / 2


def _turn(length: int, rng: np.random.Generator) -> Floats:
    """(L,) radians: on and on, or to and fro."""
    if rng.random() < 0.5:
        return rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(0.02), np.log(0.15))) * np.arange(length)
    wave = _wave(length, rng)
    return np.pi * rng.uniform(-1, 1) * (wave - wave[0])


def _line(way: Floats) -> Floats:
    """A kernel that smears along a way of some pixels."""
    reach = int(min(15, np.abs(way).max() / 2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    half = np.rint(way / max(1e-9, np.abs(way).max()) * reach).astype(int)
    cv2.line(kernel, (reach - half[0], reach - half[1]), (reach + half[0], reach + half[1]), 1)
    return kernel / kernel.sum()

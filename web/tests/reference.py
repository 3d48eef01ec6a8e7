"""What Python computes, for the page's tests to compare with: run anew with every test, so that it is never stale.

python reference.py MODEL OUT writes OUT/reference.json and the videos that the tests open.
"""

from __future__ import annotations

import base64
import itertools
import json
import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

import fartrack
from fartrack import crops, geometry, memory, seek, vocabulary
from fartrack.cli.demo import CLIP
from fartrack.config import ModelConfig
from fartrack.crops import Image
from fartrack.formats.tracks import number
from fartrack.runtime import Output
from fartrack.target import Target
from fartrack.video.reader import frames_from_source

TURNED_FRAMES = 25
TRIMMED_FRAMES = 16


def functions(config: ModelConfig) -> dict:
    rng = np.random.default_rng(7)
    boxes = [[-20.5, 3.25, 41.0, 6.5], [0, 0, 1, 1], [10, 10, 9, 16], [3.5, 4.5, 16, 16], *rng.uniform(0, 300, (40, 4))]
    boxes = [[float(v) for v in b] for b in boxes]
    corners = [[float(v) for v in c] for c in rng.uniform(-0.5, 1.5, (len(boxes), 4)).astype(np.float32)]
    windows = [geometry.window_around(b, 2.0 + 2 * (i % 2)) for i, b in enumerate(boxes)]
    found = [
        geometry.from_window(c, w, b if i % 3 == 0 else None)
        for i, (c, w, b) in enumerate(zip(corners, windows, boxes, strict=False))
    ]
    clipped = [geometry.clip(b, 320, 240, 10.0) for b in found]
    doubted = config.replace(doubt=0.25, trust=0.75)
    shares = [vocabulary.share([0.1, i / len(boxes), 0.05], doubted) for i in range(len(boxes))]
    logits = rng.normal(0, 4, (6, 4, config.words)).astype(np.float32)
    saliency = rng.integers(0, 12, (8, 49)).astype(np.float32)  # many equals
    return {
        "boxes": boxes,
        "corners": corners,
        "windows": windows,
        "found": found,
        "clipped": clipped,
        "shares": shares,
        "towards": [geometry.towards(*pair) for pair in zip(boxes, found, shares, strict=True)],
        "changes": [geometry.change_of_shape(b, [c[2:] for c in clipped[: i + 1]]) for i, b in enumerate(clipped)],
        "overlaps": [float(geometry.iou(a, b)) for a, b in itertools.pairwise(boxes)],
        "logits": logits.reshape(6, -1).tolist(),
        "scores": vocabulary.score(logits, config, 0.3).tolist(),
        "entropies": vocabulary.entropy(logits, config).tolist(),
        "coordinates": (coordinates := rng.uniform(-0.7, 1.7, 50).tolist()),
        "words": vocabulary.to_words(coordinates, config).tolist(),
        "saliency": saliency.tolist(),
        "salient": [memory.most_salient(s, 37).tolist() for s in saliency],
        "numbers": [[v, number(v), number(v, 4)] for v in (0.0, -0.0001, 12.0, 100.0, 3.14159, 0.5, 1200.25, 0.99996)],
    }


def histories(config: ModelConfig) -> list[dict]:
    cases = []
    for policy, slots, capacity, frames in [
        ("linear", 5, 192, 700),
        ("linear", 5, 12, 300),
        ("exponential", 7, 20, 200),
        ("linear", 1, 4, 20),
    ]:
        kept = memory.TemplateMemory(config.replace(templates=slots, memory=policy), capacity)
        tokens = np.zeros((config.template_tokens, config.width), np.float32)
        kept.start(np.zeros(0, np.uint8), tokens)
        seen = []
        for _ in range(frames):
            seen.append(kept.frames())
            kept.settle(tokens, np.zeros(config.template_tokens))
            kept.add(np.zeros(0, np.uint8))
        cases.append({"policy": policy, "slots": slots, "capacity": capacity, "frames": seen})
    return cases


def cuts() -> dict:
    """Windows of a noisy picture: inside, over every edge, far outside, shrunk, as it is, enlarged."""
    width, height = 97, 71
    picture = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    windows = [
        (10, 10, 32),
        (10, 8, 64),
        (-9, 5, 40),
        (70, 50, 40),
        (-20, -20, 140),
        (40, -30, 41),
        (3, 60, 9),
        (96, 0, 8),
        (20, 20, 1),
        (-500, 0, 50),
        (13, 7, 57),
    ]
    cases = [
        {"window": w, "size": size, "bytes": text(crops.cut(picture, geometry.Window(*w), size))}
        for w in windows
        for size in (32, 28)
    ]
    return {"width": width, "height": height, "picture": text(picture), "cases": cases}


def tinted() -> dict:
    """A noisy template with boxes inside its window, over its edges, thinner than a pixel, and outside of it."""
    picture = np.random.default_rng(4).integers(0, 256, (112, 112, 3), np.uint8)
    window = geometry.Window(-5, 9, 83)
    boxes = [
        (10.3, 22.7, 50.6, 41.2),
        (15.0, 29.0, 40.0, 10.0),
        (-20, 0, 60.5, 300),
        (30.1, 40.2, 0.3, 20),
        (90, 9, 8, 8),
    ]
    cases = [
        {
            "window": window,
            "box": box,
            "share": share,
            "given": tint == crops.GIVEN,
            "bytes": text(crops.tint_outside(picture, window, box, share, tint)),
        }
        for box in boxes
        for share in (0.0, 0.4, 0.15, 1.0)
        for tint in (crops.GIVEN, crops.OWN)
    ]
    return {"picture": text(picture), "cases": cases}


def lightened() -> list[dict]:
    """Dark, darker than can be mended, nearly bright enough, bright, black, and dark beside what is outside."""
    noise = np.random.default_rng(6).integers(0, 256, (28, 28, 3), np.uint8)
    half = noise // 8
    half[:, 14:] = 0
    pictures = [noise // 8, noise // 32, noise // 3, noise, np.zeros_like(noise), half]
    return [
        {"picture": text(picture), "below": below, "bytes": text(crops.lighten(picture, below))}
        for picture in pictures
        for below in (0.0, 50.0, 90.5)
    ]


def places() -> list[dict]:
    """Windows of a frame from which several are as far away, of one that has room for one, of odd and of even sides."""
    cases = [
        ((300, 220, 40, 40), 120.0, (640, 480)),
        ((-10.5, 400.25, 33, 21), 78.7, (640, 360)),
        ((5, 5, 9, 9), 26.5, (97, 71)),
        ((20, 30, 500, 300), 1161.9, (640, 480)),
        ((90, 10, 4, 4), 1.2, (12, 9)),
    ]
    return [
        {"box": box, "side": side, "size": size, "windows": [[p.x, p.y, p.side] for p in seek.places(box, side, *size)]}
        for box, side, size in cases
    ]


def sought(config: ModelConfig) -> list[dict]:
    """Targets that are lost and looked for elsewhere; what the network says of them is made up."""
    width, height, box = 160, 120, (40.0, 30.0, 20.0, 8.0)
    picture = np.empty((height, width, 3), np.uint8)
    picture[..., 2], picture[..., 1], picture[..., 0] = np.arange(width), np.arange(height)[:, None], 99
    small = config.replace(attention="joint", width=3, heads=3, score_shape=-1.0)
    once = {"attention": "oneway", "depth": 1, "update_interval": 3}
    cases = []
    for changes in ({}, {"doubt": 0.2, "trust": 0.9, "trajectory": 3, "withhold": True}, {"lost_below": 0.8}, once):
        c = small.replace(**changes)
        peaks = {score: peak(score, c) for score in (0.1, 0.6, 0.75, 0.85, 0.99)}
        rng = np.random.default_rng(len(cases))
        target = Target(c, picture, box, seeks=True)
        target.start(target.first_template(picture), np.zeros((c.template_tokens, c.memory_width), np.float32))
        frames = []
        for index in range(150):
            said = [
                (peaks[score], [float(v) for v in rng.uniform((0.2, 0.2, 0.6, 0.6), (0.4, 0.4, 0.8, 0.8)).astype("f4")])
                for score in (rng.choice(list(peaks), p=p) for p in ((0.8, 0.1, 0, 0, 0.1), (0.8, 0, 0.1, 0.1, 0)))
            ]
            seen = [target.look(picture)[0], target.elsewhere(picture)]
            seen = [crop for crop in seen if crop is not None]
            outputs = [made_up(*one, index + 0.5 * at, c) for at, one in enumerate(said)]
            older = float(target.memory.older().sum())
            target.absorb(picture, *outputs[: len(seen)])
            frames.append(
                {
                    "said": [{"peak": peak, "corners": corners} for peak, corners in said],
                    "colours": [crop.mean((0, 1)).tolist() for crop in seen],
                    "older": older,
                    "box": target.box,
                    "score": target.score,
                    "found": target.found,
                }
            )
        cases.append({"config": json.loads(c.to_json()), "box": box, "frames": frames})
    return cases


def peak(score: float, config: ModelConfig) -> float:
    """How far one word stands out of the others for a score."""
    low, high = 0.0, 30.0
    for _ in range(50):
        middle = (low + high) / 2
        better = vocabulary.score(made_up(middle, [0] * 4, 0, config).logits, config) > score
        low, high = (low, middle) if better else (middle, high)
    return high


def made_up(peak: float, corners: list[float], token: float, config: ModelConfig) -> Output:
    logits = np.zeros((4, config.words), np.float32)
    logits[:, 0] = peak
    tokens = np.full((config.template_tokens, config.memory_width), token, np.float32)
    return Output(np.array(corners, np.float32), logits, np.zeros(config.template_tokens, np.float32), tokens)


def colours() -> list[dict]:
    """A colourful picture as planes, and in the colours that FFmpeg makes of them for Python."""
    width, height = 48, 32
    planes = np.random.default_rng(5).integers(0, 256, (height * 3 // 2, width), np.uint8)
    cases = []
    for matrix, code in (("bt601", 6), ("bt709", 1), ("bt2020", 9), ("bt601", None)):
        for full in (False, True):
            frame = av.VideoFrame.from_ndarray(planes, format="yuvj420p" if full else "yuv420p")
            if code:
                frame.colorspace = code
            frame.color_range = 2 if full else 1
            bgr = frame.to_ndarray(format="bgr24")
            about = {"matrix": matrix, "fullRange": full, "width": width, "height": height}
            cases.append(about | {"i420": text(planes), "rgb": text(np.ascontiguousarray(bgr[..., ::-1]))})
    return cases


def text(data: np.ndarray) -> str:
    return base64.b64encode(data.tobytes()).decode()


def follow(
    model: Path, video: Path, box: list[float], count: int | None = None, seeks: bool = False
) -> list[list[float]]:
    tracker = fartrack.Tracker(model, seek=seeks)
    rows = []
    with frames_from_source(video) as frames:
        for frame in frames:
            if frame.index == count:
                break
            if frame.index == 0:
                tracker.init(frame.image, box)
                rows.append([0, *box, 1.0, 1])
            else:
                found, now = tracker.update(frame.image)
                rows.append([frame.index, *now, tracker.score, int(found)])
    return rows


def turned(clip: bytes) -> bytes:
    """The clip as a phone would have filmed it: the same pictures, to be turned by a quarter when shown."""
    at = clip.index(b"tkhd") + 4
    matrix = at + 4 + (32 if clip[at] == 1 else 20) + 16
    with frames_from_source(CLIP) as frames:
        height = frames.height
    rotated = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, height << 16, 0, 1 << 30)
    return clip[:matrix] + rotated + clip[matrix + 36 :]


def trimmed(clip: bytes) -> bytes:
    """The clip as a phone cuts it: the same pictures, and an edit list that begins in the middle of frame 30."""
    at = clip.index(b"elst") + 12
    milliseconds, begin, speed = struct.unpack_from(">Iii", clip, at)
    cut = 30.5 * 1000 / 26777  # seconds: what the track counts a frame, and a second
    entry = struct.pack(">Iii", milliseconds - round(1000 * cut), begin + round(26777 * cut), speed)
    return clip[:at] + entry + clip[at + len(entry) :]


def beginning(count: int) -> list[Image]:
    """The clip's first frames."""
    with frames_from_source(CLIP) as frames:
        return [frame.image for frame, _ in zip(frames, range(count), strict=False)]


def turned_away(box: list[float]) -> tuple[list[Image], list[float]]:
    """The clip, small in a large frame, then nothing of it, then in the other corner; with the box in it."""
    images = beginning(50)
    height, width = images[0].shape[:2]
    small = [cv2.resize(image, (192, 144)) for image in images]
    still = cv2.resize(cv2.GaussianBlur(small[0], (0, 0), 12), (width, height))

    def at(image: Image, x: int, y: int) -> Image:
        frame = still.copy()
        frame[y : y + 144, x : x + 192] = image
        return frame

    images = [at(image, 20, 20) for image in small[:10]] + [still] * 25 + [at(image, 420, 310) for image in small[10:]]
    x, y, w, h = (v * 192 / width for v in box)
    return images, [x + 20, y + 20, w, h]


def in_codec(path: Path, codec: str, options: dict[str, str], images: list[Image]) -> None:
    """Frames in another container and codec."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=Fraction(30), options=options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        file.mux(stream.encode(None))


def copied(video: Path, out: Path, drop: int = 0, same: int | None = None) -> int:
    """A video without its first packets, or with two frames of the same time; how many frames Python reads."""
    with av.open(str(video)) as old, av.open(str(out), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        before = None
        for i, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            if i == same:
                packet.pts = packet.dts = before
            before = packet.pts
            packet.stream = stream
            if i >= drop:
                new.mux(packet)
    try:
        with frames_from_source(out) as frames:
            return sum(1 for _ in frames)
    except fartrack.errors.InputError:
        return 0


def main() -> None:
    model, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    config = fartrack.Tracker(model).config
    about = json.loads(CLIP.with_suffix(".json").read_text())
    box = [float(v) for v in about["box"]]
    clip = CLIP.read_bytes()

    (out / "turned.mp4").write_bytes(turned(clip))
    with frames_from_source(out / "turned.mp4") as frames:
        turned_size = [frames.width, frames.height]
    (out / "trimmed.mp4").write_bytes(trimmed(clip))
    with frames_from_source(out / "trimmed.mp4") as frames:
        trimmed_count = sum(1 for _ in frames)
    x, y, w, h = box
    turned_box = [turned_size[0] - y - h, x, h, w]
    quick = {"deadline": "realtime", "cpu-used": "8"}
    in_codec(out / "clip.webm", "libvpx-vp9", quick, beginning(TURNED_FRAMES))
    in_codec(out / "keys.mkv", "libx264", {"g": "8", "bf": "0"}, beginning(TURNED_FRAMES))
    copies = {
        "cut.mkv": copied(out / "keys.mkv", out / "cut.mkv", drop=3),
        "keyless.webm": copied(out / "clip.webm", out / "keyless.webm", drop=3),
        "same.mkv": copied(out / "keys.mkv", out / "same.mkv", same=4),
    }
    in_codec(out / "mpeg4.mp4", "mpeg4", {}, beginning(5))  # which browsers do not decode
    away, away_box = turned_away(box)
    in_codec(out / "away.webm", "libvpx-vp9", quick, away)
    (out / "broken.mp4").write_bytes(clip[: len(clip) // 2])
    noise = np.random.default_rng(1).integers(0, 256, 40_000, np.uint8).tobytes()
    (out / "noise.mp4").write_bytes(noise)
    # Whole at first, noise later: `mdat` holds the pictures, and the index that follows or precedes it stays.
    middle = len(clip) * 2 // 3
    start = clip.index(b"mdat")
    damaged = bytearray(clip)
    at = max(middle, start + 1000)
    damaged[at : at + 20_000] = noise[: len(damaged[at : at + 20_000])]
    (out / "damaged.mp4").write_bytes(damaged)
    (out / "noise.onnx").write_bytes(noise)

    followed = follow(model, CLIP, box)
    trimmed_box = [2.0 * round(v / 2) for v in followed[31][1:5]]
    reference = {
        "config": json.loads(config.to_json()),
        "onewayWidth": config.replace(attention="oneway").memory_width,
        **functions(config),
        "histories": histories(config),
        "cuts": cuts(),
        "tinted": tinted(),
        "lightened": lightened(),
        "places": places(),
        "sought": sought(config),
        "colours": colours(),
        "clip": followed,
        "turned": {"size": turned_size, "rows": follow(model, out / "turned.mp4", turned_box, TURNED_FRAMES)},
        "trimmed": {
            "count": trimmed_count,
            "rows": follow(model, out / "trimmed.mp4", trimmed_box, TRIMMED_FRAMES),
        },
        "copies": copies,
        # The keys move a box's sides by two pixels, from the middle of the frame: an even box can be drawn exactly.
        "webm": follow(model, out / "clip.webm", [2.0 * round(v / 2) for v in box]),
        "away": follow(model, out / "away.webm", [2.0 * round(v / 2) for v in away_box], seeks=True),
    }
    (out / "reference.json").write_text(json.dumps(reference))


if __name__ == "__main__":
    main()

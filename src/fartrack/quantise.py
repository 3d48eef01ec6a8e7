"""Ranges of the activations for int8, measured on what the network really sees: crops of real frames.

A linear layer's input is rounded to 256 steps between two bounds. The bounds lose the least squared error, which is
seldom at the extremes. Behind a layer norm some channels are many times larger than the rest: they are divided by a
`stretch` and the weights multiplied with it (after SmoothQuant, Xiao et al. 2023), at no cost, since the norm's own
weights take it up.
"""

from __future__ import annotations

import itertools
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from fartrack import graph
from fartrack.config import ModelConfig
from fartrack.crops import Image
from fartrack.errors import InputError
from fartrack.geometry import Box
from fartrack.graph import Array, Ranges, Sites
from fartrack.runtime import Output, Runtime, embed
from fartrack.target import Target

Inputs = dict[str, npt.NDArray[np.generic]]
"""One call of the network, by the names of its inputs."""

STRETCHED = ("attn.qkv", "mlp.fc1")
SAMPLES = 40_000
"""Values of one tensor from which its bounds are chosen."""
CLIPS = 60
"""About so many are taken, evenly, where there are more: what is kept of each takes some ten megabytes."""
FRAMES = 60
"""Taken of each."""


@dataclass(frozen=True)
class Clip:
    """Frames with the target's box in the first one; the name is for messages."""

    frames: Iterable[Image]
    box: Box
    name: str


def clips_of(source: Path | None = None) -> Iterator[Clip]:
    """Clips to cut crops from: of each sequence its first frames, of the demo clip every third.

    Args:
        source: a folder of NAME/img/*.jpg with groundtruth_rect.txt, as `fartrack evaluate` reads, or a file
            video-*.tar of a training pack, of which some sixty to a hundred clips are taken; None: the demo clip.

    Raises:
        InputError: not such a folder or file.
    """
    if source is not None and source.suffix == ".tar":
        yield from _clips_of_shard(source)
        return
    if source is None:
        from fartrack.video.demo import CLIP, about
        from fartrack.video.reader import frames_from_source

        x, y, w, h = about()["box"]
        with frames_from_source(CLIP) as video:
            frames = (frame.image for frame in itertools.islice(video, 0, 3 * FRAMES, 3))
            yield Clip(frames, (x, y, w, h), "the demo clip")
        return
    from fartrack.evaluation.datasets import open_folder

    dataset = open_folder(source)
    for name in _some(dataset.names):
        sequence = dataset.load(name)
        yield Clip(itertools.islice(iter(sequence.frames), FRAMES), sequence.start, f"{source}: {name}")


def _some(names: Sequence[str]) -> Sequence[str]:
    return names[:: max(1, len(names) // CLIPS)]


def _clips_of_shard(path: Path) -> Iterator[Clip]:
    """Some of the tracks of a shard."""
    try:
        with tarfile.open(path) as shard:
            index = shard.extractfile("index.jsonl")
            if index is None:
                raise KeyError("index.jsonl is no file")
            tracks: dict[str, list[dict[str, Any]]] = {}
            for line in index.read().splitlines():
                picture = json.loads(line)
                if "track" in picture and picture["objects"]:
                    tracks.setdefault(picture["track"]["id"], []).append(picture)
            for track in _some(sorted(tracks)):
                pictures = sorted(tracks[track], key=lambda picture: picture["track"]["frame"])
                files = ((picture["file"], shard.extractfile(picture["file"])) for picture in pictures)
                coded = [(name, file.read()) for name, file in files if file is not None]
                x, y, w, h = pictures[0]["objects"][0]["box"]
                yield Clip(_decoded(path, coded), (x, y, w, h), f"{path}: {track}")
    except (OSError, tarfile.TarError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read as a shard of a training pack ({error})") from None


def _decoded(shard: Path, coded: Sequence[tuple[str, bytes]]) -> Iterator[Image]:
    for name, data in coded:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if image is None:
            raise InputError(f"{shard}: {name} is not a readable picture: make or copy the shard again")
        yield image  # type: ignore[misc]


def record(runtime: Runtime, clips: Iterable[Clip], every: int = 3) -> list[Inputs]:
    """Track the clips and keep inputs of the network: of every n-th frame, and of some more.

    Those are each clip's first frame, and its first one without a new template.

    Raises:
        InputError: there was no frame to look at, or a clip's box cannot be started on.
    """
    kept: list[Inputs] = []
    for clip in clips:
        target: Target | None = None
        between = False
        for number, image in enumerate(clip.frames):
            if target is None:
                try:
                    target = Target(runtime.config, image, clip.box)
                except InputError as error:  # which knows of the box alone
                    raise InputError(f"{clip.name}: {error}") from None
                template = target.first_template(image)
                target.start(template, embed(runtime, template[None])[0])
                continue
            search, template, memory, words = target.look(image)
            inputs: Inputs = {"search": search[None], "template": template[None], "memory": memory[None].copy()}
            if words is not None:
                inputs["trajectory"] = words[None]
            first = not len(template) and not between
            between = between or first
            if number == 1 or number % every == 0 or first:
                kept.append({name: array.copy() for name, array in inputs.items()})
            output = runtime(*inputs.values())  # type: ignore[arg-type]
            target.absorb(image, Output(*(x[0] for x in output)))
    if not kept:
        raise InputError("no crops to calibrate with: give clips of at least two frames")
    return kept


def measure(
    weights: Mapping[str, Array], config: ModelConfig, inputs: Sequence[Inputs], strength: float = 0.65
) -> Ranges:
    """Run the float graph over real inputs and choose bounds and stretches.

    Args:
        weights: the network's state dict as float32 arrays.
        config: of the network.
        inputs: from `record`; a hundred calls of several videos are enough.
        strength: 0 leaves the unevenness of the channels to the activations, 1 to the weights.
    """
    sites = Sites()
    model = graph.build(weights, config, sites=sites)
    names = list(dict.fromkeys(sites.tensors.values()))
    for name in names:
        if name not in {o.name for o in model.graph.output}:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    random = np.random.default_rng(0)
    seen: dict[str, list[Array]] = {name: [] for name in names}
    largest: dict[str, Array] = {}
    for call in inputs:
        for name, value in zip(names, session.run(names, call), strict=True):
            rows = value.reshape(-1, value.shape[-1])
            each = max(1, SAMPLES // (len(inputs) * rows.shape[1]))
            seen[name].append(rows[random.integers(0, len(rows), each)])
            most = np.abs(rows).max(0)
            largest[name] = np.maximum(largest.get(name, most), most)

    bounds, stretch = {}, {}
    for layer, name in sites.tensors.items():
        values = np.concatenate(seen[name])
        if layer.endswith(STRETCHED):
            stretch[layer] = _stretch(largest[name], weights[f"{layer}.weight"], strength)
            values = values / stretch[layer]
        bounds[layer] = least_error_bounds(values)
    return Ranges(bounds, stretch)


def _stretch(activations: Array, weight: Array, strength: float) -> Array:
    ours, theirs = np.maximum(activations, 1e-5), np.maximum(np.abs(weight).max(0), 1e-5)
    raw = ours**strength / theirs ** (1 - strength)
    return (raw / np.exp(np.log(raw).mean())).astype(np.float32)


def least_error_bounds(values: Array) -> tuple[float, float]:
    """Bounds whose 256 steps represent the values with the least squared error."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 1e-8)
    best, least = (low, high), np.inf
    for below in np.linspace(1, 0.3, 11):
        for above in np.linspace(1, 0.3, 11):
            if low == 0 and below < 1:
                continue
            a, b = low * below, high * above
            step = (b - a) / 255
            zero = round(-a / step)
            rounded = (np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step
            error = float(np.square(rounded - values).sum())
            if error < least:
                best, least = (a, b), error
    return best

"""A second implementation of the released tracker, for the tests only, written from the parity notes alone.

It shares no line with the package: dense (all 445 tokens in every frame, pruned ones masked), all templates embedded
again in every frame, every template kept for ever. What it answers is checked against the authors' arrays for seed 0
and then stands in for them with other seeds and depths.

The synthetic checkpoint and video are here too: deterministic, from a seed, NumPy only.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
LAYOUT = {k: tuple(v) for k, v in json.loads((HERE / "released_sparse_layout.json").read_text()).items()}
DEPTHS = {"tiny": 15, "nano": 10, "pico": 6}


# -- weights and video from a seed ------------------------------------------------------------------------------------


def rng(seed, name):
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, *(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))])


def normal(seed, name, shape):
    return rng(seed, name).standard_normal(shape).astype(np.float32)


def state_dict(seed, layout=LAYOUT):
    """What `torch.load(...)["net"]` of a released checkpoint holds, as arrays."""
    weights = {}
    for name, shape in layout.items():
        value = normal(seed, name, shape)
        if "norm" in name and name.endswith("weight"):
            weights[name] = 1 + 0.1 * value
        elif name.endswith("bias"):
            weights[name] = 0.02 * value
        elif "embeddings" in name:
            weights[name] = 0.1 * value
        else:
            weights[name] = (0.06 if name.endswith(".weight") else 0.05) * value
    for name in ("z", "z0"):
        weights[f"backbone.pos_embed_{name}"] = weights["backbone.pos_embed_z1"].copy()
    # The commands are steered to a box near the middle of the crop, so that a whole loop stays in the frame.
    directions = np.linalg.qr(rng(seed, "steer").standard_normal((192, 4)))[0].T.astype(np.float32)
    word = np.arange(605)
    for i, middle in enumerate((263, 263, 335, 335)):
        bump = np.exp(-(((word - middle) / 12.0) ** 2)).astype(np.float32) * (word < 600)
        weights["backbone.position_embeddings.weight"][i] += 12 * directions[i]
        weights["backbone.word_embeddings.weight"] += 3.0 * bump[:, None] * directions[i]
    return weights


def without_masknorm(weights):
    """The keys of a frame-level or distilled checkpoint."""
    return {k: v for k, v in weights.items() if "masknorm" not in k}


def frame(t, seed=0, height=240, width=320):
    """A textured square moving over a moving background, RGB; for t up to 30."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([(x + 3 * t) % 256, (y * 2) % 256, (x + y) % 256], -1).astype(np.float32) * 0.5
    image += rng(seed, "bg").integers(0, 60, (height, width, 3))
    left, top, side = 120 + 5 * t, 90 + 3 * t, 48
    image[top : top + side, left : left + side] = rng(seed, "obj").integers(0, 256, (side, side, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def inputs(seed):
    """The normalised templates and the search crop of `dense_logits`."""
    return [normal(seed, f"z{i}", (1, 3, 112, 112)) for i in range(5)], normal(seed, "x", (1, 3, 224, 224))


def keeps(seed):
    """Some 37 tokens of each of the four older templates, as a seed of its own would have them pruned."""
    return [np.sort(rng(seed, f"keep{i}").permutation(49)[:37]) for i in range(4)]


# -- the network ----------------------------------------------------------------------------------------------------


class Reference:
    def __init__(self, weights, depth):
        self.w = {k: torch.from_numpy(np.array(v)) for k, v in weights.items()}
        names = [f"backbone.blocks.{i}." for i in range(12)] + [f"backbone.extension.{i}." for i in range(3)]
        self.blocks = names[:depth]
        self.masked = any("masknorm" in k for k in weights)
        words = self.w["backbone.word_embeddings.weight"]
        for row in range(600, 604):
            length = words[row].norm()
            if length > 1:
                words[row] *= 1 / (length + 1e-7)
        self.words = words

    def __call__(self, templates, search, hidden=()):
        """(1, 3, S, S) normalised arrays, positions of hidden tokens -> logits (4, 605), saliency (49,)."""
        w, tokens = self.w, []
        for i, image in enumerate([*templates, search]):
            kernel, bias = w["backbone.patch_embed.proj.weight"], w["backbone.patch_embed.proj.bias"]
            patches = F.conv2d(torch.as_tensor(image), kernel, bias, stride=16)[0].reshape(192, -1).T
            where = "backbone.pos_embed_x" if i == 5 else "backbone.pos_embed_z0"
            tokens.append(patches + w[where][0] + w["identity"][0, i])
        tokens.append(self.words[600:604] + w["backbone.position_embeddings.weight"])
        x = torch.cat(tokens)
        assert x.shape == (445, 192)
        forbidden = torch.zeros(445)
        forbidden[list(hidden)] = -torch.inf
        received = torch.zeros(49)
        for name in self.blocks:
            y = self.norm(x, name, 1)
            q, k, v = F.linear(y, w[name + "attn.qkv.weight"], w[name + "attn.qkv.bias"]).split(192, dim=1)
            heads = []
            for h in range(3):
                part = slice(64 * h, 64 * h + 64)
                share = torch.softmax(q[:, part] @ k[:, part].T / 8 + forbidden, dim=1)
                received += share[245 + 7 * 14 + 7, 196:245] / 3
                heads.append(share @ v[:, part])
            x = x + F.linear(torch.cat(heads, 1), w[name + "attn.proj.weight"], w[name + "attn.proj.bias"])
            y = F.linear(self.norm(x, name, 2), w[name + "mlp.fc1.weight"], w[name + "mlp.fc1.bias"])
            x = x + F.linear(F.gelu(y), w[name + "mlp.fc2.weight"], w[name + "mlp.fc2.bias"])
        x = F.layer_norm(x[-4:], (192,), w["backbone.norm.weight"], w["backbone.norm.bias"], 1e-6)
        return (x @ self.words.T + w["backbone.output_bias"]).numpy(), received.numpy()

    def norm(self, x, name, number):
        name += f"masknorm{number}.norm." if self.masked else f"norm{number}."
        return F.layer_norm(x, (192,), self.w[name + "weight"], self.w[name + "bias"], 1e-5 if self.masked else 1e-6)


def hidden_positions(kept):
    """What is masked of the 445 tokens when only `kept[i]` of template i is visible."""
    return [49 * i + j for i, keep in enumerate(kept) for j in range(49) if j not in set(keep)]


def stays(saliency):
    """The 37 tokens that stay: of equal values the earlier index goes first."""
    order = sorted(range(49), key=lambda i: (saliency[i], i))
    return sorted(order[12:])


# -- the loop -------------------------------------------------------------------------------------------------------


def crop(image, box, factor, size):
    """The released crop and its resize factor."""
    x, y, w, h = box
    side = math.ceil(math.sqrt(w * h) * factor)
    left, top = round(x + 0.5 * w - 0.5 * side), round(y + 0.5 * h - 0.5 * side)
    right, bottom = left + side, top + side
    height, width = image.shape[:2]
    pad = [max(0, -top), max(0, bottom - height + 1), max(0, -left), max(0, right - width + 1)]
    inside = image[top + pad[0] : bottom - pad[1], left + pad[2] : right - pad[3]]
    whole = np.zeros((side, side, 3), np.uint8)
    whole[pad[0] : side - pad[1], pad[2] : side - pad[3]] = inside
    return cv2.resize(whole, (size, size)), size / side


def normalised(image):
    rgb = image.astype(np.float32) / 255
    rgb = (rgb - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))[None]


def decoded(logits):
    """(4, 605) -> (4,) in units of the search crop."""
    best = (logits.argmax(1) + 0.5) / 299 - 0.5
    p = torch.softmax(torch.from_numpy(logits[:, :600]), 1).numpy()
    return 0.5 * (best + p @ (-0.5 + np.arange(600) / 300))


def loop(reference, frames, box, keep=True):
    """Boxes of all frames (RGB) but the first; nothing is forgotten, however many there are."""
    box = tuple(float(v) for v in box)
    image = frames[0]
    height, width = image.shape[:2]
    templates, masks, boxes = [normalised(crop(image, box, 2.0, 112)[0])], {}, []
    for image in frames[1:]:
        t = len(templates) - 1
        slots = [0] * (4 - t) + list(range(t + 1))
        if t >= 4:
            slots = [0, *(int(t * (1 - 0.7**i)) for i in (1, 2, 3)), t]
        search, scale = crop(image, box, 4.0, 224)
        kept = [masks.get(i, range(49)) for i in slots[:-1]]
        logits, saliency = reference([templates[i] for i in slots], normalised(search), hidden_positions(kept))
        masks[t] = stays(saliency) if keep else range(49)
        x0, y0, x1, y1 = decoded(logits) * 224 / scale
        left, top = box[0] + 0.5 * box[2] - 112 / scale, box[1] + 0.5 * box[3] - 112 / scale
        x0, x1, y0, y1 = x0 + left, x1 + left, y0 + top, y1 + top
        x0, x1 = min(max(0, x0), width - 10), max(10, min(x1, width))
        y0, y1 = min(max(0, y0), height - 10), max(10, min(y1, height))
        box = (float(x0), float(y0), float(max(10, x1 - x0)), float(max(10, y1 - y0)))
        boxes.append(box)
        templates.append(normalised(crop(image, box, 2.0, 112)[0]))
    return np.array(boxes)

"""The ONNX file alone, with nothing of fartrack.  python examples/onnx_alone.py pico.onnx video.mp4 310,120,80,140"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


def crop(frame, box, kind: str, colour: tuple = (255, 0, 255)) -> tuple:
    size, side = c[f"{kind}_size"], int(np.ceil(np.sqrt(box[2] * box[3]) * c[f"{kind}_factor"]))
    corner = np.rint(box[:2] + box[2:] / 2 - side / 2).astype(int)
    padded = cv2.copyMakeBorder(frame[:-1, :-1], *[side] * 4, cv2.BORDER_CONSTANT)
    cut = cv2.resize(padded[corner[1] + side :, corner[0] + side :][:side, :side], (size, size))[..., ::-1]  # RGB
    cut = np.rint(np.minimum(255, cut * np.clip((c["lighten"] * (cut > 0).sum() / max(1, cut.sum())) ** 1.6, 1, 6)))
    at, edge, tint = np.arange(size)[:, None], (box[:2] - corner) * size / side, c.get(f"{kind}_tint", 0)
    inner = np.clip(np.minimum(at + 1, edge + box[2:] * size / side) - np.maximum(at, edge), 0, 1).T[::-1]
    return np.rint(cut + tint * (1 - np.outer(*inner)[..., None]) * (colour - cut)).astype(np.uint8)[None], corner, side


*_, width = (session := onnxruntime.InferenceSession(sys.argv[1])).get_inputs()[2].shape
c, capture = json.loads(session.get_modelmeta().custom_metadata_map["fartrack"]), cv2.VideoCapture(sys.argv[2])
if c != c | (rules := {"memory": "linear", "decoding": "paper", "trajectory": 0, "trust": 0, "withhold": False}):
    sys.exit(f"{sys.argv[1]} asks for other rules than those of this program, which are {rules}")
box, size, age = np.array(sys.argv[3].split(","), float), np.array((frame := capture.read()[1]).shape[1::-1]), 0
call = {"search": crop(frame, box, "search")[0], "template": crop(frame, box, "template", (0, 255, 0))[0]}
each, k = c.get("update_interval", 1) ** (c["attention"] == "oneway"), c["templates"] - 1
past, wh = [session.run(["tokens"], call | {"memory": np.zeros((1, k, 1, width), np.float32)})[0][0]], [box[2:]]
while (answer := capture.read())[0]:
    (call["search"], corner, side), n, old = crop(answer[1], box, "search"), len(past) - 1, not call["template"].size
    call["memory"] = np.array([[past[round(n * i / k) if n >= k else max(0, n - k + i)] for i in range(k + old)]])
    corners, logits, sal, tokens = (out[0] for out in session.run(["box", "logits", "saliency", "tokens"], call))
    (low, high), m = corners.astype(float).reshape(2, 2) * side + corner, min(c["margin"], *size, *wh[0])
    box = np.concatenate([low := np.clip(low, 0, size - m), np.maximum(np.clip(high, m, size) - low, m)])
    h = np.mean(np.log(np.exp(z := logits[:, :-5]).sum(1)) - np.average(z, 1, np.exp(z)))  # entropy
    z = c["score_bias"] + c["score_slope"] * h + c["score_shape"] * abs(np.log(box[2:] / np.median(wh[-30:], 0))).max()
    past[n:] = past[n:] if old else [tokens[np.sort(sal.argsort(kind="stable")[-int(len(sal) * c["keep"] + 0.999) :])]]
    age, wh, new = 1 + age * old, [*wh, box[2:]], len(wh) <= 10 or z < np.log(9) or 1 + age * old >= each  # or unsure
    past, call["template"] = past + [None] * int(new), crop(answer[1], box, "template")[0][:, : 999 * new]
    print(*box.round(2), round(1 / (1 + np.exp(-z)), 4), sep=",", flush=True)

"""The ONNX file alone, with nothing of fartrack.  python examples/onnx_alone.py pico.onnx video.mp4 310,120,80,140"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


def crop(frame, box, factor: float, size: int, tint: float = 0, colour: tuple = (255, 0, 255)) -> tuple:
    side = int(np.ceil(np.sqrt(box[2] * box[3]) * factor))
    corner = np.rint(box[:2] + box[2:] / 2 - side / 2).astype(int)
    padded = cv2.copyMakeBorder(frame[:-1, :-1], side, side, side, side, cv2.BORDER_CONSTANT)
    cut = cv2.resize(padded[corner[1] + side :, corner[0] + side :][:side, :side], (size, size))[..., ::-1]  # RGB
    cut = np.rint(np.minimum(255, cut * np.clip((c["lighten"] / max(1, cut[cut > 0].mean())) ** 1.6, 1, 6)))
    at, edge = np.arange(size)[:, None], (box[:2] - corner) * size / side
    inner = np.clip(np.minimum(at + 1, edge + box[2:] * size / side) - np.maximum(at, edge), 0, 1).T[::-1]
    return np.rint(cut + tint * (1 - np.outer(*inner)[..., None]) * (colour - cut)).astype(np.uint8)[None], corner, side


session, capture = onnxruntime.InferenceSession(sys.argv[1]), cv2.VideoCapture(sys.argv[2])
c, width = json.loads(session.get_modelmeta().custom_metadata_map["fartrack"]), session.get_inputs()[2].shape[3]
box, frame, view = np.array([float(v) for v in sys.argv[3].split(",")]), capture.read()[1], c["search_size"]
template, size = crop(frame, box, 2, 112, c["template_tint"], (0, 255, 0))[0], np.array(frame.shape[1::-1])
nothing = {"search": np.zeros((1, view, view, 3), np.uint8), "memory": np.zeros((1, 4, 37, width), np.float32)}
past = [session.run(["tokens"], nothing | {"template": template})[0][0]]  # older templates as tokens
while (answer := capture.read())[0]:
    (search, corner, side), n = crop(answer[1], box, c["search_factor"], view), len(past) - 1
    slots = [round(n * i / 4) for i in range(4)] if n > 3 else [0] * (4 - n) + [*range(n)]
    call = {"search": search, "template": template, "memory": np.stack([past[i] for i in slots])[None]}
    corners, logits, saliency, tokens = session.run(["box", "logits", "saliency", "tokens"], call)
    low, high = corners[0].astype(float).reshape(2, 2) * side + corner
    box = np.concatenate([low := np.clip(low, 0, size - 10), np.maximum(np.clip(high, 10, size) - low, 10)])
    entropy = np.mean(np.log(np.exp(z := logits[0, :, :600]).sum(1)) - np.average(z, 1, np.exp(z)))
    if 1 / (1 + np.exp(-c["score_bias"] - c["score_slope"] * entropy)) >= c["lost_below"] or not c["withhold"]:
        past[n:] = [tokens[0][np.sort(np.argsort(saliency[0], kind="stable")[-37:])], None]  # 37 of 49 tokens stay
        template = crop(answer[1], box, 2, 112, c["template_tint"])[0]
    print(*box.round(2), sep=",", flush=True)

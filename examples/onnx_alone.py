"""The ONNX file alone, with nothing of fartrack.  python examples/onnx_alone.py pico.onnx video.mp4 310,120,80,140"""

import sys

import cv2
import numpy as np
import onnxruntime


def crop(frame: np.ndarray, box: np.ndarray, factor: float, size: int) -> tuple[np.ndarray, np.ndarray, int]:
    side = int(np.ceil(np.sqrt(box[2] * box[3]) * factor))
    left, top = (round(v) + side for v in (box[:2] + box[2:] / 2 - side / 2))  # in the padded picture
    padded = cv2.copyMakeBorder(frame[:-1, :-1], side, side, side, side, cv2.BORDER_CONSTANT)
    cut = cv2.resize(padded[top : top + side, left : left + side], (size, size))
    return cut[None, ..., ::-1], np.array([left, top]) - side, side  # RGB, where it lies, how long its side is


def main(model: str, video: str, start: str):
    session, capture = onnxruntime.InferenceSession(model), cv2.VideoCapture(video)
    box, frame = np.array([float(v) for v in start.split(",")]), capture.read()[1]
    template, n, edge = crop(frame, box, 2, 112)[0], 0, np.array(frame.shape[1::-1])
    nothing = {"search": np.zeros((1, 224, 224, 3), np.uint8), "memory": np.zeros((1, 4, 37, 192), np.float32)}
    past = [session.run(["tokens"], nothing | {"template": template})[0][0]]  # older templates as tokens
    while (answer := capture.read())[0]:
        search, corner, side = crop(answer[1], box, 4, 224)
        slots = [0] * (4 - n) + list(range(n)) if n < 4 else [round(n * i / 4) for i in range(4)]
        call = {"search": search, "template": template, "memory": np.stack([past[i] for i in slots])[None]}
        corners, saliency, tokens = session.run(["box", "saliency", "tokens"], call)
        past[n:] = [tokens[0][np.sort(np.argsort(saliency[0], kind="stable")[-37:])]]  # 37 of 49 tokens stay
        low, high = corners[0].astype(float).reshape(2, 2) * side + corner
        low, high, n = np.clip(low, 0, edge - 10), np.clip(high, 10, edge), n + 1  # 10 pixels stay in the frame
        box = np.concatenate([low, np.maximum(high - low, 10)])
        template = crop(answer[1], box, 2, 112)[0]
        yield box


if __name__ == "__main__":
    for number, place in enumerate(main(*sys.argv[1:]), 1):
        print(number, *place.round(1))

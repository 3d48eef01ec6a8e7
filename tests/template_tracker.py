"""A real, small tracker with fartrack.Tracker's interface: the place that looks most like the first box."""

import cv2
import numpy as np


class TemplateTracker:
    """Normalised cross-correlation in a window around the last box."""

    reach = 40

    def __init__(self):
        self.score = 0.0
        self.started = 0

    def init(self, frame, box):
        self.started += 1
        x, y, w, h = (round(v) for v in box)
        x, y = max(x, 0), max(y, 0)
        self.template = frame[y : y + h, x : x + w].copy()
        self.box = tuple(float(v) for v in box)
        self.score = 1.0

    def update(self, frame):
        h, w = self.template.shape[:2]
        left = int(max(self.box[0] - self.reach, 0))
        top = int(max(self.box[1] - self.reach, 0))
        window = frame[top : top + h + 2 * self.reach, left : left + w + 2 * self.reach]
        if window.shape[0] < h or window.shape[1] < w:
            self.score = 0.0
            return False, self.box
        likeness = cv2.matchTemplate(window, self.template, cv2.TM_CCOEFF_NORMED)
        _, best, _, (x, y) = cv2.minMaxLoc(likeness)
        self.score = float(np.clip(best, 0.0, 1.0))
        found = self.score > 0.5
        if found:
            self.box = (float(left + x), float(top + y), self.box[2], self.box[3])
        return found, self.box


def moving_square(count=30, size=(160, 120), step=3, hidden=()):
    """Frames with a textured 20 x 20 patch that moves right by `step`, over noise, and its true boxes."""
    random = np.random.default_rng(0)
    background = random.integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    patch = cv2.resize(random.integers(100, 255, (5, 5, 3), dtype=np.uint8), (20, 20), interpolation=cv2.INTER_LINEAR)
    frames, boxes = [], []
    for i in range(count):
        frame = background.copy()
        x, y = 10 + step * i, 40
        if i not in hidden:
            frame[y : y + 20, x : x + 20] = patch
        frames.append(frame)
        boxes.append((float(x), float(y), 20.0, 20.0))
    return frames, boxes

/** The pure functions against Python's own results. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { keptTokens, readConfig, templateTokens } from "../src/config.ts";
import { cut, type Pixels } from "../src/crops.ts";
import { clip, complaintAbout, fromWindow, iou, roundHalfEven, windowAround } from "../src/geometry.ts";
import { mostSalient, sampleHistory, TemplateMemory } from "../src/memory.ts";
import { COLUMNS, csv, number } from "../src/table.ts";
import { entropy, score, toWord } from "../src/vocabulary.ts";
import { webcamComplaint } from "../src/sources.ts";
import { reference as r } from "./reference.ts";

const near = (a: ArrayLike<number>, b: ArrayLike<number>, bound = 1e-9): void => {
  assert.equal(a.length, b.length);
  for (let i = 0; i < a.length; i++) assert.ok(Math.abs(a[i] - b[i]) <= bound, `${a[i]} is not ${b[i]} (at ${i})`);
};

test("halves are rounded to even, as Python does", () => {
  for (const [value, expected] of [[0.5, 0], [1.5, 2], [2.5, 2], [-0.5, 0], [-1.5, -2], [-2.5, -2], [2.4, 2], [-2.6, -3]]) {
    assert.equal(roundHalfEven(value) + 0, expected);
  }
});

test("windows, boxes from windows, clipped boxes, overlaps", () => {
  r.boxes.forEach((box, i) => {
    const window = windowAround(box, 2 + 2 * (i % 2));
    assert.deepEqual([window.x, window.y, window.side], r.windows[i]);
    near(fromWindow(r.corners[i], window, i % 3 === 0 ? box : undefined), r.found[i]);
    near(clip(r.found[i], 320, 240, 10), r.clipped[i]);
    if (i) near([iou(r.boxes[i - 1], box)], [r.overlaps[i - 1]]);
  });
});

test("a box of two pixels is refused in one sentence", () => {
  for (const box of [[5, 5, 2, 2], [5, 5, 100, 3], [5, 5, 0, 0]] as const) {
    assert.match(complaintAbout(box, 640, 480) ?? "", /^A box of \d+ × \d+ pixels is too small to follow: .*\.$/);
  }
  assert.match(complaintAbout([700, 0, 10, 10], 640, 480) ?? "", /outside/);
  assert.match(complaintAbout([NaN, 0, 10, 10], 640, 480) ?? "", /no number/);
  assert.equal(complaintAbout([-5, 10, 20, 20], 640, 480), null);
});

test("crops are OpenCV's, byte for byte", () => {
  const { width, height, picture, cases } = r.cuts;
  const rgb = Buffer.from(picture, "base64");
  const frame: Pixels = {
    width,
    height,
    read(x, y, w, h) {
      assert.ok(x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= width && y + h <= height, "reads inside the frame");
      const rgba = new Uint8ClampedArray(w * h * 4).fill(255);
      for (let j = 0; j < h; j++) {
        for (let i = 0; i < w; i++) rgba.set(rgb.subarray(((y + j) * width + x + i) * 3).subarray(0, 3), (j * w + i) * 4);
      }
      return rgba;
    },
  };
  for (const { window, size, bytes } of cases) {
    const [x, y, side] = window;
    const [ours, theirs] = [cut(frame, { x, y, side }, size), Buffer.from(bytes, "base64")];
    const worst = ours.reduce((most, v, i) => Math.max(most, Math.abs(v - theirs[i])), 0);
    // OpenCV builds differ by one in the last place, depending on the processor's instructions.
    assert.ok(ours.length === theirs.length && worst <= 1, `window ${window} to ${size}: differs by ${worst}`);
  }
});

test("score, entropy and words", () => {
  r.logits.forEach((logits, i) => {
    near([entropy(logits, r.config)], [r.entropies[i]], 1e-5);
    near([score(logits, r.config)], [r.scores[i]], 1e-5);
  });
  near(r.coordinates.map((c) => toWord(c, r.config)), r.words);
});

test("the most salient tokens, equals included", () => {
  r.saliency.forEach((saliency, i) => assert.deepEqual(mostSalient(saliency, 37), r.salient[i]));
});

test("the memory gives the same templates over time, thinned or not", () => {
  for (const { policy, slots, capacity, frames } of r.histories) {
    const config = { ...r.config, templates: slots, memory: policy };
    const memory = new TemplateMemory(config, capacity);
    const tokens = new Float32Array(templateTokens(config) * config.width);
    memory.start(new Uint8Array(), tokens);
    for (const expected of frames) {
      assert.deepEqual(memory.frames(), expected);
      const n = memory.frames().length > 1 && memory.newest === 0 ? templateTokens(config) : keptTokens(config);
      assert.equal(memory.older().length, (slots - 1) * n * config.width);
      assert.ok(memory.size <= Math.max(capacity, 2 * slots));
      memory.settle(tokens, new Float32Array(templateTokens(config)));
      memory.add(new Uint8Array());
    }
  }
  assert.deepEqual(sampleHistory(0, 5, "linear"), [0, 0, 0, 0, 0]);
});

test("pruning keeps the right tokens", () => {
  const config = { ...r.config, templates: 2, width: 1 };
  const memory = new TemplateMemory(config);
  const tokens = Float32Array.from({ length: templateTokens(config) }, (_, i) => i);
  memory.start(new Uint8Array(), tokens);
  memory.settle(tokens, tokens); // the later, the more salient
  memory.add(new Uint8Array());
  assert.deepEqual([...memory.older()], [...tokens.slice(-keptTokens(config))]);
});

test("boxes.csv is written like `fartrack track` writes it", () => {
  for (const [value, plain, four] of r.numbers) assert.deepEqual([number(value), number(value, 4)], [plain, four]);
  const row = { score: 0.98765, found: false, network: 1, total: 2 };
  const table = csv([
    { frame: 2, box: [1.5, 2, 3.12345, 4], ...row },
    { frame: 0, box: [1, 2, 3, 4], ...row, score: 1, found: true },
  ]);
  assert.equal(table, `${COLUMNS.join(",")}\n0,1,2,3,4,1,1\n2,1.5,2,3.123,4,0.9877,0\n`);
});

test("the configuration is read from the ONNX file itself", () => {
  const model = readFileSync(process.env.FARTRACK_MODEL!);
  assert.deepEqual(readConfig(model, "pico.onnx"), r.config);
  assert.throws(() => readConfig(model.subarray(0, model.length - 900), "half.onnx"), /^Error: half.onnx is not? /);
  assert.throws(() => readConfig(new Uint8Array(), "empty.onnx"), /is no fartrack model/);
  assert.throws(() => readConfig(new Uint8Array(400).fill(0xff), "noise.onnx"), /is not a whole ONNX model/);
});

test("a refused webcam is told from a missing one", () => {
  assert.match(webcamComplaint("NotAllowedError"), /refused/);
  assert.match(webcamComplaint("NotFoundError"), /No webcam was found/);
  assert.match(webcamComplaint("Odd"), /\(Odd\)/);
});

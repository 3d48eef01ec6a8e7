/** The pure functions against Python's own results. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { coordinateWords, keptTokens, memoryWidth, readConfig, templateTokens } from "../src/config.ts";
import { cut, lighten, tintOutside, type Pixels } from "../src/crops.ts";
import {
  changeOfShape, clip, complaintAbout, fromWindow, iou, median, roundHalfEven, towards, windowAround, type Size,
} from "../src/geometry.ts";
import { mostSalient, sampleHistory, TemplateMemory } from "../src/memory.ts";
import { PlanarPixels } from "../src/pixels.ts";
import { places } from "../src/seek.ts";
import { COLUMNS, csv, number } from "../src/table.ts";
import { Target, type Network } from "../src/target.ts";
import { entropy, score, share, toWord } from "../src/vocabulary.ts";
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
    near([share([0.1, i / r.boxes.length, 0.05], { ...r.config, doubt: 0.25, trust: 0.75 })], [r.shares[i]]);
    near(towards(box, r.found[i], r.shares[i]), r.towards[i]);
    if (i) near([iou(r.boxes[i - 1], box)], [r.overlaps[i - 1]]);
    const shapes = r.clipped.slice(0, i + 1).map(([, , w, h]): Size => [w, h]);
    near([changeOfShape(r.clipped[i], shapes)], [r.changes[i]]);
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

test("dark crops are brightened as Python brightens them, byte for byte", () => {
  for (const { picture, below, bytes } of r.lightened) {
    const crop = Uint8Array.from(Buffer.from(picture, "base64"));
    assert.deepEqual(Buffer.from(lighten(crop, below)), Buffer.from(bytes, "base64"));
  }
});

test("templates are tinted outside of their box as Python tints them, byte for byte", () => {
  for (const { window, box, share, given, bytes } of r.tinted.cases) {
    const [x, y, side] = window;
    const picture = Uint8Array.from(Buffer.from(r.tinted.picture, "base64"));
    const ours = tintOutside(picture, { x, y, side }, box, share, given);
    const theirs = Buffer.from(bytes, "base64");
    const worst = ours.reduce((most, v, i) => Math.max(most, Math.abs(v - theirs[i])), 0);
    assert.ok(ours.length === theirs.length && worst <= 1, `box ${box}, share ${share}: differs by ${worst}`);
  }
});

for (const { matrix, fullRange, width, height, i420, rgb } of r.colours) {
  test(`colours are FFmpeg's: ${matrix}, ${fullRange ? "full" : "limited"} range`, () => {
    const data = Uint8Array.from(Buffer.from(i420, "base64"));
    const expected = Buffer.from(rgb, "base64");
    const half = (width / 2) * (height / 2);
    const layout = [
      { offset: 0, stride: width },
      { offset: width * height, stride: width / 2 },
      { offset: width * height + half, stride: width / 2 },
    ];
    const common = { width, height, matrix, fullRange };
    const upright = { turn: 0, flip: false } as const;
    const planar = new PlanarPixels({ ...common, format: "I420", data, layout }, upright);
    const pixels = planar.read(0, 0, width, height);
    let worst = 0;
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) worst = Math.max(worst, Math.abs(pixels[4 * i + c] - expected[3 * i + c]));
    }
    assert.ok(worst <= 2, `differs by ${worst}`); // by nothing on x86; FFmpeg's code for other processors rounds otherwise

    const mixed = data.slice();
    for (let i = 0; i < half; i++) mixed.set([data[layout[1].offset + i], data[layout[2].offset + i]], width * height + 2 * i);
    const semi = new PlanarPixels({ ...common, format: "NV12", data: mixed, layout: [layout[0], { offset: width * height, stride: width }] }, upright);
    assert.deepEqual(semi.read(3, 5, 20, 11), planar.read(3, 5, 20, 11));
    assert.deepEqual(planar.read(3, 5, 1, 1), pixels.slice(4 * (5 * width + 3), 4 * (5 * width + 4)));
  });
}

test("planes are turned and mirrored like the picture that is painted", () => {
  const [width, height] = [6, 4];
  const data = Uint8Array.from({ length: 36 }, (_, i) => (i < 24 ? 20 + 5 * i : 128));
  const layout = [{ offset: 0, stride: 6 }, { offset: 24, stride: 3 }, { offset: 30, stride: 3 }];
  const planes = { format: "I420", data, layout, width, height, matrix: "bt601", fullRange: false } as const;
  const at = (turn: 0 | 90 | 180 | 270, flip: boolean, x: number, y: number): number =>
    new PlanarPixels(planes, { turn, flip }).read(x, y, 1, 1)[0];
  const [first, last, corner] = [at(0, false, 0, 0), at(0, false, 5, 3), at(0, false, 5, 0)];
  // A quarter clockwise brings the upper left corner to the upper right, and so on.
  assert.deepEqual([at(90, false, 3, 0), at(90, false, 0, 5), at(90, false, 3, 5)], [first, last, corner]);
  assert.deepEqual([at(180, false, 5, 3), at(180, false, 0, 0), at(180, false, 0, 3)], [first, last, corner]);
  assert.deepEqual([at(270, false, 0, 5), at(270, false, 3, 0), at(270, false, 0, 0)], [first, last, corner]);
  assert.deepEqual([at(0, true, 5, 0), at(0, true, 0, 3), at(0, true, 0, 0)], [first, last, corner]);
  assert.deepEqual([at(90, true, 0, 0), at(90, true, 3, 5), at(90, true, 0, 5)], [first, last, corner]);
});

test("score, entropy and words", () => {
  r.logits.forEach((logits, i) => {
    near([entropy(logits, r.config)], [r.entropies[i]], 1e-5);
    near([score(logits, r.config, 0.3)], [r.scores[i]], 1e-5);
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
    const width = memoryWidth(config);
    const tokens = new Float32Array(templateTokens(config) * width);
    memory.start(new Uint8Array(), tokens);
    for (const expected of frames) {
      assert.deepEqual(memory.frames(), expected);
      const n = memory.frames().length > 1 && memory.newest === 0 ? templateTokens(config) : keptTokens(config);
      assert.equal(memory.older().length, (slots - 1) * n * width);
      assert.ok(memory.size <= Math.max(capacity, 2 * slots));
      memory.settle(tokens, new Float32Array(templateTokens(config)));
      memory.add(new Uint8Array());
    }
  }
  assert.deepEqual(sampleHistory(0, 5, "linear"), [0, 0, 0, 0, 0]);
});

test("pruning keeps the right tokens", () => {
  const config = { ...r.config, templates: 2, width: 1, attention: "joint" as const };
  const memory = new TemplateMemory(config);
  const tokens = Float32Array.from({ length: templateTokens(config) }, (_, i) => i);
  memory.start(new Uint8Array(), tokens);
  memory.settle(tokens, tokens); // the later, the more salient
  memory.add(new Uint8Array());
  assert.deepEqual([...memory.older()], [...tokens.slice(-keptTokens(config))]);
});

test("windows elsewhere in a frame, the nearest first, equals included", () => {
  for (const { box, side, size, windows } of r.places) {
    assert.deepEqual([...places(box, side, ...size)].map((w) => [w.x, w.y, w.side]), windows);
  }
  assert.deepEqual([median([3]), median([10, 2]), median([10, 2, 9])], [3, 6, 9]);
});

test("a small target in a large frame: the nearest window is there at once", () => {
  const nearest = places([2000, 1000, 4, 4], 12, 3840, 2160).next().value!;
  assert.ok(Math.abs(nearest.x + 6 - 2002) <= 3 && Math.abs(nearest.y + 6 - 1002) <= 3);
});

/** A picture that is as red as a column is far right and as green as a row is far down. */
const gradient: Pixels = {
  width: 160,
  height: 120,
  read(x, y, w, h) {
    const rgba = new Uint8ClampedArray(w * h * 4);
    for (let i = 0; i < w * h; i++) rgba.set([x + (i % w), y + Math.floor(i / w), 99, 255], 4 * i);
    return rgba;
  },
};

test("a target that is lost is looked for elsewhere as in Python, box for box", async () => {
  for (const { config, box, frames } of r.sought) {
    const tokens = templateTokens(config);
    let index = -1;
    let seen: { colours: number[][]; older: number } = { colours: [], older: 0 };
    const network: Network = async ({ search, memory }) => {
      const said = frames[Math.max(0, index)].said[seen.colours.length];
      const token = index < 0 ? 0 : index + 0.5 * seen.colours.length;
      const colour = [0, 1, 2].map((c) => search.reduce((sum, v, i) => sum + (i % 3 === c ? v : 0), 0) / config.search_size ** 2);
      seen = { colours: [...seen.colours, colour], older: memory.reduce((sum, v) => sum + v, 0) };
      const words = coordinateWords(config) + 5;
      return {
        box: Float32Array.from(said.corners),
        logits: Float32Array.from({ length: 4 * words }, (_, i) => (i % words ? 0 : said.peak)),
        saliency: new Float32Array(tokens),
        tokens: new Float32Array(tokens * memoryWidth(config)).fill(token),
      };
    };
    const target = await Target.start(config, network, gradient, box);
    target.seeks = true;
    for (const expected of frames) {
      index += 1;
      seen = { colours: [], older: 0 };
      await target.update(network, gradient);
      assert.equal(seen.colours.length, expected.colours.length, `windows looked at in frame ${index}`);
      seen.colours.forEach((colour, i) => near(colour, expected.colours[i], 1));
      near([seen.older], [expected.older], 1e-6 * expected.older);
      near(target.box, expected.box, 0.01); // scores are single precision in Python
      near([target.score], [expected.score], 1e-4);
      assert.equal(target.found, expected.found);
    }
  }
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

test("a model whose tensors lie in files beside it is refused in one sentence", () => {
  for (const [name, stem] of [["nano.onnx", "nano"], ["tiny.onnx", "tiny"], ["The model", "NAME"]]) {
    const model = readFileSync(`../src/fartrack/weights/${name.endsWith(".onnx") ? name : "nano.onnx"}`);
    const message = `${name} reads tensors from files beside it, which a page cannot: make a file of its own with \`fartrack export ${stem} --out ${stem}-whole.onnx\`.`;
    assert.throws(() => readConfig(model, name), { message });
  }
});

/** The least of an ONNX file that says its configuration: one metadata entry. */
function fileWith(config: object): Uint8Array {
  const field = (number: number, bytes: Uint8Array): Uint8Array =>
    Uint8Array.from([number * 8 + 2, (bytes.length & 127) | 128, bytes.length >> 7, ...bytes]);
  const text = new TextEncoder();
  const [key, value] = [field(1, text.encode("fartrack")), field(2, text.encode(JSON.stringify(config)))];
  return field(14, Uint8Array.from([...key, ...value]));
}

test("model files from before the tint, the brightening and the score's shape have none, and say all the rest", () => {
  const { template_tint: _, lighten: ___, score_shape: ____, ...older } = r.config;
  const none = { template_tint: 0, lighten: 0, score_shape: 0 };
  assert.deepEqual(readConfig(fileWith(older), "older.onnx"), { ...r.config, ...none });
  assert.equal(readConfig(fileWith({ ...older, template_tint: 0.4 }), "newer.onnx").template_tint, 0.4);
  const { keep: __, ...less } = r.config;
  assert.throws(() => readConfig(fileWith(less), "less.onnx"), /^Error: less.onnx does not say its keep: /);
});

test("a model file of which this page would track otherwise than it says is refused", () => {
  assert.throws(() => readConfig(fileWith({ ...r.config, memory: "cubic" }), "a.onnx"), /^Error: a.onnx says memory "cubic", /);
  assert.throws(() => readConfig(fileWith({ ...r.config, zoom: 2 }), "b.onnx"), /^Error: b.onnx says zoom 2, .* newer fartrack\?$/);
});

test("one-way templates are remembered as keys and values of every layer", () => {
  assert.equal(memoryWidth({ ...r.config, attention: "oneway" }), r.onewayWidth);
  assert.equal(memoryWidth({ ...r.config, attention: "joint" }), r.config.width);
});

test("a refused webcam is told from a missing one", () => {
  assert.match(webcamComplaint("NotAllowedError"), /refused/);
  assert.match(webcamComplaint("NotFoundError"), /No webcam was found/);
  assert.match(webcamComplaint("Odd"), /\(Odd\)/);
});

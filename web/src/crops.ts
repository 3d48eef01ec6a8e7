/** Cutting a window out of a frame: what fartrack/crops.py does with OpenCV, number for number.
 *
 * OpenCV's bilinear resize of bytes works with 11 bits of weight per axis and drops four bits between the axes; the same
 * integers here give the same bytes.
 */

import { roundHalfEven, type Box, type Window } from "./geometry.ts";

/** The pixels of a frame, read in rectangles: R, G, B and one more byte per pixel, row after row. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  read(x: number, y: number, width: number, height: number): Uint8ClampedArray;
}

/** Tints of what a template shows outside of its box: of the box that was given, and of those found since. */
const GIVEN = [0, 255, 0];
const OWN = [255, 0, 255];
/** A dark crop is brightened by this power of what it lacks, and by so much at most. */
const [STEEP, BRIGHTEST] = [1.6, 6];
const WEIGHT = 2048;
const OUTSIDE = -1;

/** Cut and resize; what lies outside the frame is black, and its last row and column count as outside.
 *
 * Returns (size, size, 3) bytes, RGB.
 */
export function cut(frame: Pixels, window: Window, size: number): Uint8Array {
  const result = new Uint8Array(size * size * 3);
  const x = span(window.x, window.side, frame.width - 1);
  const y = span(window.y, window.side, frame.height - 1);
  if (x.length <= 0 || y.length <= 0) return result;
  const [left, top] = [window.x + x.start, window.y + y.start];
  // Of a large window few rows are needed: of a target that fills a 4K frame a tenth.
  const whole = y.length > 2 * size ? null : frame.read(left, top, x.length, y.length);

  const across = taps(window.side, size, x.start, x.length);
  const down = taps(window.side, size, y.start, y.length);
  const row = (index: number): Int32Array => {
    const sums = new Int32Array(size * 3);
    if (index === OUTSIDE) return sums;
    const [pixels, base] = whole ? [whole, index * x.length] : [frame.read(left, top + index, x.length, 1), 0];
    for (let i = 0, to = 0; i < size; i++, to += 3) {
      const { first, second, weight } = across;
      const w = weight[i];
      if (first[i] !== OUTSIDE) {
        const from = (base + first[i]) * 4;
        for (let c = 0; c < 3; c++) sums[to + c] += pixels[from + c] * (WEIGHT - w);
      }
      if (second[i] !== OUTSIDE) {
        const from = (base + second[i]) * 4;
        for (let c = 0; c < 3; c++) sums[to + c] += pixels[from + c] * w;
      }
    }
    return sums;
  };

  let [upperIndex, lowerIndex] = [-2, -2]; // neither a row nor OUTSIDE: not computed yet
  let [upper, lower] = [result as ArrayLike<number>, result as ArrayLike<number>];
  for (let j = 0, to = 0; j < size; j++) {
    if (down.first[j] !== upperIndex) {
      upper = down.first[j] === lowerIndex ? lower : row(down.first[j]);
      upperIndex = down.first[j];
    }
    if (down.second[j] !== lowerIndex) {
      lower = down.second[j] === upperIndex ? upper : row(down.second[j]);
      lowerIndex = down.second[j];
    }
    const w1 = down.weight[j];
    const w0 = WEIGHT - w1;
    for (let i = 0; i < size * 3; i++, to++) {
      result[to] = (((w0 * (upper[i] >> 4)) >> 16) + ((w1 * (lower[i] >> 4)) >> 16) + 2) >> 2;
    }
  }
  return result;
}

/** Brighten a crop, in place, if the mean of what is not black in it is under `below`; 0 leaves every crop as it is. */
export function lighten(crop: Uint8Array, below: number): Uint8Array {
  if (!below) return crop;
  let [sum, count] = [0, 0];
  for (const value of crop) {
    sum += value;
    if (value) count++;
  }
  const mean = sum / Math.max(1, count);
  if (mean >= below) return crop;
  const gain = Math.min(BRIGHTEST, (below / Math.max(1, mean)) ** STEEP);
  const table = Uint8Array.from({ length: 256 }, (_, value) => roundHalfEven(Math.min(255, gain * value)));
  for (let i = 0; i < crop.length; i++) crop[i] = table[crop[i]];
  return crop;
}

/** Tint what of a crop lies outside of a box, in place; pixels on the box's edge are tinted in part.
 *
 * `window` is where the crop was cut out and `share` how much of the colour is the tint's. Single precision and the
 * rounding between the two steps are OpenCV's.
 */
export function tintOutside(crop: Uint8Array, window: Window, box: Box, share: number, given = false): Uint8Array {
  if (!share) return crop;
  const size = Math.sqrt(crop.length / 3);
  const columns = coverage(window.x, window.side, size, box[0], box[2]);
  const rows = coverage(window.y, window.side, size, box[1], box[3]);
  const { fround } = Math;
  const tint = given ? GIVEN : OWN;
  const [part, rest] = [fround(share), fround(1 - share)];
  for (let j = 0, at = 0; j < size; j++) {
    for (let i = 0; i < size; i++) {
      const inside = fround(rows[j] * columns[i]);
      const outside = fround(1 - inside);
      const sum = fround(fround(inside + outside) + fround(1e-5));
      for (let c = 0; c < 3; c++, at++) {
        const tinted = roundHalfEven(fround(fround(crop[at] * rest) + fround(tint[c] * part)));
        crop[at] = roundHalfEven(fround(fround(fround(crop[at] * inside) + fround(tinted * outside)) / sum));
      }
    }
  }
  return crop;
}

/** How much of each pixel of a crop's axis lies between a box's edges, 0 to 1. */
function coverage(corner: number, side: number, size: number, begin: number, length: number): Float64Array {
  const scale = size / side;
  const [first, last] = [(begin - corner) * scale, (begin + length - corner) * scale];
  return Float64Array.from({ length: size }, (_, at) =>
    Math.min(Math.max(Math.min(at + 1, last) - Math.max(at, first), 0), 1),
  );
}

/** The part of a window's axis that lies in the frame, relative to the window. */
function span(origin: number, side: number, limit: number): { start: number; length: number } {
  const start = Math.max(0, -origin);
  return { start, length: side - start - Math.max(0, origin + side - limit) };
}

/** For each pixel of the result the two source pixels (relative to `start`, or OUTSIDE) and the second one's weight. */
function taps(side: number, size: number, start: number, length: number) {
  const first = new Int32Array(size);
  const second = new Int32Array(size);
  const weight = new Int32Array(size);
  const scale = 1 / (size / side);
  const inside = (at: number): number => (at >= start && at < start + length ? at - start : OUTSIDE);
  for (let i = 0; i < size; i++) {
    const centre = Math.fround((i + 0.5) * scale - 0.5);
    let at = Math.floor(centre);
    let rest = Math.fround(centre - at);
    if (at < 0) [at, rest] = [0, 0];
    if (at >= side - 1) [at, rest] = [side - 1, 0];
    first[i] = inside(at);
    second[i] = inside(Math.min(at + 1, side - 1));
    weight[i] = roundHalfEven(rest * WEIGHT);
  }
  return { first, second, weight };
}

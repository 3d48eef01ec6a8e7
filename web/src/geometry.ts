/** Boxes and crop windows, as in fartrack/geometry.py. A box is x, y, w, h in pixels of the frame, top-left origin. */

export type Box = readonly [x: number, y: number, w: number, h: number];

/** A square of the frame, in whole pixels; it may stick out of the frame. */
export interface Window {
  x: number;
  y: number;
  side: number;
}

/** Python's round: halves go to the even neighbour. */
export function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

/** The square around a box with side ceil(factor * sqrt(w * h)). */
export function windowAround([x, y, w, h]: Box, factor: number): Window {
  const side = Math.max(1, Math.ceil(Math.sqrt(w * h) * factor));
  return { x: roundHalfEven(x + 0.5 * w - side * 0.5), y: roundHalfEven(y + 0.5 * h - side * 0.5), side };
}

/** A box of the frame from corners x0, y0, x1, y1 in units of a search window.
 *
 * With `centreOf`, that box's exact centre is taken for the window's, which was rounded to whole pixels.
 */
export function fromWindow(corners: ArrayLike<number>, window: Window, centreOf?: Box): Box {
  const [x0, y0, x1, y1] = [0, 1, 2, 3].map((i) => corners[i] * window.side);
  let left = window.x;
  let top = window.y;
  if (centreOf) {
    left = centreOf[0] + 0.5 * centreOf[2] - 0.5 * window.side;
    top = centreOf[1] + 0.5 * centreOf[3] - 0.5 * window.side;
  }
  return [left + x0, top + y0, x1 - x0, y1 - y0];
}

/** The box a share of the way from an old one to a new one; 1 is the new one. */
export function towards(old: Box, next: Box, share: number): Box {
  const at = (i: 0 | 1 | 2 | 3): number => (share === 1 ? next[i] : old[i] + share * (next[i] - old[i]));
  return [at(0), at(1), at(2), at(3)];
}

/** Keep at least `margin` pixels of a box inside the frame, and its sides at least that long. */
export function clip([x, y, w, h]: Box, width: number, height: number, margin: number): Box {
  const x0 = Math.min(Math.max(0, x), width - margin);
  const y0 = Math.min(Math.max(0, y), height - margin);
  const x1 = Math.max(margin, Math.min(x + w, width));
  const y1 = Math.max(margin, Math.min(y + h, height));
  return [x0, y0, Math.max(margin, x1 - x0), Math.max(margin, y1 - y0)];
}

/** Pixels for which a side of none is taken. */
const EMPTY = 1e-3;

export type Size = readonly [w: number, h: number];

/** How far a box's width or height, whichever is further, lies from their medians before, as a logarithm. */
export function changeOfShape(box: Box, before: readonly Size[]): number {
  const apart = ([0, 1] as const).map((i) =>
    Math.abs(Math.log(Math.max(box[2 + i], EMPTY) / Math.max(median(before.map((size) => size[i])), EMPTY))),
  );
  return Math.max(...apart);
}

/** The middle one of some numbers, or the mean of the two there. */
export function median(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Intersection over union. */
export function iou(a: Box, b: Box): number {
  const w = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const h = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  const inter = Math.max(0, w) * Math.max(0, h);
  const union = a[2] * a[3] + b[2] * b[3] - inter;
  return union > 0 ? inter / union : 0;
}

/** The shortest side, in pixels of the frame, of a box that a person may draw: less is a slip of the hand. */
export const SMALLEST_SIDE = 4;

/** What is wrong with a box that a person drew, as a sentence; null when nothing is. */
export function complaintAbout([x, y, w, h]: Box, width: number, height: number): string | null {
  if (![x, y, w, h].every(Number.isFinite)) return "The box has a side that is no number: draw it again.";
  const size = `${Math.round(w)} × ${Math.round(h)} pixels`;
  if (w < SMALLEST_SIDE || h < SMALLEST_SIDE) {
    return `A box of ${size} is too small to follow: drag from one corner of the object to the opposite one.`;
  }
  if (x >= width || y >= height || x + w <= 0 || y + h <= 0) return "The box lies outside the picture: draw it inside.";
  return null;
}

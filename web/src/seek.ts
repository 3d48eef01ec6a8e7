/** Where else in the frame a target that is lost is looked for: fartrack/seek.py. */

import { roundHalfEven, type Box, type Window } from "./geometry.ts";

/** Frames without the target before it is looked for elsewhere. */
export const PATIENCE = 5;
/** Score from which a box elsewhere is believed; more than around the last box, for much is seen in a whole frame. */
export const TRUST = 0.8;
/** Boxes whose median size and shape are looked for: what leaves the view has shrunk at its edge. */
export const REMEMBERED = 60;

/** Windows of a side that cover a frame, half a side apart, the nearest to a box first; each made when asked for. */
export function* places(box: Box, side: number, width: number, height: number): Generator<Window, void> {
  side = Math.max(2, roundHalfEven(side));
  const columns = middles(width, side);
  const rows = middles(height, side);
  const [x, y] = [box[0] + box[2] / 2, box[1] + box[3] / 2];
  const away = new Float64Array(rows.length * columns.length);
  let at = 0;
  for (const row of rows) {
    for (const column of columns) away[at++] = (row - y) * (row - y) + (column - x) * (column - x);
  }
  for (const number of Uint32Array.from(away, (_, i) => i).sort((a, b) => away[a] - away[b] || a - b)) {
    const [column, row] = [columns[number % columns.length], rows[Math.floor(number / columns.length)]];
    yield { x: roundHalfEven(column - side / 2), y: roundHalfEven(row - side / 2), side };
  }
}

/** Middles of the windows along one side of a frame. */
function middles(length: number, side: number): number[] {
  const count = Math.max(1, Math.ceil((2 * length) / side) - 1);
  return Array.from({ length: count }, (_, i) => (length * (i + 1)) / (count + 1));
}

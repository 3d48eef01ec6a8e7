/** Results, and the table of them that `fartrack track` writes. */

import type { Box } from "./geometry.ts";

export interface Row {
  frame: number;
  box: Box;
  score: number;
  found: boolean;
  /** Milliseconds: in the network, and for the whole frame; 0 where a person drew the box. */
  network: number;
  total: number;
}

export const COLUMNS = ["frame", "x", "y", "w", "h", "score", "found"];

/** A number as the text formats write it: fixed precision, no trailing zeros. */
export function number(value: number, digits = 3): string {
  const text = value.toFixed(digits).replace(/\.?0+$/, "");
  return text === "-0" ? "0" : text;
}

/** boxes.csv, rows in the order of the frames. */
export function csv(rows: Iterable<Row>): string {
  const lines = [...rows]
    .sort((a, b) => a.frame - b.frame)
    .map((r) => [String(r.frame), ...r.box.map((v) => number(v)), number(r.score, 4), r.found ? "1" : "0"].join(","));
  return [COLUMNS.join(","), ...lines, ""].join("\n");
}

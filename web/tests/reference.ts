/** What Python computed: see reference.py. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ModelConfig } from "../src/config.ts";
import type { Box } from "../src/geometry.ts";
import type { Matrix } from "../src/pixels.ts";

/** Where reference.py wrote, and where the tests put what they make. */
export const OUT = process.env.FARTRACK_WEB_OUT ?? join(process.cwd(), "tests", "out");

/** frame, x, y, w, h, score, found */
export type ReferenceRow = [number, number, number, number, number, number, number];

export interface Reference {
  config: ModelConfig;
  onewayWidth: number;
  boxes: Box[];
  corners: number[][];
  windows: [number, number, number][];
  found: Box[];
  clipped: Box[];
  /** Of scores 0, 1 / n, 2 / n ... with doubt 0.25 and trust 0.75. */
  shares: number[];
  towards: Box[];
  /** Of each clipped box, from those up to it. */
  changes: number[];
  overlaps: number[];
  logits: number[][];
  /** With a change of 0.3. */
  scores: number[];
  entropies: number[];
  coordinates: number[];
  words: number[];
  saliency: number[][];
  salient: number[][];
  numbers: [number, string, string][];
  histories: { policy: ModelConfig["memory"]; slots: number; capacity: number; frames: number[][] }[];
  cuts: {
    width: number;
    height: number;
    picture: string;
    cases: { window: [number, number, number]; size: number; bytes: string }[];
  };
  lightened: { picture: string; below: number; bytes: string }[];
  tinted: {
    picture: string;
    cases: { window: [number, number, number]; box: Box; share: number; given: boolean; bytes: string }[];
  };
  places: { box: Box; side: number; size: [number, number]; windows: [number, number, number][] }[];
  /** Of a picture that is as red as a column is far right and as green as a row is far down. */
  sought: {
    config: ModelConfig;
    box: Box;
    frames: {
      /** What the network says around the last box, and of the other window if one is looked at. */
      said: { peak: number; corners: number[] }[];
      /** Mean red, green and blue of the crops that are looked at. */
      colours: [number, number, number][];
      /** Sum of what is remembered. */
      older: number;
      box: Box;
      score: number;
      found: boolean;
    }[];
  }[];
  colours: { matrix: Matrix; fullRange: boolean; width: number; height: number; i420: string; rgb: string }[];
  clip: ReferenceRow[];
  turned: { size: [number, number]; rows: ReferenceRow[] };
  /** Begins within a frame, which is left out. */
  trimmed: { count: number; rows: ReferenceRow[] };
  /** Frames that Python reads; 0 where it refuses the video. */
  copies: Record<"cut.mkv" | "keyless.webm" | "same.mkv", number>;
  webm: ReferenceRow[];
  /** Turns away in frame 10 and comes in elsewhere in frame 35; looked for in the whole frame. */
  away: ReferenceRow[];
}

export const reference = JSON.parse(readFileSync(join(OUT, "reference.json"), "utf8")) as Reference;

export const boxOf = (row: ReferenceRow): Box => [row[1], row[2], row[3], row[4]];

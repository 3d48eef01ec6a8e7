/** What the page and its worker say to each other. */

import type { Frame } from "./frames.ts";
import type { Box } from "./geometry.ts";
import type { Engine } from "./network.ts";

/** A model file: on the server, or one that the visitor dropped. */
export type ModelFile = { name: string } & ({ url: string } | { bytes: ArrayBuffer });

export interface Answer {
  box: Box;
  score: number;
  found: boolean;
  /** Milliseconds: in the network, and for the whole frame. */
  network: number;
  total: number;
}

export interface About {
  model: string;
  runsOn: string;
}

/** Each request by its kind: what goes in and what comes back. */
export interface Calls {
  open: { in: { model: ModelFile; engineUrl: string; engine: Engine }; out: About };
  init: { in: { frame: Frame; box: Box }; out: null };
  update: { in: { frame: Frame; seeks: boolean }; out: Answer };
}

export type Request = { [K in keyof Calls]: { id: number; kind: K } & Calls[K]["in"] }[keyof Calls];
export type Reply = { id: number; value: unknown } | { id: number; error: string } | { bytes: number };

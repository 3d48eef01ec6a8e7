/** What is remembered of one target, and how a frame changes it. fartrack/target.py. */

import { memoryWidth, paddingWord, renewal, templateTokens, type ModelConfig } from "./config.ts";
import { cut, lighten, tintOutside, type Pixels } from "./crops.ts";
import { changeOfShape, clip, fromWindow, median, towards, windowAround, type Box, type Size, type Window } from "./geometry.ts";
import { TemplateMemory } from "./memory.ts";
import * as seek from "./seek.ts";
import { score, share, toWord } from "./vocabulary.ts";

/** What goes into the network for one frame: see `Runtime` in fartrack/runtime. */
export interface Input {
  search: Uint8Array;
  /** Empty where none is new: then the newest one is in the memory too. */
  template: Uint8Array;
  memory: Float32Array;
  trajectory: BigInt64Array | null;
}

/** What the network says about it. */
export interface Output {
  box: Float32Array;
  logits: Float32Array;
  saliency: Float32Array;
  tokens: Float32Array;
}

export type Network = (input: Input) => Promise<Output>;

/** Frames with whose boxes the newest one's shape is compared: things seldom change at once, trackers that slip do. */
const COMPARED = 30;

/** Frames after the given one that each give a template, whatever `update_interval` says: little is known yet. */
const AT_FIRST = 10;
/** So does a frame with a lower score than this: without templates of what changes more targets are lost. */
const SURE = 0.9;

export class Target {
  /** Once it is lost, look for it elsewhere in the frame too: seek.ts. */
  seeks = false;
  /** Frames in a row in which it was not found. */
  private lostFor = 0;
  /** Number of the last frame, counted from the given one. */
  private frame = 0;
  /** Of the last one that gave a template. */
  private given = 0;
  /** Of the boxes of the last frames. */
  private shapes: Size[];
  /** Of those of the last frames in which it was found. */
  private readonly held: Size[];
  private places: Iterator<Window, never> | null = null;
  /** Of the last frames; 1 where the box was given. */
  private readonly scores = [1];
  private readonly memory: TemplateMemory;
  /** Pixels. A target that is given smaller than the config's margin may stay so. */
  private readonly margin: number;
  private readonly past: Box[];
  private window: Window;

  private constructor(
    private readonly config: ModelConfig,
    private readonly width: number,
    private readonly height: number,
    public box: Box,
  ) {
    this.margin = config.decoding === "release" ? config.margin : Math.min(config.margin, box[2], box[3]);
    this.memory = new TemplateMemory(config);
    this.past = [box];
    this.shapes = [[box[2], box[3]]];
    this.held = [[box[2], box[3]]];
    this.window = windowAround(box, config.search_factor);
  }

  /** Begin on a frame. The first template's tokens come from a call whose box is thrown away. */
  static async start(config: ModelConfig, network: Network, frame: Pixels, box: Box): Promise<Target> {
    const target = new Target(config, frame.width, frame.height, box);
    const template = target.template(frame, true);
    const { tokens } = await network({
      search: new Uint8Array(config.search_size ** 2 * 3),
      template,
      memory: new Float32Array((config.templates - 1) * templateTokens(config) * memoryWidth(config)),
      trajectory: config.trajectory
        ? new BigInt64Array(4 * config.trajectory).fill(BigInt(paddingWord(config)))
        : null,
    });
    target.memory.start(template, tokens);
    return target;
  }

  get score(): number {
    return this.scores[this.scores.length - 1];
  }

  /** Whether the score says that the target is in the box. */
  get found(): boolean {
    return this.score >= this.config.lost_below;
  }

  /** Follow into the next frame, which must be of the size of the first. */
  async update(network: Network, frame: Pixels): Promise<void> {
    if (frame.width !== this.width || frame.height !== this.height) {
      const was = `${this.width} × ${this.height}`;
      throw new Error(`The picture is now ${frame.width} × ${frame.height}, it was ${was}: draw the box again.`);
    }
    const c = this.config;
    this.window = windowAround(this.box, c.search_factor);
    const input = {
      search: this.searchCrop(frame, this.window),
      template: this.memory.newestCrop ?? new Uint8Array(),
      memory: this.memory.older(),
      trajectory: this.trajectory(),
    };
    const place = this.elsewhere();
    const around = await network(input);
    const there = place && (await network({ ...input, search: this.searchCrop(frame, place) }));
    this.absorb(frame, around, there, place);
  }

  /** Another window in which a target that is lost may be; mostly null. */
  private elsewhere(): Window | null {
    if (!this.seeks || this.lostFor < seek.PATIENCE) return null;
    if (!this.places) {
      const { box, width, height } = this;
      const side = this.config.search_factor * median(this.held.map(([w, h]) => Math.sqrt(w * h)));
      this.places = again(() => seek.places(box, side, width, height));
    }
    return this.places.next().value;
  }

  /** Take in what the network said of the frame: around the last box, and in the other window if there is one. */
  private absorb(frame: Pixels, around: Output, there: Output | null, place: Window | null): void {
    const c = this.config;
    const next = fromWindow(around.box, this.window, c.decoding === "release" ? this.box : undefined);
    const near = this.judged(around, next, this.shapes);
    // Since it was lost the box may have become another: what comes in elsewhere has the shape of before.
    const whole = there && place && fromWindow(there.box, place);
    const far = there && whole ? this.judged(there, whole, this.held) : 0;
    const jumps = far > Math.max(seek.TRUST, c.lost_below, near);
    push(this.scores, jumps ? far : near, c.patience);
    let [out, box] = [around, this.box];
    if (there && place && whole && jumps) {
      [out, this.window] = [there, place];
      box = whole; // taken whole: half way there is nothing
      this.past.length = 0;
      this.shapes = this.held.slice(-COMPARED); // of what was taken for it meanwhile none
    } else {
      box = towards(this.box, next, share(this.scores, c));
    }
    this.box = this.clipped(box);
    push(this.past, this.box, Math.max(1, c.trajectory));
    push(this.shapes, [this.box[2], this.box[3]], COMPARED);
    this.remember();
    this.frame += 1;
    if (this.found || !c.withhold) {
      if (this.memory.newestCrop) this.memory.settle(out.tokens, out.saliency);
      const due = this.frame <= AT_FIRST || this.score < SURE || this.frame - this.given >= renewal(c);
      if (due && c.templates > 1) {
        this.memory.add(this.template(frame, false));
        this.given = this.frame;
      }
    }
  }

  /** Score of a box that the network wrote. */
  private judged(output: Output, box: Box, shapes: readonly Size[]): number {
    return score(output.logits, this.config, changeOfShape(this.clipped(box), shapes));
  }

  private clipped(box: Box): Box {
    return clip(box, this.width, this.height, Math.min(this.margin, this.width, this.height));
  }

  private remember(): void {
    if (!this.found) {
      this.lostFor += 1;
      return;
    }
    this.lostFor = 0;
    if (this.score > seek.TRUST) this.places = null; // else it may soon be lost again, and the search goes on where it was
    push(this.held, [this.box[2], this.box[3]], seek.REMEMBERED);
  }

  private searchCrop(frame: Pixels, window: Window): Uint8Array {
    return lighten(cut(frame, window, this.config.search_size), this.config.lighten);
  }

  private template(frame: Pixels, given: boolean): Uint8Array {
    const c = this.config;
    const window = windowAround(this.box, c.template_factor);
    const crop = lighten(cut(frame, window, c.template_size), c.lighten);
    return tintOutside(crop, window, this.box, c.template_tint, given);
  }

  /** Words of the past boxes in units of this search crop, oldest first; the oldest fills up at the start. */
  private trajectory(): BigInt64Array | null {
    const c = this.config;
    if (!c.trajectory) return null;
    const boxes = [...Array<Box>(c.trajectory - this.past.length).fill(this.past[0]), ...this.past];
    const { x, y, side } = this.window;
    const words = boxes.flatMap((b) =>
      [b[0] - x, b[1] - y, b[0] + b[2] - x, b[1] + b[3] - y].map((v) => BigInt(toWord(v / side, c))),
    );
    return BigInt64Array.from(words);
  }
}

/** Append to the last `most` of something. */
function push<T>(last: T[], value: T, most: number): void {
  last.push(value);
  if (last.length > most) last.shift();
}

/** The same over and over, made anew each time. */
function* again<T>(make: () => Iterable<T>): Generator<T, never> {
  for (;;) yield* make();
}

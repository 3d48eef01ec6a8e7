/** What is remembered of one target, and how a frame changes it. fartrack/target.py. */

import { memoryWidth, paddingWord, templateTokens, type ModelConfig } from "./config.ts";
import { cut, lighten, tintOutside, type Pixels } from "./crops.ts";
import { clip, fromWindow, towards, windowAround, type Box, type Window } from "./geometry.ts";
import { TemplateMemory } from "./memory.ts";
import { score, share, toWord } from "./vocabulary.ts";

/** What goes into the network for one frame: see `Runtime` in fartrack/runtime. */
export interface Input {
  search: Uint8Array;
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

export class Target {
  /** Of the last frames; 1 where the box was given. */
  private readonly scores = [1];
  private readonly memory: TemplateMemory;
  private readonly past: Box[];
  private window: Window;

  private constructor(
    private readonly config: ModelConfig,
    private readonly width: number,
    private readonly height: number,
    public box: Box,
  ) {
    this.memory = new TemplateMemory(config);
    this.past = [box];
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
    const search = lighten(cut(frame, this.window, c.search_size), c.lighten);
    const template = this.memory.newestCrop;
    const out = await network({ search, template, memory: this.memory.older(), trajectory: this.trajectory() });
    const box = fromWindow(out.box, this.window, c.decoding === "release" ? this.box : undefined);
    this.scores.push(score(out.logits, c));
    if (this.scores.length > c.patience) this.scores.shift();
    const next = towards(this.box, box, share(this.scores, c));
    this.box = clip(next, this.width, this.height, Math.min(c.margin, this.width, this.height));
    this.past.push(this.box);
    if (this.past.length > Math.max(1, c.trajectory)) this.past.shift();
    if (this.found || !c.withhold) {
      this.memory.settle(out.tokens, out.saliency);
      this.memory.add(this.template(frame, false));
    }
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

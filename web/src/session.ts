/** One video and one target in it: what is shown, what was found, and what comes next. No page in here. */

import type { Frame } from "./frames.ts";
import { complaintAbout, type Box } from "./geometry.ts";
import type { Answer } from "./messages.ts";
import type { Source } from "./sources.ts";
import type { Row } from "./table.ts";

export interface Follower {
  init(frame: Frame, box: Box): Promise<void>;
  /** @param seeks whether a target that has been lost for a while is looked for elsewhere in the frame as well. */
  update(frame: Frame, seeks: boolean): Promise<Answer>;
}

export class Session {
  /** Results by frame; they stay whatever fails later. */
  readonly rows = new Map<number, Row>();
  /** The frame on the page. */
  frame: Frame | null = null;
  /** The frame that the tracker saw last, or null when it follows nothing. */
  head: number | null = null;
  /** Whether to run as fast as the machine can, rather than as the video does at most. */
  fullSpeed = false;
  /** Whether a target that has been lost for a while is looked for elsewhere in the frame as well. */
  seeks = false;
  private turn = 0;
  private asked = 0;
  /** How often a box was begun: what was under way then must not exchange the picture beneath it. */
  private held = 0;
  private running = 0;
  private queue: Promise<unknown> = Promise.resolve();

  /**
   * @param changed called when something to be shown has changed.
   * @param say is given a sentence for the person.
   */
  constructor(
    readonly source: Source,
    private readonly follower: Follower,
    private readonly changed: () => void,
    private readonly say: (sentence: string, wrong: boolean) => void,
  ) {}

  get live(): boolean {
    return this.source.count === null;
  }

  get playing(): boolean {
    return this.running !== 0;
  }

  /** The result for the frame on the page. */
  get row(): Row | undefined {
    return this.frame ? this.rows.get(this.frame.index) : undefined;
  }

  /** Run on: follow where the tracker stands, show again where results are there already. */
  async play(): Promise<void> {
    if (this.playing) return;
    const turn = (this.running = ++this.turn);
    this.changed();
    while (this.running === turn) {
      const due = performance.now() + (this.fullSpeed || this.live ? 0 : 1000 / this.source.fps);
      const held = this.held;
      if (!(await this.attempt(() => this.advance(held, turn)))) break;
      await sleep(Math.max(0, due - performance.now()));
    }
    if (this.running === turn) this.pause();
  }

  pause(): void {
    this.running = 0;
    this.changed();
  }

  /** Keep the picture, a box is drawn on it: what was asked for and is not there yet is not shown any more. */
  hold(): void {
    this.held += 1;
    this.pause();
  }

  /** One frame on: followed where the tracker stands, else merely shown. */
  async step(): Promise<void> {
    this.pause();
    const held = this.held;
    await this.attempt(() => this.advance(held));
  }

  /** Show a frame of the file, unless another one is asked for before it is read. */
  async show(index: number): Promise<void> {
    this.pause();
    const [number, held] = [++this.asked, this.held];
    await this.attempt(async () => {
      if (number !== this.asked || held !== this.held) return false;
      const last = this.source.count === null ? index : this.source.count - 1;
      const frame = await this.source.read(Math.min(Math.max(0, index), last));
      if (frame) this.put(frame, held);
      return true;
    });
  }

  /** Follow what is in the box; false (and a sentence) when the box is no good.
   *
   * @param index the frame that it was drawn on, which a file shows again if it was left; a webcam cannot go back.
   */
  async begin(box: Box, index = this.frame?.index): Promise<boolean> {
    this.hold();
    return this.attempt(async () => {
      if (!this.live && index !== undefined && index !== this.frame?.index) {
        const left = await this.source.read(index);
        if (left) this.put(left);
      }
      const frame = this.frame;
      if (!frame) return false;
      const wrong = complaintAbout(box, frame.width, frame.height);
      if (wrong) throw new Error(wrong);
      await this.follower.init(frame, box);
      this.rows.set(frame.index, { frame: frame.index, box, score: 1, found: true, network: 0, total: 0 });
      this.head = frame.index;
      this.changed();
      return true;
    });
  }

  /** The tracker was exchanged and knows nothing of the target. */
  forget(): void {
    this.pause();
    this.head = null;
    this.changed();
  }

  async close(): Promise<void> {
    this.pause();
    await this.queue;
    this.frame?.image.close();
    this.frame = null;
    this.source.close();
  }

  private async advance(held: number, turn = 0): Promise<boolean> {
    if (held !== this.held || (turn && this.running !== turn)) return false;
    const at = this.frame?.index ?? -1;
    const follows = this.head !== null && this.head === at;
    const preview = this.live && this.head === null;
    const ended = (): boolean => {
      this.say(follows ? `Done: ${this.rows.size} frames.` : "This is the last frame.", false);
      return false;
    };
    if (this.source.count !== null && at + 1 >= this.source.count) return ended();
    if (turn && !this.live && !follows && !this.rows.has(at + 1)) {
      this.say("Draw a box on this frame to follow from here.", false);
      return false;
    }
    const frame = await this.source.read(preview && !this.rows.has(at) ? Math.max(at, 0) : at + 1);
    if (!frame) return ended();
    if (held !== this.held) {
      frame.image.close();
      return false;
    }
    const before = this.frame;
    if (follows && before && (frame.width !== before.width || frame.height !== before.height)) {
      this.head = null;
      this.put(frame);
      const was = `${before.width} × ${before.height}`;
      throw new Error(`The picture is now ${frame.width} × ${frame.height}, it was ${was}: draw the box again.`);
    }
    if (follows) {
      try {
        const answer = await this.follower.update(frame, this.seeks);
        if (!this.live || held === this.held) { // a webcam's next picture gets the number of one that is not shown
          this.rows.set(frame.index, { frame: frame.index, ...answer });
          this.head = frame.index;
        }
      } catch (error) {
        frame.image.close();
        throw error;
      }
    }
    this.put(frame, held);
    return true;
  }

  private put(frame: Frame, held = this.held): void {
    if (held !== this.held) return frame.image.close();
    this.frame?.image.close();
    this.frame = frame;
    this.changed();
  }

  /** Do one thing after the other; what fails becomes a sentence, and nothing else changes. */
  private attempt(action: () => Promise<boolean>): Promise<boolean> {
    const outcome = this.queue.then(action).catch((error: unknown) => {
      this.say(error instanceof Error ? error.message : String(error), true);
      return false;
    });
    this.queue = outcome;
    return outcome;
  }
}

/** Timers of a page in the background ring late, messages do not: there nobody watches, and nothing is waited for. */
function sleep(ms: number): Promise<void> {
  return new Promise((done) => {
    if (ms > 0 && !globalThis.document?.hidden) return void setTimeout(done, ms);
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      done();
    };
    port2.postMessage(null);
  });
}

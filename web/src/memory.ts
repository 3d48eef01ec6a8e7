/** Template memory: which past templates the network sees, and which are worth keeping. fartrack/memory.py. */

import { keptTokens, memoryWidth, rests, type ModelConfig } from "./config.ts";
import { roundHalfEven } from "./geometry.ts";

/** Frames whose templates fill the slots, oldest first; the last is `newest` (from 0), where there is more than one. */
export function sampleHistory(newest: number, slots: number, policy: ModelConfig["memory"]): number[] {
  if (newest + 1 < slots) {
    return [...Array<number>(slots - newest - 1).fill(0), ...Array.from({ length: newest + 1 }, (_, i) => i)];
  }
  if (slots === 1) return [0];
  const between = Array.from({ length: slots - 2 }, (_, i) =>
    policy === "linear" ? roundHalfEven((newest * (i + 1)) / (slots - 1)) : Math.trunc(newest * (1 - 0.7 ** (i + 1))),
  );
  return [0, ...between, newest];
}

/** Indices of the `count` most salient tokens in rising order; of equals the earlier is dropped first. */
export function mostSalient(saliency: ArrayLike<number>, count: number): number[] {
  const order = Array.from(saliency, (_, i) => i).sort((a, b) => saliency[a] - saliency[b] || a - b);
  return order.slice(saliency.length - count).sort((a, b) => a - b);
}

/** Templates of one video: a bounded set of settled ones (embedded, pruned) and the newest, still a picture. */
export class TemplateMemory {
  stride = 1;
  newest = -1;
  /** Null once it is settled, until there is another. */
  newestCrop: Uint8Array | null = null;
  private settled: Float32Array | null = null;
  private kept = new Map<number, Float32Array>();
  private readonly capacity: number;

  constructor(
    private readonly config: ModelConfig,
    // Keys and values of every layer take more room than embeddings: fewer templates then.
    capacity = Math.max(48, Math.floor((192 * config.width) / memoryWidth(config))),
  ) {
    this.capacity = Math.max(capacity, 2 * config.templates);
  }

  /** Begin with the first frame's template and its tokens: whole, because its mask is decided one frame later. */
  start(crop: Uint8Array, tokens: Float32Array): void {
    this.stride = 1;
    this.newest = 0;
    this.newestCrop = crop;
    this.kept = new Map([[0, tokens]]);
  }

  /** Prune the newest template, once and for all, and store it. */
  settle(tokens: Float32Array, saliency: ArrayLike<number>): void {
    const width = memoryWidth(this.config);
    const keep = mostSalient(saliency, keptTokens(this.config));
    const pruned = new Float32Array(keep.length * width);
    keep.forEach((token, i) => pruned.set(tokens.subarray(token * width, (token + 1) * width), i * width));
    if (this.config.templates > 1 || rests(this.config)) this.newestCrop = null; // else every frame reads this picture
    this.settled = pruned;
    if (this.newest % this.stride !== 0) return;
    this.kept.set(this.newest, pruned);
    if (this.kept.size > this.capacity) this.thin();
  }

  /** Drop what will never be asked for again; where that is not enough, every second one. */
  private thin(): void {
    const between = sampleHistory(this.newest + 1, this.config.templates, this.config.memory).slice(1, -1);
    const oldest = between[0] ?? this.newest + 1; // only grows; the first frame stays for ever
    this.drop((i) => i === 0 || i > oldest - this.stride);
    while (this.kept.size > this.capacity) {
      this.stride *= 2;
      this.drop((i) => i % this.stride === 0);
    }
  }

  private drop(stays: (index: number) => boolean): void {
    this.kept = new Map([...this.kept].filter(([i]) => stays(i)));
  }

  /** Take the template of the frame just tracked as the newest; the one before must be settled. */
  add(crop: Uint8Array): void {
    this.newest += 1;
    this.newestCrop = crop;
  }

  /** Tokens of all slots but the newest, oldest first, one after the other; once it is settled, of that one too. */
  older(): Float32Array {
    const slots = this.frames().slice(0, -1).map((i) => this.kept.get(i)!);
    if (!this.newestCrop && this.settled) slots.push(this.settled);
    const all = new Float32Array(slots.reduce((sum, s) => sum + s.length, 0));
    let at = 0;
    for (const slot of slots) {
      all.set(slot, at);
      at += slot.length;
    }
    return all;
  }

  /** Numbers of the templates that fill the slots now, oldest first. */
  frames(): number[] {
    const wanted = sampleHistory(this.newest, this.config.templates, this.config.memory);
    return [...wanted.slice(0, -1).map((i) => this.nearest(i)), this.newest];
  }

  private nearest(index: number): number {
    if (this.kept.has(index)) return index;
    const below = index - (index % this.stride);
    const there = [below, below + this.stride].filter((i) => this.kept.has(i));
    const from = there.length ? there : [...this.kept.keys()];
    return from.reduce((best, i) => (Math.abs(i - index) < Math.abs(best - index) ? i : best));
  }

  get size(): number {
    return this.kept.size;
  }
}

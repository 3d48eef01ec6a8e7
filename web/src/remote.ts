/** The worker seen from the page: calls with promises. */

import type { Frame } from "./frames.ts";
import type { Box } from "./geometry.ts";
import type { About, Answer, Calls, ModelFile, Reply } from "./messages.ts";
import type { Engine } from "./network.ts";

export class RemoteTracker {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  private readonly waiting = new Map<number, { done: (value: never) => void; failed: (error: Error) => void }>();
  private broken: Error | null = null;
  private next = 0;

  /** @param fetched is told how many more bytes of engine and model came. */
  constructor(fetched: (bytes: number) => void) {
    this.worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => {
      if ("bytes" in data) return fetched(data.bytes);
      const call = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if ("error" in data) call?.failed(new Error(data.error));
      else call?.done(data.value as never);
    });
    this.worker.addEventListener("error", (event) => {
      event.preventDefault();
      const why = event.message ? ` (${event.message})` : "";
      this.broken = new Error(`The tracker stopped${why}: download what is there, then reload the page.`);
      for (const call of this.waiting.values()) call.failed(this.broken);
      this.waiting.clear();
    });
  }

  open(model: ModelFile, engineUrl: string, engine: Engine): Promise<About> {
    return this.call("open", { model, engineUrl, engine });
  }

  async init(frame: Frame, box: Box): Promise<void> {
    await this.call("init", { frame, box });
  }

  update(frame: Frame, seeks: boolean): Promise<Answer> {
    return this.call("update", { frame, seeks });
  }

  private call<K extends keyof Calls>(kind: K, body: Calls[K]["in"]): Promise<Calls[K]["out"]> {
    if (this.broken) return Promise.reject(this.broken);
    return new Promise((done, failed) => {
      const id = this.next++;
      this.waiting.set(id, { done, failed });
      this.worker.postMessage({ id, kind, ...body }); // frames are shared, not copied; each side closes its own
    });
  }
}

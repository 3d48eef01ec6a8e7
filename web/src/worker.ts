/** The worker: crops, memory and network live here, so that the page never waits for them. */

import type { ModelConfig } from "./config.ts";
import type { Pixels } from "./crops.ts";
import { paint, type Frame } from "./frames.ts";
import type { About, Answer, ModelFile, Reply, Request } from "./messages.ts";
import { open, type Engine, type Opened } from "./network.ts";
import { PlanarPixels } from "./pixels.ts";
import { Target, type Network } from "./target.ts";

/** A frame's pixels as the browser converts them, through a canvas that stays in main memory. */
class Canvas implements Pixels {
  private readonly pen: OffscreenCanvasRenderingContext2D;

  constructor(
    readonly width: number,
    readonly height: number,
  ) {
    const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true, alpha: false });
    if (!pen) throw new Error(`A picture of ${width} × ${height} is too large for this browser: use a smaller video.`);
    this.pen = pen;
  }

  take(frame: Frame): void {
    paint(this.pen, frame, this.width, this.height);
  }

  read(x: number, y: number, width: number, height: number): Uint8ClampedArray {
    return this.pen.getImageData(x, y, width, height).data;
  }
}

let current: Opened | null = null;
let config: ModelConfig | null = null;
let network: Network | null = null;
let target: Target | null = null;
let canvas: Canvas | null = null;
let inNetwork = 0;
let engineBinary: ArrayBuffer | null = null;

const post = (reply: Reply): void => self.postMessage(reply);

let planes = new Uint8Array();

async function pixels(frame: Frame): Promise<Pixels> {
  const { image } = frame;
  try {
    if ("copyTo" in image && (image.format === "I420" || image.format === "NV12")) {
      const { format, colorSpace } = image;
      const rect = image.visibleRect!;
      const size = image.allocationSize();
      if (planes.length !== size) planes = new Uint8Array(size);
      const layout = await image.copyTo(planes);
      const { width, height } = rect;
      const fullRange = colorSpace.fullRange ?? false;
      return new PlanarPixels({ format, data: planes, layout, width, height, matrix: frame.matrix, fullRange }, frame);
    }
    return canvasPixels(frame);
  } finally {
    image.close();
  }
}

function canvasPixels(frame: Frame): Pixels {
  if (canvas?.width !== frame.width || canvas.height !== frame.height) canvas = new Canvas(frame.width, frame.height);
  canvas.take(frame);
  return canvas;
}

async function openModel(file: ModelFile, engineUrl: string, engine: Engine): Promise<About> {
  const [model, binary] = await Promise.all([
    "bytes" in file ? file.bytes : download(file.url, file.name),
    engineBinary ?? download(engineUrl, "the engine").then(unpacked),
  ]);
  engineBinary = binary;
  const opened = await open(new Uint8Array(model), file.name, engine, binary);
  await current?.close();
  current = opened;
  config = opened.config;
  network = async (input) => {
    const begun = performance.now();
    const output = await opened.network(input);
    inNetwork += performance.now() - begun;
    return output;
  };
  target = null;
  return { model: opened.config.name, runsOn: opened.runsOn };
}

/** Fetch a file, telling the page how many bytes came. */
async function download(url: string, name: string): Promise<ArrayBuffer> {
  let answer: Response;
  try {
    answer = await fetch(url);
  } catch {
    throw new Error(`${name} cannot be fetched: check the connection and reload the page.`);
  }
  if (!answer.ok || !answer.body) throw new Error(`${name} cannot be fetched (the server says ${answer.status}).`);
  const counted = answer.body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, to) {
        post({ bytes: chunk.length });
        to.enqueue(chunk);
      },
    }),
  );
  return new Response(counted).arrayBuffer().catch(() => {
    throw new Error(`${name} broke off on its way: check the connection and reload the page.`);
  });
}

/** The engine is stored gzipped, to keep the folder small; some servers unpack such files on their own. */
async function unpacked(bytes: ArrayBuffer): Promise<ArrayBuffer> {
  const head = new Uint8Array(bytes, 0, Math.min(2, bytes.byteLength));
  if (head[0] !== 0x1f || head[1] !== 0x8b) return bytes;
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function handle(request: Request): Promise<unknown> {
  if (request.kind === "open") return openModel(request.model, request.engineUrl, request.engine);
  if (!config || !network) throw new Error("The model is not loaded yet.");
  const begun = performance.now();
  const picture = await pixels(request.frame);
  inNetwork = 0;
  if (request.kind === "init") {
    target = await Target.start(config, network, picture, request.box);
    return null;
  }
  if (!target) throw new Error("There is nothing to follow yet: draw a box first.");
  target.seeks = request.seeks;
  await target.update(network, picture);
  const { box, score, found } = target;
  return { box, score, found, network: inNetwork, total: performance.now() - begun } satisfies Answer;
}

let queue: Promise<void> = Promise.resolve();

self.addEventListener("message", (event: MessageEvent<Request>) => {
  queue = queue.then(async () => {
    const { id } = event.data;
    try {
      post({ id, value: await handle(event.data) });
    } catch (error) {
      post({ id, error: error instanceof Error ? error.message : String(error) });
    }
  });
});

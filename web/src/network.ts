/** The network in onnxruntime-web: WebGPU where there is one, else WebAssembly with SIMD and, where allowed, threads. */

import * as ort from "onnxruntime-web/webgpu";
import glue from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url";
import { keptTokens, memoryWidth, readConfig, rests, templateTokens, type ModelConfig } from "./config.ts";
import type { Network, Output } from "./target.ts";

export type Engine = "auto" | "webgpu" | "wasm";

export interface Opened {
  config: ModelConfig;
  network: Network;
  /** Free its memory. */
  close: () => Promise<void>;
  /** Where it runs, in words. */
  runsOn: string;
}

/** Load a model into an engine.
 *
 * @param model bytes of the ONNX file.
 * @param name what messages call it.
 * @param engine "auto" takes WebGPU when a real one is there and answers sensibly.
 * @param binary the WebAssembly of onnxruntime.
 */
export async function open(model: Uint8Array, name: string, engine: Engine, binary: ArrayBuffer): Promise<Opened> {
  const config = readConfig(model, name);
  const threads = self.crossOriginIsolated ? Math.max(1, Math.min(4, navigator.hardwareConcurrency - 1)) : 1;
  ort.env.logLevel = "error";
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.wasmPaths = { mjs: new URL(glue, self.location.href).href };
  ort.env.wasm.numThreads = threads;

  const onGpu = "the graphics card (WebGPU)";
  const orSay = (sentence: string) => (error: unknown): never => {
    console.info(String(error));
    throw new Error(sentence);
  };
  if (engine === "webgpu") {
    const advice = orSay(`WebGPU does not run ${name} here: leave ?engine=webgpu out of the address.`);
    return { config, ...(await start(model, "webgpu", config).catch(advice)), runsOn: onGpu };
  }
  if (engine === "auto" && (await hasGpu())) {
    try {
      return { config, ...(await start(model, "webgpu", config)), runsOn: onGpu };
    } catch (error) {
      console.info(`WebGPU is there but does not run the network, so WebAssembly does: ${error}`);
    }
  }
  const runsOn = threads > 1 ? `the processor (WebAssembly, ${threads} threads)` : "the processor (WebAssembly)";
  const advice = orSay(`${name} does not run here: export it again.`);
  return { config, ...(await start(model, "wasm", config).catch(advice)), runsOn };
}

/** Whether there is a graphics card behind WebGPU and not an imitation of one, which is slower than WebAssembly. */
async function hasGpu(): Promise<boolean> {
  try {
    const gpu = (navigator as { gpu?: { requestAdapter(): Promise<Adapter | null> } }).gpu;
    const adapter = await gpu?.requestAdapter();
    return !!adapter && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
  } catch {
    return false;
  }
}

interface Adapter {
  isFallbackAdapter?: boolean;
  info?: { isFallbackAdapter?: boolean };
}

async function start(model: Uint8Array, provider: "webgpu" | "wasm", config: ModelConfig): Promise<Pick<Opened, "network" | "close">> {
  const session = await ort.InferenceSession.create(model, {
    executionProviders: [provider],
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
  });
  const c = config;
  const network: Network = async (input) => {
    const height = input.template.length && c.template_size;
    const slots = c.templates - (height ? 1 : 0);
    const tokens = slots ? input.memory.length / slots / memoryWidth(c) : keptTokens(c);
    const feeds: Record<string, ort.Tensor> = {
      search: new ort.Tensor("uint8", input.search, [1, c.search_size, c.search_size, 3]),
      template: new ort.Tensor("uint8", input.template, [1, height, c.template_size, 3]),
      memory: new ort.Tensor("float32", input.memory, [1, slots, tokens, memoryWidth(c)]),
    };
    if (input.trajectory) feeds.trajectory = new ort.Tensor("int64", input.trajectory, [1, input.trajectory.length]);
    const out = await session.run(feeds);
    const take = (key: keyof Output): Float32Array => out[key].data as Float32Array;
    return { box: take("box"), logits: take("logits"), saliency: take("saliency"), tokens: take("tokens") };
  };

  // A trial: shaders are compiled now, and a driver that computes nonsense is found out.
  const close = (): Promise<void> => session.release();
  try {
    for (const isNew of rests(c) ? [true, false] : [true]) {
      const { tokens, box } = await network({
        search: new Uint8Array(c.search_size ** 2 * 3),
        template: new Uint8Array(isNew ? c.template_size ** 2 * 3 : 0),
        memory: new Float32Array((c.templates - (isNew ? 1 : 0)) * keptTokens(c) * memoryWidth(c)),
        trajectory: c.trajectory ? new BigInt64Array(4 * c.trajectory) : null,
      });
      if (tokens.length !== (isNew ? templateTokens(c) * memoryWidth(c) : 0) || !box.every(Number.isFinite)) {
        throw new Error("The network's answer makes no sense.");
      }
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { network, close };
}

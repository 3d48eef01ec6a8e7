/** The configuration of a network, read from the metadata of its ONNX file; every size is derived from it. */

export interface ModelConfig {
  name: string;
  depth: number;
  width: number;
  patch: number;
  templates: number;
  template_size: number;
  template_factor: number;
  /** Share of magenta in what a template shows outside of its box; files from before it was thought of have none. */
  template_tint: number;
  /** Mean below which crops are brightened; files from before it was thought of have none. */
  lighten: number;
  search_size: number;
  search_factor: number;
  /** Past boxes fed as coordinate words; 0 for none. */
  trajectory: number;
  bins: number;
  low: number;
  high: number;
  keep: number;
  attention: "joint" | "oneway";
  memory: "linear" | "exponential";
  /** Frames from one new template to the next; files from before it was thought of take one from every frame. */
  update_interval: number;
  withhold: boolean;
  /** Scores from which a box counts at all, and whole; 0 and 0: always whole. */
  doubt: number;
  trust: number;
  /** Frames of which the best score is taken for that. */
  patience: number;
  decoding: "paper" | "release";
  margin: number;
  score_bias: number;
  score_slope: number;
  /** What a changed shape of the box is worth; files from before it was thought of have none. */
  score_shape: number;
  lost_below: number;
}

const NUMBERS = [
  "depth", "width", "patch", "templates", "template_size", "template_factor", "template_tint", "search_size",
  "search_factor", "trajectory", "bins", "low", "high", "keep", "margin", "score_bias", "score_slope", "lost_below",
  "doubt", "trust", "patience", "lighten", "score_shape", "update_interval",
] as const satisfies readonly (keyof ModelConfig)[];

const CHOICES: Partial<Record<keyof ModelConfig, readonly unknown[]>> = {
  attention: ["joint", "oneway"],
  memory: ["linear", "exponential"],
  decoding: ["paper", "release"],
  withhold: [false, true],
};

/** What else a file says: the network in it is built so already. */
const INSIDE = ["name", "heads", "mlp_ratio", "saliency", "block_eps", "final_eps"];

/** What files say that are older than the field. */
const OLDER = {
  template_tint: 0, lighten: 0, withhold: false, doubt: 0, trust: 0, patience: 3, score_shape: 0, update_interval: 1,
};

/** Frames from one new template to the next; 1 with joint attention, where those between would cost as much. */
export const renewal = (c: ModelConfig): number => (c.attention === "oneway" ? c.update_interval : 1);

/** Whether there are frames without a new template, in which the network is given none. */
export const rests = (c: ModelConfig): boolean =>
  c.attention === "oneway" && (c.update_interval > 1 || c.templates === 1);

export const templateTokens = (c: ModelConfig): number => Math.floor(c.template_size / c.patch) ** 2;

/** Tokens of one template after pruning; a template that stays the newest is whole. */
export function keptTokens(c: ModelConfig): number {
  const all = templateTokens(c);
  if (c.templates === 1) return all;
  return Math.max(1, all - Math.floor(all * (1 - c.keep) + 1e-6)); // 1 - 0.8 is 0.19999...
}

/** Numbers remembered of one template token: its embedding, or its key and value in every layer (one-way). */
export const memoryWidth = (c: ModelConfig): number => (c.attention === "oneway" ? 2 * c.depth * c.width : c.width);

export const coordinateWords = (c: ModelConfig): number => Math.round(c.bins * (c.high - c.low));

/** The word after the four commands, which stands for nothing. */
export const paddingWord = (c: ModelConfig): number => coordinateWords(c) + 4;

/** The configuration in an ONNX file, which must have all its tensors in it.
 *
 * onnxruntime-web does not hand out a model's metadata, so the few bytes of protobuf are read here:
 * ModelProto.metadata_props is field 14, its key field 1 and its value field 2.
 */
export function readConfig(onnx: Uint8Array, name: string): ModelConfig {
  const { about, whole } = contents(onnx, name);
  if (!whole) {
    const stem = /^(.+)\.onnx$/i.exec(name)?.[1] ?? "NAME";
    const advice = `make a file of its own with \`fartrack export ${stem} --out ${stem}-whole.onnx\``;
    throw new Error(`${name} reads tensors from files beside it, which a page cannot: ${advice}.`);
  }
  const text = about.get("fartrack");
  if (text === undefined) throw new Error(`${name} is no fartrack model: make one with \`fartrack export\`.`);
  let config: ModelConfig;
  try {
    config = { ...OLDER, ...JSON.parse(text) } as ModelConfig;
  } catch {
    throw new Error(`${name} has a damaged configuration: export it again.`);
  }
  for (const key of NUMBERS) {
    if (typeof config[key] !== "number") throw new Error(`${name} does not say its ${key}: was it written by another fartrack?`);
  }
  for (const [key, value] of Object.entries(config)) {
    const choices = CHOICES[key as keyof ModelConfig];
    if (choices ? choices.includes(value) : [...NUMBERS, ...INSIDE].includes(key)) continue;
    throw new Error(`${name} says ${key} ${JSON.stringify(value)}, which is not known here: was it written by a newer fartrack?`);
  }
  return config;
}

/** A model's metadata, and whether no tensor lies in another file: ModelProto.graph is field 7, its tensors field 5, theirs 13. */
function contents(onnx: Uint8Array, name: string): { about: Map<string, string>; whole: boolean } {
  const about = new Map<string, string>();
  let whole = true;
  const text = new TextDecoder();
  try {
    for (const field of fields(onnx)) {
      if (field.number === 7) {
        for (const part of fields(field.bytes)) {
          if (part.number === 5 && [...fields(part.bytes)].some((f) => f.number === 13)) whole = false;
        }
      }
      if (field.number !== 14) continue;
      const pair = new Map([...fields(field.bytes)].map((f) => [f.number, text.decode(f.bytes)]));
      about.set(pair.get(1) ?? "", pair.get(2) ?? "");
    }
  } catch {
    throw new Error(`${name} is not a whole ONNX model: copy or export it again.`);
  }
  return { about, whole };
}

/** The fields of a protobuf message; only those with bytes carry them. */
function* fields(message: Uint8Array): Generator<{ number: number; bytes: Uint8Array }> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++];
      if (byte === undefined || scale > 2 ** 63) throw new RangeError("cut short");
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    let length = 0;
    switch (tag % 8) {
      case 0: varint(); break;
      case 1: length = 8; break;
      case 2: length = varint(); break;
      case 5: length = 4; break;
      default: throw new RangeError("no protobuf");
    }
    if (at + length > message.length) throw new RangeError("cut short");
    yield { number, bytes: message.subarray(at, at + length) };
    at += length;
  }
}

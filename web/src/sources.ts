/** Where frames come from: a video file, decoded frame by frame and in order, or the webcam. */

import {
  BlobSource, EncodedPacketSink, Input, MATROSKA, MP4, MPEG_TS, QTFF, VideoSampleSink, WEBM,
  type InputVideoTrack, type VideoSample,
} from "mediabunny";
import type { Frame } from "./frames.ts";
import type { Matrix } from "./pixels.ts";

export interface Source {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  /** Frames in the video; null for a webcam, which has no end and cannot go back. */
  readonly count: number | null;
  /** Frames per second, on average. */
  readonly fps: number;
  /** Frame `index`, or null after the last. In order it is fast; elsewhere it is found from the key frame before. */
  read(index: number): Promise<Frame | null>;
  close(): void;
}

/** Where browsers hand out WebCodecs. */
const WITH_CODECS = "over https or on localhost, in a browser with WebCodecs";

/** Open a video file.
 *
 * The container is read here, so every frame's time is known exactly. WebCodecs decodes them; where a browser has
 * none (or on plain http, where it is hidden) a video element is sent to each frame's time instead: slower, and refused
 * at a frame in whose place it shows another one.
 */
export async function openFile(file: Blob, name: string): Promise<Source> {
  const input = new Input({ source: new BlobSource(file), formats: [MP4, QTFF, WEBM, MATROSKA, MPEG_TS] });
  try {
    const track = await videoTrack(input, name);
    const times = await frameTimes(track, name);
    const about = { name, track, times, ...(await sizes(track)) };
    if (await track.canDecode()) {
      const source = new DecodedFile(input, about);
      return source.from(await tried(source)); // FFmpeg leaves out what cannot be decoded at the beginning, too
    }
    const source = await SoughtFile.open(input, file, about);
    await tried(source);
    return source;
  } catch (error) {
    input.dispose();
    throw error;
  }
}

/** Index of the frame that a source gives when it is asked for its first; nothing is shown of one that gives none. */
async function tried(source: Source): Promise<number> {
  try {
    const frame = await source.read(0);
    if (!frame) throw noBeginning(source.name);
    frame.image.close();
    return frame.index;
  } catch (error) {
    source.close();
    throw error;
  }
}

async function videoTrack(input: Input, name: string): Promise<InputVideoTrack> {
  const readable = "MP4, WebM, MOV, MKV and MPEG-TS can be read";
  let track: InputVideoTrack | null;
  try {
    if (!(await input.canRead())) throw new Error();
    track = await input.getPrimaryVideoTrack();
  } catch {
    throw new Error(`${name} is not a video that can be read here, or it is damaged: ${readable}.`);
  }
  if (!track) throw new Error(`${name} holds no video: choose another file (${readable}).`);
  return track;
}

/** Seconds at which each frame is shown, in order.
 *
 * As FFmpeg does it, those are left out that begin before an edit list does or are stored before the first key frame.
 */
async function frameTimes(track: InputVideoTrack, name: string): Promise<number[]> {
  const times: number[] = [];
  let [packets, begun] = [0, false];
  for await (const packet of new EncodedPacketSink(track).packets(undefined, undefined, { metadataOnly: true })) {
    packets += 1;
    begun ||= packet.type === "key";
    if (begun && packet.timestamp > -1e-6) times.push(packet.timestamp);
  }
  if (packets && !begun) throw noBeginning(name);
  if (!times.length) throw new Error(`${name} holds no pictures: choose another video.`);
  return times.sort((a, b) => a - b);
}

async function sizes(track: InputVideoTrack) {
  const [turn, flip] = [await track.getRotation(), await track.getFlip()];
  const [w, h] = [await track.getCodedWidth(), await track.getCodedHeight()];
  const lying = turn % 180 !== 0;
  const coded: string | null | undefined = (await track.getDecoderConfig())?.colorSpace?.matrix;
  const matrix: Matrix = coded === "bt709" ? "bt709" : coded === "bt2020-ncl" ? "bt2020" : "bt601";
  return { turn, flip, width: lying ? h : w, height: lying ? w : h, matrix };
}

interface FileFacts {
  name: string;
  track: InputVideoTrack;
  times: number[];
  width: number;
  height: number;
  turn: Frame["turn"];
  flip: boolean;
  matrix: Matrix;
}

abstract class VideoFile implements Source {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly count: number;
  readonly fps: number;

  constructor(
    protected readonly input: Input,
    protected readonly facts: FileFacts,
  ) {
    const { times } = facts;
    const length = times[times.length - 1] - times[0];
    ({ name: this.name, width: this.width, height: this.height } = facts);
    this.count = times.length;
    this.fps = length > 0 ? (times.length - 1) / length : 30;
  }

  abstract read(index: number): Promise<Frame | null>;

  close(): void {
    this.input.dispose();
  }
}

/** Frames from WebCodecs. */
class DecodedFile extends VideoFile {
  private samples: AsyncGenerator<VideoSample, void, unknown> | null = null;
  private next = -1;

  /** The same frames without the first few. */
  from(index: number): DecodedFile {
    if (!index) return this;
    void this.samples?.return();
    return new DecodedFile(this.input, { ...this.facts, times: this.facts.times.slice(index) });
  }

  async read(index: number): Promise<Frame | null> {
    const { track, times, turn, flip, matrix, name } = this.facts;
    if (index < 0 || index >= times.length) return null;
    try {
      if (index !== this.next || !this.samples) {
        await this.samples?.return();
        this.next = -1;
        this.samples = new VideoSampleSink(track).samples(times[index]);
      }
      for (;;) {
        const { value: sample } = await this.samples.next();
        if (!sample && (index === 0 || index === times.length - 1)) return null;
        if (!sample) throw new Error("it ends too early");
        let at = nearest(times, sample.timestamp);
        if (times[at] === times[this.next]) at = this.next; // of frames with the same time each comes once, in order
        this.next = at + 1;
        if (at < index) {
          sample.close();
          continue;
        }
        const image = sample.toVideoFrame();
        sample.close();
        const { width: w, height: h } = image.visibleRect!;
        const [width, height] = turn % 180 ? [h, w] : [w, h];
        return { index: at, time: times[at] - times[0], image, width, height, turn, flip, matrix };
      }
    } catch {
      this.samples = null;
      throw cannotDecode(name, index, await codecOf(track));
    }
  }

  override close(): void {
    void this.samples?.return();
    super.close();
  }
}

/** Frames from a video element that is sent into each frame's time. */
class SoughtFile extends VideoFile {
  /** The frame that the element shows. */
  private at = -1;

  private constructor(
    input: Input,
    facts: FileFacts,
    private readonly video: HTMLVideoElement,
  ) {
    super(input, facts);
  }

  static async open(input: Input, file: Blob, facts: FileFacts): Promise<SoughtFile> {
    const video = document.createElement("video");
    video.muted = true;
    video.playsInline = true;
    video.preload = "auto";
    video.src = URL.createObjectURL(file);
    const codec = await codecOf(facts.track);
    try {
      await happens(video, "loadeddata");
    } catch {
      URL.revokeObjectURL(video.src);
      throw cannotDecode(facts.name, 0, codec);
    }
    return new SoughtFile(input, facts, video);
  }

  async read(index: number): Promise<Frame | null> {
    const { times, name, track, matrix } = this.facts;
    if (index < 0 || index >= times.length) return null;
    try {
      if (await this.shows(index)) {
        const image = await createImageBitmap(this.video);
        const { width, height } = this;
        return { index, time: times[index] - times[0], image, width, height, turn: 0, flip: false, matrix };
      }
    } catch {
      throw cannotDecode(name, index, await codecOf(track));
    }
    throw new Error(`This browser shows another frame of ${name} in place of frame ${index}: open this page ${WITH_CODECS}.`);
  }

  /** Send the element to a frame; false where it shows another one. */
  private async shows(index: number): Promise<boolean> {
    const { times } = this.facts;
    if (index === this.at) return true; // of a picture that stands already nothing more is heard
    if (times[index - 1] === times[index] || times[index] === times[index + 1]) return false; // nobody can tell which it is
    const until = times[index + 1] ?? times[index] + 1 / this.fps;
    this.at = -1;
    for (const share of [1 / 2, 1 / 4, 3 / 4]) { // now and then nothing is heard
      await visible();
      if (this.video.error) { // it answers no more
        const anew = happens(this.video, "loadeddata");
        this.video.load();
        await anew;
      }
      const there = happens(this.video, "seeked");
      const shown = presented(this.video);
      this.video.currentTime = times[index] + share * (until - times[index]);
      await there;
      const time = await shown;
      if (time === null || (time > times[index] - 1e-5 && time < until - 1e-5)) {
        this.at = index;
        return true;
      }
    }
    return false;
  }

  override close(): void {
    URL.revokeObjectURL(this.video.src);
    this.video.removeAttribute("src");
    this.video.load();
    super.close();
  }
}

/** Time of the next picture that an element shows, which "seeked" comes before; null where the browser does not tell. */
function presented(video: HTMLVideoElement): Promise<number | null> {
  if (!("requestVideoFrameCallback" in video)) return Promise.resolve(null);
  return new Promise((done) => {
    video.requestVideoFrameCallback((_, about) => done(about.mediaTime));
    setTimeout(() => done(NaN), 1000);
  });
}

/** Until the page is in the foreground: in the background no picture is shown. */
async function visible(): Promise<void> {
  while (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

function happens(video: HTMLVideoElement, event: "loadeddata" | "seeked"): Promise<void> {
  const heard = new AbortController();
  const options = { signal: heard.signal };
  return new Promise<void>((done, failed) => {
    video.addEventListener(event, () => done(), options);
    video.addEventListener("error", () => failed(video.error), options);
  }).finally(() => heard.abort());
}

async function codecOf(track: InputVideoTrack): Promise<string> {
  return (await track.getCodec().catch(() => null)) ?? String((await track.getInternalCodecId().catch(() => null)) ?? "unknown");
}

function cannotDecode(name: string, index: number, codec: string): Error {
  if (index > 0) return new Error(`${name} is damaged: frame ${index} cannot be decoded. What was tracked so far is kept.`);
  if (!("VideoDecoder" in globalThis)) { // its containers are fewer, and the codec need not be to blame
    return new Error(`${name} does not play without WebCodecs: open this page ${WITH_CODECS}, or convert it to H.264 in an MP4 file.`);
  }
  return new Error(`This browser cannot decode ${name} (codec ${codec}): convert it to H.264 in an MP4 file.`);
}

function noBeginning(name: string): Error {
  return new Error(`${name} has no key frame that this browser can begin at: convert it to H.264 in an MP4 file.`);
}

/** Index of the time nearest to one, the first where several are the same; decoders round to microseconds. */
function nearest(times: number[], time: number): number {
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < time) low = middle + 1;
    else high = middle;
  }
  if (low > 0 && time - times[low - 1] < times[low] - time) low -= 1;
  while (low > 0 && times[low - 1] === times[low]) low -= 1;
  return low;
}

/** Ask for the webcam (the one that looks away from the visitor, where there are two). */
export async function openWebcam(): Promise<Source> {
  if (!navigator.mediaDevices) {
    throw new Error("The webcam is only given to pages on https or localhost: open this page there.");
  }
  let stream: MediaStream;
  try {
    const video = { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } };
    stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    throw new Error(webcamComplaint(error instanceof DOMException ? error.name : ""));
  }
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.srcObject = stream;
  try {
    await video.play();
  } catch (error) {
    for (const track of stream.getTracks()) track.stop();
    throw new Error(webcamComplaint(error instanceof DOMException ? error.name : ""));
  }
  return new Webcam(stream, video);
}

export function webcamComplaint(name: string): string {
  switch (name) {
    case "NotAllowedError": return "The webcam was refused: allow it in the browser's address bar and try again.";
    case "NotFoundError": return "No webcam was found: plug one in, or drop a video instead.";
    case "NotReadableError": return "The webcam does not start: close other programs that use it and try again.";
    default: return `The webcam does not start${name ? ` (${name})` : ""}: drop a video instead.`;
  }
}

class Webcam implements Source {
  readonly name = "webcam";
  readonly count = null;
  readonly fps: number;
  private readonly begun = performance.now();

  constructor(
    private readonly stream: MediaStream,
    private readonly video: HTMLVideoElement,
  ) {
    this.fps = stream.getVideoTracks()[0]?.getSettings().frameRate ?? 30;
  }

  get width(): number {
    return this.video.videoWidth;
  }

  get height(): number {
    return this.video.videoHeight;
  }

  /** The next picture that the camera takes, under the number that is asked for. */
  async read(index: number): Promise<Frame | null> {
    if (!this.stream.active || this.stream.getVideoTracks().every((track) => track.readyState === "ended")) {
      throw new Error("The webcam went away: plug it in again. What was tracked so far is kept.");
    }
    await new Promise<unknown>((done) => {
      if ("requestVideoFrameCallback" in this.video) this.video.requestVideoFrameCallback(done);
      else requestAnimationFrame(done);
      setTimeout(done, 500); // a page in the background is not called
    });
    const image = await createImageBitmap(this.video);
    const { width, height } = image;
    const time = (performance.now() - this.begun) / 1000;
    return { index, time, image, width, height, turn: 0, flip: false, matrix: "bt601" };
  }

  close(): void {
    for (const track of this.stream.getTracks()) track.stop();
    this.video.srcObject = null;
  }
}

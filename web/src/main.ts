/** The page: buttons, keys and readouts around a session. */

import "./style.css";
import { paintChart } from "./chart.ts";
import type { Box } from "./geometry.ts";
import type { ModelFile } from "./messages.ts";
import type { Engine } from "./network.ts";
import { RemoteTracker } from "./remote.ts";
import { Session } from "./session.ts";
import { openFile, openWebcam, type Source } from "./sources.ts";
import { Stage } from "./stage.ts";
import { csv, type Row } from "./table.ts";

/** Names and sizes of the files that `make web` puts beside the page: see vite.config.ts. */
declare const PACKAGED: Record<"engine" | "model" | "clip" | "about", { file: string; bytes: number }>;

const get = <T extends HTMLElement = HTMLElement>(id: string): T => document.getElementById(id) as T;
const button = (id: string): HTMLButtonElement => get<HTMLButtonElement>(id);
const here = (file: string): string => new URL(file, document.baseURI).href;
const seek = get<HTMLInputElement>("seek");

// The network loads while the visitor looks around.

const total = PACKAGED.engine.bytes + PACKAGED.model.bytes;
let fetched = 0;
const tracker = new RemoteTracker((bytes) => {
  fetched += bytes;
  if (fetched < total) showEngine(`Loading the network: ${Math.floor((100 * fetched) / total)} %`);
  else showEngine("Starting the network …");
});
let running = ""; // what the network runs on
let failure = ""; // why there is none
let ready: Promise<boolean> = openModel({ name: "The model", url: here(PACKAGED.model.file) });

/** Load a model into the worker; false (and a sentence) when that fails. */
async function openModel(from: ModelFile | File): Promise<boolean> {
  const wanted = new URLSearchParams(location.search).get("engine");
  const engine: Engine = wanted === "webgpu" || wanted === "wasm" ? wanted : "auto";
  try {
    const model = from instanceof File ? { name: from.name, bytes: await bytesOf(from) } : from;
    const about = await tracker.open(model, here(PACKAGED.engine.file), engine);
    showEngine((running = `The network (${about.model}) runs on ${about.runsOn}.`));
    document.documentElement.dataset.ready = about.runsOn;
    return true;
  } catch (error) {
    showEngine(running);
    say((failure = `The network does not load: ${sentence(error)}`), true);
    return false;
  }
}

function bytesOf(file: File): Promise<ArrayBuffer> {
  return file.arrayBuffer().catch(() => {
    throw new Error(`${file.name} cannot be read: choose it again.`);
  });
}

function showEngine(text: string): void {
  get("engine").textContent = text;
}

// What the visitor looks at.

let session: Session | null = null;
let resume = false; // whether it was running when a box was begun

const stage = new Stage(get<HTMLCanvasElement>("stage"), {
  begun() {
    resume ||= session?.playing ?? false;
    session?.hold();
    if (stage.draft) say("Arrows move the box, Shift with arrows changes its size, Enter follows it.");
  },
  drawn(box) {
    resume = false;
    void follow(box);
  },
  cancelled() {
    say(session?.head === null ? INVITATION : "");
    if (resume) void session?.play();
    resume = false;
  },
});

const INVITATION = "Draw a box around what to follow.";

async function follow(box: Box, at = session): Promise<void> {
  if (!at) return;
  const on = at.frame?.index; // which may be left before the network is there, or free
  if (!document.documentElement.dataset.ready) say("One moment, the network is still loading …");
  if (!(await ready)) return say(failure, true);
  if (at !== session) return; // another video was opened meanwhile
  say("");
  if (await at.begin(box, on)) await at.play();
  else if (at.live && at.head === null) void at.play(); // back to the preview; the complaint stays
}

let starts = 0;

/** Exchange the video; what fails to open leaves the old one with its results in place. */
async function start(open: () => Promise<Source>): Promise<Session | null> {
  const number = ++starts;
  say("Opening …");
  let source: Source;
  try {
    source = await open();
  } catch (error) {
    if (number === starts) say(sentence(error), true);
    return null;
  }
  if (number !== starts) { // another one was asked for meanwhile
    source.close();
    return null;
  }
  stage.cancel();
  const old = session;
  const mine = (): boolean => session === fresh;
  const fresh = new Session(source, tracker, () => mine() && show(), (text, wrong) => mine() && say(text, wrong));
  session = fresh;
  stage.show(null, new Map()); // before the old one closes the frame that is on it
  void old?.close();
  readChoices();
  get("start").hidden = true;
  get("work").hidden = get("other").hidden = false;
  get("timeline").hidden = fresh.live;
  document.body.dataset.source = fresh.live ? "live" : "file";
  seek.max = String((source.count ?? 1) - 1);
  seek.value = "0";
  if (fresh.live) void fresh.play();
  else await fresh.show(0);
  if (session !== fresh) return null;
  say(INVITATION);
  get("stage").focus({ preventScroll: true });
  return fresh;
}

async function openAny(file: File): Promise<void> {
  if (!/\.onnx$/i.test(file.name)) {
    await start(() => openFile(file, file.name));
    return;
  }
  session?.pause(); // the new model knows nothing of the target
  const before = ready;
  const fresh = openModel(file);
  ready = fresh.then(async (good) => good || before);
  if (await fresh) {
    session?.forget();
    say(`${file.name} is loaded. ${session ? "Draw a box on this frame to follow from here." : ""}`);
  }
}

async function tryIt(): Promise<void> {
  const clip = fetchClip();
  const opened = await start(async () => openFile((await clip).video, "clip.mp4"));
  if (opened) await follow((await clip).box, opened);
}

async function fetchClip(): Promise<{ video: Blob; box: Box }> {
  try {
    const [video, about] = await Promise.all([fetch(here(PACKAGED.clip.file)), fetch(here(PACKAGED.about.file))]);
    if (!video.ok || !about.ok) throw new Error();
    return { video: await video.blob(), box: ((await about.json()) as { box: Box }).box };
  } catch {
    throw new Error("The clip cannot be fetched: check the connection, or drop a video of your own.");
  }
}

let shownAt = 0;
let sliding = 0; // frames that the slider has asked for and that are not there yet

function show(): void {
  if (!session) return;
  const { frame, row, rows, playing, source, live } = session;
  stage.show(frame, rows);
  button("play").textContent = playing ? "Pause" : "Play";
  button("back").disabled = live || !frame || frame.index === 0;
  button("save").disabled = !rows.size;
  const count = source.count;
  get("frame").textContent = frame ? (count ? `${frame.index} of ${count - 1}` : String(frame.index)) : "–";
  get("score").textContent = row ? row.score.toFixed(2) : "–";
  get<HTMLMeterElement>("meter").value = row?.score ?? 0;
  get("box").textContent = row ? row.box.map((v) => Math.round(v)).join(", ") : "–";
  // Milliseconds change too fast to be read; twice a second is enough while it runs.
  if (row?.total && (!playing || performance.now() - shownAt > 500)) {
    shownAt = performance.now();
    get("time").textContent = `${row.total.toFixed(0)} ms, network ${row.network.toFixed(0)}`;
  } else if (!row) get("time").textContent = "–";
  if (frame && count) {
    if (!sliding) seek.value = String(frame.index);
    seek.setAttribute("aria-valuetext", `frame ${frame.index} of ${count - 1}`);
    paintChart(get<HTMLCanvasElement>("chart"), rows, count, frame.index);
  }
}

function say(text: string, wrong = false): void {
  for (const [id, shown] of [["message", session !== null], ["early", session === null]] as const) {
    get(id).textContent = shown ? text : "";
    get(id).classList.toggle("wrong", wrong);
  }
}

const sentence = (error: unknown): string => (error instanceof Error ? error.message : String(error));

// Hands.

/** Tell the session what is ticked. */
function readChoices(): void {
  if (!session) return;
  session.fullSpeed = get<HTMLInputElement>("fast").checked;
  session.seeks = get<HTMLInputElement>("elsewhere").checked;
}

async function toggle(): Promise<void> {
  const running = session?.playing;
  stage.cancel();
  if (!session) return;
  if (running) return session.pause();
  if (session.playing) return; // giving up a box let it run on
  say("");
  const { frame, rows, source } = session;
  const atEnd = frame !== null && frame.index + 1 === source.count;
  if (atEnd && rows.size > 1) await session.show([...rows.keys()].reduce((a, b) => Math.min(a, b))); // from the beginning again
  await session.play();
}

function stepBack(): void {
  if (session?.frame && !session.live) void session.show(session.frame.index - 1);
}

function stepOn(): void {
  say("");
  void session?.step();
}

button("try").addEventListener("click", () => void tryIt());
button("play").addEventListener("click", () => void toggle());
button("back").addEventListener("click", stepBack);
button("step").addEventListener("click", stepOn);
button("draw").addEventListener("click", () => stage.edit());
for (const id of ["fast", "elsewhere"]) get(id).addEventListener("change", readChoices);
seek.addEventListener("input", async () => {
  sliding += 1;
  await session?.show(Number(seek.value));
  sliding -= 1;
  show(); // a frame that a box kept from coming leaves the slider where it was
});
for (const one of document.querySelectorAll<HTMLElement>("[data-do]")) {
  one.addEventListener("click", () => {
    if (one.dataset.do === "choose") get<HTMLInputElement>("file").click();
    else void start(openWebcam);
  });
}
get<HTMLInputElement>("file").addEventListener("change", (event) => {
  const input = event.target as HTMLInputElement;
  const file = input.files?.[0];
  input.value = ""; // the same file may be chosen again
  if (file) void openAny(file);
});

const saved = new WeakSet<Row>();

button("save").addEventListener("click", () => {
  if (!session) return;
  for (const row of session.rows.values()) saved.add(row);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv(session.rows.values())], { type: "text/csv" }));
  link.download = "boxes.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});

window.addEventListener("beforeunload", (event) => {
  if (session && [...session.rows.values()].some((row) => !saved.has(row))) event.preventDefault(); // it asks
});

document.addEventListener("keydown", (event) => {
  if (!session || event.ctrlKey || event.metaKey || event.altKey) return;
  const on = event.target as HTMLElement;
  const pressed = on instanceof HTMLButtonElement || (on instanceof HTMLInputElement && on !== seek) || on.tagName === "SUMMARY";
  if (event.key === " " && !pressed) void toggle();
  else if (event.key === ",") stepBack();
  else if (event.key === ".") stepOn();
  else if (event.key === "b" || event.key === "B") stage.edit();
  else if (event.key === "Escape") stage.cancel();
  else return;
  event.preventDefault();
});

let over = 0;
document.addEventListener("dragenter", () => document.body.classList.toggle("over", ++over > 0));
document.addEventListener("dragleave", () => document.body.classList.toggle("over", --over > 0));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  document.body.classList.remove("over");
  const file = event.dataTransfer?.files[0];
  if (file) void openAny(file);
});
new ResizeObserver(show).observe(get("timeline"));

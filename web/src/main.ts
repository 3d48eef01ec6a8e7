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
import { csv } from "./table.ts";

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
let ready: Promise<boolean> = openModel({ name: "The model", url: here(PACKAGED.model.file) });

/** Load a model into the worker; false (and a sentence) when that fails. */
async function openModel(model: ModelFile): Promise<boolean> {
  const wanted = new URLSearchParams(location.search).get("engine");
  const engine: Engine = wanted === "webgpu" || wanted === "wasm" ? wanted : "auto";
  try {
    const about = await tracker.open(model, here(PACKAGED.engine.file), engine);
    showEngine(`The network (${about.model}) runs on ${about.runsOn}.`);
    document.documentElement.dataset.ready = about.runsOn;
    return true;
  } catch (error) {
    showEngine("");
    say(`The network does not load: ${sentence(error)}`, true);
    return false;
  }
}

function showEngine(text: string): void {
  get("engine").textContent = text;
}

// What the visitor looks at.

let session: Session | null = null;
let resume = false; // whether it was running when a box was begun

const stage = new Stage(get<HTMLCanvasElement>("stage"), {
  begun() {
    resume = session?.playing ?? false;
    session?.pause();
    if (stage.draft) say("Arrows move the box, Shift with arrows changes its size, Enter follows it.");
  },
  drawn: (box) => void follow(box),
  cancelled() {
    if (resume) void session?.play();
    else if (session?.head === null) say(INVITATION);
  },
});

const INVITATION = "Draw a box around what to follow.";

async function follow(box: Box, at = session): Promise<void> {
  if (!at) return;
  if (!document.documentElement.dataset.ready) say("One moment, the network is still loading …");
  if (!(await ready)) return;
  if (at !== session) return; // another video was opened meanwhile
  say("");
  if (await at.begin(box)) await at.play();
  else if (at.live && at.head === null) void at.play(); // back to the preview; the complaint stays
}

/** Exchange the video; what fails to open leaves the old one with its results in place. */
async function start(open: () => Promise<Source>): Promise<Session | null> {
  say("Opening …");
  let source: Source;
  try {
    source = await open();
  } catch (error) {
    say(sentence(error), true);
    return null;
  }
  stage.cancel();
  const old = session;
  session = null;
  stage.show(null, new Map());
  await old?.close();
  const fresh = new Session(source, tracker, () => session === fresh && show(), say);
  session = fresh;
  readChoices();
  get("start").hidden = true;
  get("work").hidden = get("other").hidden = false;
  get("timeline").hidden = fresh.live;
  document.body.dataset.source = fresh.live ? "live" : "file";
  seek.max = String((source.count ?? 1) - 1);
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
  const bytes = await file.arrayBuffer();
  const before = ready;
  const fresh = openModel({ name: file.name, bytes });
  ready = fresh.then(async (good) => good || before);
  if (await fresh) {
    session?.forget();
    say(`${file.name} is loaded. ${session ? "Draw a box on this frame to follow from here." : ""}`);
  }
}

async function tryIt(): Promise<void> {
  let clip: Blob;
  let box: Box;
  try {
    const [video, about] = await Promise.all([fetch(here(PACKAGED.clip.file)), fetch(here(PACKAGED.about.file))]);
    if (!video.ok || !about.ok) throw new Error();
    [clip, box] = [await video.blob(), ((await about.json()) as { box: Box }).box];
  } catch {
    say("The clip cannot be fetched: check the connection, or drop a video of your own.", true);
    return;
  }
  const opened = await start(() => openFile(clip, "clip.mp4"));
  if (opened) await follow(box, opened);
}

let shownAt = 0;

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
    if (document.activeElement !== seek || playing) seek.value = String(frame.index);
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
  stage.cancel();
  if (!session) return;
  if (session.playing) return session.pause();
  say("");
  const { frame, rows, source } = session;
  const atEnd = frame !== null && frame.index + 1 === source.count;
  if (atEnd && rows.size > 1) await session.show(Math.min(...rows.keys())); // from the beginning again
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
seek.addEventListener("input", () => void session?.show(Number(seek.value)));
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

button("save").addEventListener("click", () => {
  if (!session) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv(session.rows.values())], { type: "text/csv" }));
  link.download = "boxes.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});

document.addEventListener("keydown", (event) => {
  if (!session || event.ctrlKey || event.metaKey || event.altKey) return;
  const on = event.target as HTMLElement;
  if (event.key === " " && !(on instanceof HTMLButtonElement || on instanceof HTMLInputElement || on.tagName === "SUMMARY")) void toggle();
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

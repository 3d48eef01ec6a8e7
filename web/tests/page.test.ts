/** The page in headless Chromium, against Python's own results. */

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { chromium, type BrowserContext, type Page } from "playwright-core";
import { iou } from "../src/geometry.ts";
import { boxOf, OUT, reference, type ReferenceRow } from "./reference.ts";

const DIST = resolve("dist");
const PYTHON = process.env.PYTHON ?? "python3";
const PATIENCE = 10 * 60_000; // the machine may be busy
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
];

// Two servers: `fartrack web`, and one that knows nothing of headers, with the page under a sub-path.

let command: ChildProcess;
let home = "";
let plain: Server;
let subpath = "";

before(async () => {
  command = spawn(PYTHON, ["-m", "fartrack.cli.main", "web", "--port", "0"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  home = await new Promise((done, failed) => {
    command.on("exit", () => failed(new Error("fartrack web did not start")));
    command.stdout!.on("data", (data) => {
      const address = /http:\S+/.exec(String(data));
      if (address) done(address[0]);
    });
  });
  const kinds: Record<string, string> = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css" };
  plain = createServer((request, response) => {
    const path = new URL(request.url!, home).pathname;
    try {
      if (!path.startsWith("/some/where/")) throw new Error();
      const file = path.slice("/some/where/".length) || "index.html";
      const body = readFileSync(join(DIST, file));
      response.setHeader("Content-Type", kinds[extname(file)] ?? "application/octet-stream").end(body);
    } catch {
      response.writeHead(404).end();
    }
  }).listen(0, "127.0.0.1");
  await new Promise((done) => plain.once("listening", done));
  subpath = `http://127.0.0.1:${(plain.address() as AddressInfo).port}/some/where/`;
});

after(() => {
  command?.kill("SIGINT");
  plain?.close();
});

interface Visit {
  page: Page;
  context: BrowserContext;
}

interface Wishes {
  address?: string;
  size?: { width: number; height: number };
  touch?: boolean;
  flags?: string[];
  /** Runs in the page before its own scripts. */
  early?: () => void;
  /** Console errors that belong to the test. */
  expected?: RegExp;
  dark?: boolean;
}

/** Open the page in a browser of its own; afterwards its console must be clean and all requests local. */
async function visit(wishes: Wishes, act: (visit: Visit) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "fartrack-web-"));
  const address = wishes.address ?? home;
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [...FLAGS, ...(wishes.flags ?? [])],
    viewport: wishes.size ?? { width: 1100, height: 940 },
    hasTouch: wishes.touch ?? false,
    isMobile: wishes.touch ?? false,
    deviceScaleFactor: wishes.touch ? 2 : 1,
    colorScheme: wishes.dark ? "dark" : "light",
    acceptDownloads: true,
  });
  const wrong: string[] = [];
  try {
    context.setDefaultTimeout(PATIENCE / 2);
    context.setDefaultNavigationTimeout(60_000);
    const page = context.pages()[0] ?? (await context.newPage());
    context.on("console", (message) => {
      if (message.type() !== "error" && message.type() !== "warning") return;
      if (!wishes.expected?.test(message.text())) wrong.push(`console: ${message.text()}`);
    });
    context.on("weberror", (error) => wrong.push(`error: ${error.error()}`));
    context.on("request", (request) => {
      const url = new URL(request.url());
      if (url.protocol !== "blob:" && url.protocol !== "data:" && url.origin !== new URL(address).origin) {
        wrong.push(`request to ${request.url()}`);
      }
    });
    if (wishes.early) await page.addInitScript(wishes.early);
    await page.goto(address);
    await act({ page, context });
  } finally {
    await context.close();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
  assert.deepEqual(wrong, []);
}

const networkIsThere = (page: Page) => page.waitForSelector("html[data-ready]", { state: "attached" });

/** Wait until the message says something. */
async function says(page: Page, what: RegExp): Promise<string> {
  const handle = await page.waitForFunction(
    ([source, flags]) => {
      const texts = ["message", "early"].map((id) => document.getElementById(id)!.textContent ?? "");
      return texts.find((text) => new RegExp(source, flags).test(text)) ?? null;
    },
    [what.source, what.flags],
  );
  return (await handle.jsonValue())!;
}

/** boxes.csv as the visitor downloads it. */
async function download(page: Page): Promise<ReferenceRow[]> {
  const [file] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  assert.equal(file.suggestedFilename(), "boxes.csv");
  const [head, ...lines] = readFileSync((await file.path())!, "utf8").trimEnd().split("\n");
  assert.equal(head, "frame,x,y,w,h,score,found");
  return lines.map((line) => line.split(",").map(Number) as ReferenceRow);
}

/** Mean overlap with Python's boxes over the frames that are there, which must be 0, 1, 2 ... */
function overlap(rows: ReferenceRow[], expected: ReferenceRow[]): number {
  rows.forEach((row, i) => assert.equal(row[0], i, "every frame is there, once"));
  return rows.reduce((sum, row, i) => sum + iou(boxOf(row), boxOf(expected[i])), 0) / rows.length;
}

/** Mean difference of the scores from Python's. */
function apart(rows: ReferenceRow[], expected: ReferenceRow[]): number {
  return rows.reduce((sum, row, i) => sum + Math.abs(row[5] - expected[i][5]), 0) / rows.length;
}

async function frameShown(page: Page): Promise<number> {
  return Number.parseInt((await page.textContent("#frame"))!, 10);
}

const frameIs = (page: Page, at: number) =>
  page.waitForFunction((n) => Number.parseInt(document.getElementById("frame")!.textContent!, 10) >= n, at);

/** Draw a box, given in pixels of the frame, with the mouse. */
async function drag(page: Page, [x, y, w, h]: readonly number[], frameWidth: number): Promise<void> {
  const stage = (await page.locator("#stage").boundingBox())!;
  const scale = stage.width / frameWidth;
  await page.mouse.move(stage.x + x * scale, stage.y + y * scale);
  await page.mouse.down();
  await page.mouse.move(stage.x + (x + w / 2) * scale, stage.y + (y + h / 2) * scale, { steps: 3 });
  await page.mouse.move(stage.x + (x + w) * scale, stage.y + (y + h) * scale, { steps: 3 });
  await page.mouse.up();
}

/** Draw a box of even numbers, given in pixels of a frame of 640 x 480, with the keys. */
async function type(page: Page, [x, y, w, h]: readonly number[]): Promise<void> {
  await page.keyboard.press("b");
  // The first box is the middle quarter: (240, 180, 160, 120), moved and resized by 2 pixels with each press.
  const press = async (key: string, times: number) => {
    for (let i = 0; i < Math.abs(times); i++) await page.keyboard.press(key);
  };
  await press(x > 240 ? "ArrowRight" : "ArrowLeft", Math.round((x - 240) / 2));
  await press(y > 180 ? "ArrowDown" : "ArrowUp", Math.round((y - 180) / 2));
  await press(w > 160 ? "Shift+ArrowRight" : "Shift+ArrowLeft", Math.round((w - 160) / 2));
  await press(h > 120 ? "Shift+ArrowDown" : "Shift+ArrowUp", Math.round((h - 120) / 2));
  await page.keyboard.press("Enter");
}

/** Let it run to a frame and stop there. */
async function runTo(page: Page, frame: number): Promise<void> {
  await frameIs(page, frame);
  if ((await page.textContent("#play")) === "Pause") await page.click("#play");
  await paused(page);
}

/** Until it stands still: the frame that was under way when it was paused is shown as well. */
async function paused(page: Page): Promise<void> {
  await page.waitForFunction(() => document.getElementById("play")!.textContent === "Play");
  for (let before = -1, now = await frameShown(page); now !== before; now = await frameShown(page)) {
    before = now;
    await page.waitForTimeout(1500);
  }
}

test("the folder weighs less than 15 MB", () => {
  const files = readdirSync(DIST, { recursive: true }).map((name) => statSync(join(DIST, String(name))));
  const bytes = files.reduce((sum, file) => sum + (file.isFile() ? file.size : 0), 0);
  console.log(`# ${(bytes / 1e6).toFixed(1)} MB`);
  assert.ok(bytes < 15e6, `${bytes} bytes`);
});

test("the clip is followed as in Python, frame for frame", { timeout: PATIENCE }, async () => {
  await visit({}, async ({ page }) => {
    await networkIsThere(page);
    assert.equal(await page.evaluate(() => crossOriginIsolated), true);
    await page.evaluate(() => {
      const tick = (last: number): void => {
        requestAnimationFrame((now) => {
          const gaps = ((window as { gaps?: number[] }).gaps ??= []);
          gaps.push(now - last);
          tick(now);
        });
      };
      tick(performance.now());
    });
    await page.click("#try");
    await page.check("#fast");
    await says(page, /^Done: 193 frames\.$/);
    const rows = await download(page);
    assert.equal(rows.length, reference.clip.length);
    const mean = overlap(rows, reference.clip);
    const scores = apart(rows, reference.clip);
    const runsOn = await page.getAttribute("html", "data-ready");
    const gaps = (await page.evaluate(() => (window as { gaps?: number[] }).gaps ?? [])).sort((a, b) => a - b);
    console.log(`# mean IoU with Python ${mean.toFixed(4)}, scores differ by ${scores.toFixed(4)}; on ${runsOn}`);
    console.log(`# ${await page.textContent("#time")} for the last frame; the page waits ${gaps[Math.floor(gaps.length * 0.99)].toFixed(0)} ms at the 99th percentile`);
    assert.ok(mean >= 0.95, `mean IoU ${mean}`);
    assert.ok(scores <= 0.02, `scores differ by ${scores}`);

    await page.focus("#seek"); // look at a frame again
    for (let i = 0; i < 3; i++) await page.keyboard.press("PageDown");
    await page.locator("#seek").fill("66");
    await page.waitForFunction(() => document.getElementById("frame")!.textContent!.startsWith("66 "));
    await page.evaluate(() => (document.activeElement as HTMLElement).blur());
    await page.waitForTimeout(300);
    await page.screenshot({ path: process.env.FARTRACK_SCREENSHOT ?? join(OUT, "web.png") });
  });
});

test("under a sub-path, without isolation, it works", { timeout: PATIENCE }, async () => {
  await visit({ address: subpath }, async ({ page }) => {
    await networkIsThere(page);
    assert.equal(await page.evaluate(() => crossOriginIsolated), false);
    await page.click("#try");
    await runTo(page, 12);
    assert.ok(overlap(await download(page), reference.clip) >= 0.95);
  });
});

/** Small copies of what the page shows of the clip's first frames. */
async function pictures(page: Page, count: number): Promise<number[][]> {
  await page.setInputFiles("#file", resolve("../src/fartrack/demo/clip.mp4"));
  await says(page, /Draw a box/);
  const seen: number[][] = [];
  for (let i = 0; i < count; i++) {
    await frameIs(page, i);
    seen.push(
      await page.evaluate(async () => {
        for (let n = 0; n < 3; n++) await new Promise(requestAnimationFrame);
        const pen = new OffscreenCanvas(80, 60).getContext("2d")!;
        pen.drawImage(document.getElementById("stage") as HTMLCanvasElement, 0, 0, 80, 60);
        return [...pen.getImageData(0, 0, 80, 60).data];
      }),
    );
    await page.keyboard.press(".");
  }
  return seen;
}

test("where WebCodecs is missing, the frames are the same, and are followed", { timeout: PATIENCE }, async () => {
  const early = () => {
    delete (window as { VideoDecoder?: unknown }).VideoDecoder;
  };
  const count = 34; // from frame 25 on the bottle moves
  let decoded: number[][] = [];
  await visit({}, async ({ page }) => void (decoded = await pictures(page, count)));
  await visit({ early }, async ({ page }) => {
    const sought = await pictures(page, count);
    const apart = (a: number[], b: number[]): number => a.reduce((sum, v, i) => sum + Math.abs(v - b[i]), 0) / a.length;
    for (let i = 0; i < count; i++) {
      const here = apart(sought[i], decoded[i]);
      assert.ok(here < 0.5, `frame ${i} differs by ${here}`);
      for (const other of [i - 1, i + 1]) {
        if (decoded[other]) assert.ok(here < apart(sought[i], decoded[other]), `frame ${i} is not frame ${other}`);
      }
    }
    await networkIsThere(page);
    await page.click("#other [data-do=choose]", { trial: true });
    await page.locator("#seek").fill("0");
    await page.waitForFunction(() => document.getElementById("frame")!.textContent!.startsWith("0 "));
    await drag(page, boxOf(reference.clip[0]), 640);
    await runTo(page, 6);
    // The browser has converted the colours in its own way, so the boxes are only nearly Python's.
    assert.ok(overlap(await download(page), reference.clip) >= 0.8);
  });
});

test("a video filmed lying down stands upright", { timeout: PATIENCE }, async () => {
  const { rows, size } = reference.turned;
  await visit({}, async ({ page }) => {
    await networkIsThere(page);
    await page.setInputFiles("#file", join(OUT, "turned.mp4"));
    await says(page, /Draw a box/);
    const stage = (await page.locator("#stage").boundingBox())!;
    assert.ok(Math.abs(stage.width / stage.height - size[0] / size[1]) < 0.01, "shown upright");
    await drag(page, boxOf(rows[0]), size[0]);
    await runTo(page, 15);
    const found = await download(page);
    assert.ok(overlap(found.slice(0, rows.length), rows) >= 0.9, `IoU ${overlap(found.slice(0, rows.length), rows)}`);
  });
});

test("a video that an edit list trims begins with the same frame as in Python", { timeout: PATIENCE }, async () => {
  await visit({}, async ({ page }) => {
    await networkIsThere(page);
    await page.setInputFiles("#file", join(OUT, "trimmed.mp4"));
    await says(page, /Draw a box/);
    assert.equal(await page.textContent("#frame"), `0 of ${reference.trimmed.count - 1}`);
    await type(page, boxOf(reference.trimmed.rows[0]));
    await runTo(page, 15);
    const rows = (await download(page)).slice(0, reference.trimmed.rows.length);
    assert.deepEqual(boxOf(rows[0]), boxOf(reference.trimmed.rows[0]));
    const [mean, scores] = [overlap(rows, reference.trimmed.rows), apart(rows, reference.trimmed.rows)];
    console.log(`# mean IoU with Python ${mean.toFixed(4)}, scores differ by ${scores.toFixed(4)}`);
    assert.ok(mean >= 0.95 && scores <= 0.02, `mean IoU ${mean}, scores ${scores}`);
  });
});

test("a recording that begins before its first key frame begins with the same frame as in Python", { timeout: PATIENCE }, async () => {
  await visit({ expected: /VideoDecoder|codec|decod|Mediabunny/i }, async ({ page }) => {
    await page.setInputFiles("#file", join(OUT, "keyless.webm"));
    assert.match(await says(page, /keyless|Draw a box/), /^keyless\.webm has no key frame that this browser can begin at: .*\.$/);
    await page.setInputFiles("#file", join(OUT, "cut.mkv"));
    await says(page, /Draw a box/);
    assert.equal(await page.textContent("#frame"), `0 of ${reference.copies["cut.mkv"] - 1}`);
  });
});

test("of two frames with the same time each is shown, in order and after a seek", { timeout: PATIENCE }, async () => {
  await visit({}, async ({ page }) => {
    await page.setInputFiles("#file", join(OUT, "same.mkv"));
    await says(page, /Draw a box/);
    const last = reference.copies["same.mkv"] - 1;
    for (let i = 0; i <= 6; i++) {
      await page.waitForFunction((text) => document.getElementById("frame")!.textContent === text, `${i} of ${last}`, { timeout: 20_000 });
      await page.keyboard.press(".");
    }
    for (const i of [4, 3]) {
      await page.locator("#seek").fill(String(i));
      await page.waitForFunction((text) => document.getElementById("frame")!.textContent === text, `${i} of ${last}`, { timeout: 20_000 });
    }
  });
});

test("where WebCodecs is missing, a frame that cannot be told from another is refused", { timeout: PATIENCE }, async () => {
  const early = () => {
    delete (window as { VideoDecoder?: unknown }).VideoDecoder;
  };
  await visit({ early }, async ({ page }) => {
    await page.setInputFiles("#file", join(OUT, "same.mkv"));
    await says(page, /Draw a box/);
    await page.locator("#seek").fill("4");
    await says(page, /^This browser shows another frame of same\.mkv in place of frame 4: open this page over https or on localhost.*\.$/);
    await page.locator("#seek").fill("5");
    await frameIs(page, 5);
  });
});

test("WebM with VP9, and keys alone: box, step, play, pause", { timeout: PATIENCE }, async () => {
  await visit({}, async ({ page }) => {
    await networkIsThere(page);
    await page.setInputFiles("#file", join(OUT, "clip.webm"));
    await says(page, /Draw a box/);
    await type(page, boxOf(reference.webm[0]));
    await frameIs(page, 3);
    await page.keyboard.press(" ");
    await paused(page);
    const at = await frameShown(page);
    await page.keyboard.press(".");
    await frameIs(page, at + 1);
    await page.keyboard.press(",");
    await page.waitForFunction((n) => Number.parseInt(document.getElementById("frame")!.textContent!, 10) === n, at);
    const rows = await download(page);
    assert.equal(rows.length, at + 2);
    assert.deepEqual(boxOf(rows[0]), boxOf(reference.webm[0]));
    assert.ok(overlap(rows, reference.webm) >= 0.95, `IoU ${overlap(rows, reference.webm)}`);
  });
});

test("what is lost is looked for in the whole frame as in Python, when that is ticked", { timeout: PATIENCE }, async () => {
  await visit({}, async ({ page }) => {
    await networkIsThere(page);
    await page.setInputFiles("#file", join(OUT, "away.webm"));
    await says(page, /Draw a box/);
    const choice = page.getByLabel("When lost, search the whole frame");
    assert.equal(await choice.isChecked(), false);
    await page.check("#fast");
    await type(page, boxOf(reference.away[0]));
    await says(page, /^Done: 75 frames\.$/);
    const without = await download(page);
    assert.ok(!without.slice(12).some((row) => row[6]), "not found again");

    await choice.check();
    await page.locator("#seek").fill("0");
    await page.waitForFunction(() => document.getElementById("frame")!.textContent!.startsWith("0 "));
    await page.focus("#stage");
    await page.keyboard.press("b"); // the box that was drawn before
    await page.keyboard.press("Enter");
    await says(page, /^Done: 75 frames\.$/);
    const rows = await download(page);
    const [mean, scores] = [overlap(rows, reference.away), apart(rows, reference.away)];
    console.log(`# mean IoU with Python ${mean.toFixed(4)}, scores differ by ${scores.toFixed(4)}`);
    assert.deepEqual(rows.map((row) => row[6]), reference.away.map((row) => row[6]), "found in the same frames");
    assert.ok(rows.length === 75 && rows[74][6] && mean >= 0.95 && scores <= 0.02, `mean IoU ${mean}, scores ${scores}`);
  });
});

test("what cannot be opened is said in one sentence and costs nothing", { timeout: PATIENCE }, async () => {
  await visit({ expected: /VideoDecoder|codec|decod|Mediabunny/i }, async ({ page }) => {
    await page.setInputFiles("#file", join(OUT, "noise.mp4"));
    assert.match(await says(page, /noise\.mp4/), /^noise\.mp4 is not a video that can be read here, or it is damaged: .*\.$/);
    await page.setInputFiles("#file", join(OUT, "mpeg4.mp4"));
    assert.match(await says(page, /mpeg4\.mp4/), /^(This browser cannot decode mpeg4\.mp4|mpeg4\.mp4 is not).*\.$/);
    await networkIsThere(page);

    await page.setInputFiles("#file", join(OUT, "damaged.mp4"));
    await says(page, /Draw a box/);
    await drag(page, boxOf(reference.clip[0]), 640);
    await runTo(page, 4);
    const before = await download(page);

    await drag(page, [100, 100, 2.5, 2.5], 640);
    assert.match(await says(page, /too small/), /^A box of \d × \d pixels is too small to follow: .*\.$/);
    await page.setInputFiles("#file", join(OUT, "noise.mp4"));
    await says(page, /noise\.mp4 is not/);
    await page.setInputFiles("#file", join(OUT, "noise.onnx"));
    assert.match(await says(page, /noise\.onnx/), /^The network does not load: noise\.onnx is not a whole ONNX model.*\.$/);
    assert.match((await page.textContent("#engine"))!, /^The network \(pico\) runs on /, "the old one still does");
    assert.deepEqual(await download(page), before, "nothing tracked is lost");

    await page.check("#fast");
    await page.click("#play");
    await page.waitForFunction((n) => {
      const paused = document.getElementById("play")!.textContent === "Play";
      return paused && Number.parseInt(document.getElementById("frame")!.textContent!, 10) > n;
    }, 4);
    const message = await says(page, /./);
    console.log(`# damaged in the middle: ${message}`);
    const rows = await download(page);
    assert.ok(rows.length > 20, `${rows.length} rows`);
  });
});

test("a model that is not there is one sentence", { timeout: PATIENCE }, async () => {
  const folder = `${subpath}`;
  await visit({ address: home, expected: /404|Failed to load/ }, async ({ page, context }) => {
    await context.route(/model-.*\.onnx$/, (route) => route.fulfill({ status: 404, body: "" }));
    await page.goto(folder);
    const complaint = /^The network does not load: The model cannot be fetched \(the server says 404\)\.$/;
    assert.match(await says(page, /does not load/), complaint);
    await page.setInputFiles("#file", resolve("../src/fartrack/demo/clip.mp4"));
    await says(page, /Draw a box/);
    await drag(page, boxOf(reference.clip[0]), 640);
    await page.waitForTimeout(500);
    assert.match(await says(page, /./), complaint, "said again to whoever draws a box");
  }).catch((error: unknown) => {
    if (!/request to http:\/\/127\.0\.0\.1/.test(String(error))) throw error; // two local servers in one visit
  });
});

test("keys: a box that is given up lets the video run on, and Space works wherever one is", { timeout: PATIENCE }, async () => {
  await visit({}, async ({ page }) => {
    await networkIsThere(page);
    await page.click("#try");
    await frameIs(page, 1);
    const plays = (wanted: boolean) => page.waitForFunction((text) => document.getElementById("play")!.textContent === text, wanted ? "Pause" : "Play", { timeout: 10_000 });
    await page.keyboard.press("b");
    await page.keyboard.press("b"); // out of impatience
    await plays(false);
    await says(page, /^Arrows move/);
    await page.keyboard.press("Escape");
    await plays(true);
    assert.equal(await page.textContent("#message"), "");
    await page.keyboard.press("b");
    await plays(false);
    await page.click("#play");
    await page.waitForTimeout(500);
    await plays(true);
    await page.focus("#seek");
    await page.keyboard.press(" ");
    await plays(false);
    await paused(page);
    await page.keyboard.press(".");
    await page.waitForTimeout(1000);
    assert.equal(await page.inputValue("#seek"), String(await frameShown(page)), "the slider goes with the frame");
  });
});

test("the last video that is asked for is the one that is shown", { timeout: PATIENCE }, async () => {
  const early = () => {
    const devices = navigator.mediaDevices;
    const streams = ((window as { streams?: MediaStream[] }).streams ??= []);
    const ask = devices.getUserMedia.bind(devices);
    devices.getUserMedia = async (wishes) => {
      const stream = await ask(wishes);
      streams.push(stream);
      return stream;
    };
  };
  await visit({ early, flags: ["--use-fake-ui-for-media-stream"] }, async ({ page, context }) => {
    await networkIsThere(page);
    await context.route(/clip-.*\.mp4$/, async (route) => {
      await new Promise((done) => setTimeout(done, 3000));
      await route.continue();
    });
    await page.click("#try");
    await page.setInputFiles("#file", join(OUT, "away.webm"));
    await says(page, /Draw a box/);
    await page.waitForTimeout(4000);
    assert.match((await page.textContent("#frame"))!, / of 74$/);

    await type(page, boxOf(reference.away[0]));
    await frameIs(page, 2);
    await page.evaluate(() => {
      for (let i = 0; i < 3; i++) document.querySelector<HTMLElement>("#other [data-do=webcam]")!.click();
    });
    await page.waitForFunction(() => document.body.dataset.source === "live");
    await page.waitForTimeout(2000);
    const active = await page.evaluate(() => (window as { streams?: MediaStream[] }).streams!.map((stream) => stream.active));
    assert.deepEqual(active, [false, false, true], "cameras that nobody sees are off");
  });
});

test("a webcam that does not play is one sentence, and is off again", { timeout: PATIENCE }, async () => {
  const early = () => {
    const devices = navigator.mediaDevices;
    const ask = devices.getUserMedia.bind(devices);
    devices.getUserMedia = async (wishes) => ((window as { stream?: MediaStream }).stream = await ask(wishes));
    HTMLMediaElement.prototype.play = () => Promise.reject(new DOMException("play() failed", "AbortError"));
  };
  await visit({ early, flags: ["--use-fake-ui-for-media-stream"] }, async ({ page }) => {
    await page.click("#start [data-do=webcam]");
    assert.match(await says(page, /webcam|play/), /^The webcam does not start \(AbortError\): .*\.$/);
    assert.equal(await page.evaluate(() => (window as { stream?: MediaStream }).stream!.active), false);
  });
});

test("another model: while a video runs, one that cannot be read", { timeout: PATIENCE }, async () => {
  await visit({}, async ({ page }) => {
    await networkIsThere(page);
    await page.click("#try");
    await frameIs(page, 2);
    await page.setInputFiles("#file", process.env.FARTRACK_MODEL!);
    await says(page, /is loaded|nothing to follow/);
    await page.waitForTimeout(1000);
    assert.match(await says(page, /./), /^.*\.onnx is loaded\. Draw a box on this frame to follow from here\.$/);
    await page.evaluate(() => {
      const file = new File([], "gone.onnx");
      file.arrayBuffer = () => Promise.reject(new DOMException("not found", "NotFoundError"));
      document.dispatchEvent(Object.assign(new Event("drop"), { dataTransfer: { files: [file] } }));
    });
    assert.match(await says(page, /gone/), /^The network does not load: gone\.onnx cannot be read.*\.$/);
    await page.setInputFiles("#file", resolve("../src/fartrack/weights/nano.onnx"));
    assert.match(await says(page, /nano/), /^The network does not load: nano\.onnx reads tensors from files beside it.*\.$/);
  });
});

test("what the engine refuses is one sentence with a way out", { timeout: PATIENCE }, async () => {
  await visit({ expected: /./ }, async ({ page }) => {
    await networkIsThere(page);
    const model = readFileSync(process.env.FARTRACK_MODEL!, "latin1");
    const other = model.replace(/("template_size": *)(\d)/, (_, key: string, digit: string) => key + (digit === "1" ? 3 : 1));
    assert.notEqual(other, model);
    await page.setInputFiles("#file", { name: "other.onnx", mimeType: "", buffer: Buffer.from(other, "latin1") });
    assert.equal(await says(page, /load/), "The network does not load: other.onnx does not run here: export it again.");
    await page.goto(`${home}?engine=webgpu`);
    assert.match(await says(page, /load/), /^The network does not load: .*: leave \?engine=webgpu out of the address\.$/);
  });
});

test("where WebCodecs is missing, a video that does not play is not said to need another codec", { timeout: PATIENCE }, async () => {
  const early = () => {
    delete (window as { VideoDecoder?: unknown }).VideoDecoder;
  };
  await visit({ early, expected: /./ }, async ({ page }) => {
    await page.setInputFiles("#file", join(OUT, "mpeg4.mp4"));
    assert.match(await says(page, /mpeg4/), /^mpeg4\.mp4 does not play without WebCodecs: open this page over https or on localhost.*\.$/);
  });
});

test("where WebCodecs is missing, a damaged video does not hang the page", { timeout: PATIENCE }, async () => {
  const early = () => {
    delete (window as { VideoDecoder?: unknown }).VideoDecoder;
  };
  await visit({ early, expected: /./ }, async ({ page }) => {
    await page.setInputFiles("#file", join(OUT, "damaged.mp4"));
    await says(page, /Draw a box/);
    for (const frame of [150, 160]) {
      await page.locator("#seek").fill(String(frame));
      await says(page, new RegExp(`frame ${frame} cannot be decoded`));
    }
    await page.locator("#seek").fill("3");
    await page.waitForFunction(() => document.getElementById("frame")!.textContent!.startsWith("3 "), null, { timeout: 30_000 });
    await page.setInputFiles("#file", join(OUT, "clip.webm"));
    await page.waitForFunction(() => / of 24$/.test(document.getElementById("frame")!.textContent!), null, { timeout: 30_000 });
  });
});

test("a second finger changes nothing of a box that is being drawn", { timeout: PATIENCE }, async () => {
  await visit({ size: { width: 390, height: 844 }, touch: true }, async ({ page, context }) => {
    await networkIsThere(page);
    await page.setInputFiles("#file", resolve("../src/fartrack/demo/clip.mp4"));
    await says(page, /Draw a box/);
    const stage = (await page.locator("#stage").boundingBox())!;
    const finger = await context.newCDPSession(page);
    const touch = (type: "touchStart" | "touchMove" | "touchEnd", ...at: [number, number][]) =>
      finger.send("Input.dispatchTouchEvent", { type, touchPoints: at.map(([x, y], id) => ({ x: stage.x + x, y: stage.y + y, id })) });
    await touch("touchStart", [80, 50]);
    await touch("touchMove", [180, 150]);
    await touch("touchStart", [180, 150], [300, 240]);
    await touch("touchMove", [180, 150], [320, 250]);
    await page.waitForTimeout(500);
    assert.equal(await page.isDisabled("#save"), true, "not drawn yet");
    await touch("touchEnd");
    await runTo(page, 1);
    const scale = 640 / stage.width;
    const [x, y, w, h] = boxOf((await download(page))[0]);
    for (const [value, wanted] of [[x, 80], [y, 50], [w, 100], [h, 100]]) assert.ok(Math.abs(value - wanted * scale) < 2 * scale, `${value}`);
  });
});

test("a box drawn while the network loads belongs to the frame that it was drawn on", { timeout: PATIENCE }, async () => {
  await visit({}, async ({ page, context }) => {
    await context.route(/model-.*\.onnx$/, async (route) => {
      await new Promise((done) => setTimeout(done, 8000));
      await route.continue();
    });
    await page.goto(home);
    await page.setInputFiles("#file", resolve("../src/fartrack/demo/clip.mp4"));
    await says(page, /Draw a box/);
    await drag(page, boxOf(reference.clip[0]), 640);
    await says(page, /^One moment/);
    await page.keyboard.press(".");
    await frameIs(page, 1);
    await page.keyboard.press(".");
    await frameIs(page, 2);
    await networkIsThere(page);
    await runTo(page, 4);
    assert.ok(overlap(await download(page), reference.clip) >= 0.95);
  });
});

test("results that were not downloaded are not closed without a question", { timeout: PATIENCE }, async () => {
  await visit({}, async ({ page }) => {
    let asked = 0;
    page.on("dialog", (dialog) => {
      asked += 1;
      void dialog.dismiss();
    });
    const close = async () => {
      await page.close({ runBeforeUnload: true });
      await new Promise((done) => setTimeout(done, 2000));
    };
    await networkIsThere(page);
    await page.setInputFiles("#file", resolve("../src/fartrack/demo/clip.mp4"));
    await says(page, /Draw a box/);
    await drag(page, boxOf(reference.clip[0]), 640);
    await runTo(page, 2);
    await close();
    assert.deepEqual([asked, page.isClosed()], [1, false]);
    await download(page);
    await close();
    assert.deepEqual([asked, page.isClosed()], [1, true]);
  });
});

test("a refused webcam is one sentence", { timeout: PATIENCE }, async () => {
  await visit({ flags: ["--deny-permission-prompts"] }, async ({ page }) => {
    await page.click("#start [data-do=webcam]");
    assert.match(await says(page, /webcam/i), /^The webcam was refused: .*\.$/);
  });
});

test("the webcam, on a phone, with a finger", { timeout: PATIENCE }, async () => {
  const size = { width: 390, height: 844 };
  await visit({ size, touch: true, flags: ["--use-fake-ui-for-media-stream"] }, async ({ page, context }) => {
    await networkIsThere(page);
    await page.click("#start [data-do=webcam]");
    await says(page, /Draw a box/);
    await page.waitForFunction(() => document.getElementById("frame")!.textContent === "0");
    const stage = (await page.locator("#stage").boundingBox())!;
    const finger = await context.newCDPSession(page);
    const touch = (type: "touchStart" | "touchMove" | "touchEnd", at?: [number, number]) =>
      finger.send("Input.dispatchTouchEvent", { type, touchPoints: at ? [{ x: stage.x + at[0], y: stage.y + at[1] }] : [] });
    await touch("touchStart", [80, 50]);
    await touch("touchMove", [120, 90]);
    await touch("touchMove", [180, 150]);
    await touch("touchEnd");
    await runTo(page, 4);
    const rows = await download(page);
    rows.forEach((row, i) => assert.equal(row[0], i));
    assert.ok(rows.length >= 5);
    assert.equal(await page.isVisible("#timeline"), false);
  });
});

test("on a phone nothing sticks out", { timeout: PATIENCE }, async () => {
  await visit({ size: { width: 360, height: 740 }, touch: true, dark: true }, async ({ page }) => {
    await networkIsThere(page);
    const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= screen.width);
    assert.ok(await fits());
    await page.screenshot({ path: join(OUT, "phone-start.png"), fullPage: true });
    await page.tap("#try");
    await runTo(page, 14);
    assert.ok(await fits());
    await page.waitForTimeout(300);
    await page.screenshot({ path: join(OUT, "phone.png"), fullPage: true });
    for (const name of ["play", "step", "draw", "save"]) {
      const size = (await page.locator(`#${name}`).boundingBox())!;
      assert.ok(size.height >= 40, `${name} is large enough for a finger`);
    }
  });
});

const SELECT = `
import sys, numpy
from fartrack.video.select import select_box
frame = numpy.zeros((int(sys.argv[2]), int(sys.argv[1]), 3), "u1")
print(*select_box(frame, say=lambda line: print(line, flush=True), browse=False))
`;

/** The box that is drawn on the page of \`--select\`; \`act\` is given places on the screen for those in the frame. */
async function select(
  size: [number, number], wishes: Wishes, act: (visit: Visit, at: (x: number, y: number) => [number, number]) => Promise<void>,
): Promise<number[]> {
  const python = spawn(PYTHON, ["-c", SELECT, ...size.map(String)], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    let printed = "";
    const address = await new Promise<string>((done, failed) => {
      python.on("exit", () => failed(new Error("the page was not served")));
      python.stdout.on("data", (data) => {
        const found = /http:\S+/.exec((printed += data));
        if (found) done(found[0]);
      });
    });
    const ended = new Promise((done) => python.on("close", done));
    await visit({ ...wishes, address }, async (there) => {
      const canvas = there.page.locator("#canvas");
      const view = (await canvas.boundingBox())!;
      await act(there, (x, y) => [view.x + (x * view.width) / size[0], view.y + (y * view.height) / size[1]]);
      await there.page.keyboard.press("Enter");
      await there.page.getByText("You can close this page").waitFor();
    });
    await ended;
    return printed.trim().split("\n").at(-1)!.split(" ").map(Number);
  } finally {
    python.kill();
  }
}

const nearBox = (box: number[], wanted: number[], bound: number): void =>
  wanted.forEach((value, i) => assert.ok(Math.abs(box[i] - value) <= bound, `${box} is not ${wanted}`));

for (const [frame, box, further] of [
  [[64, 48], [20, 16, 16, 12], 8],
  [[4000, 3000], [2000, 1000, 80, 80], 400],
  [[200, 3000], [50, 1000, 60, 80], 70],
] as const) {
  test(`--select: in a frame of ${frame.join(" × ")} a box is drawn, and moved by its inside`, { timeout: PATIENCE }, async () => {
    const [x, y, w, h] = box;
    let pixel = 0;
    const drawn = await select([...frame], {}, async ({ page }, at) => {
      const view = (await page.locator("#canvas").boundingBox())!;
      pixel = frame[0] / view.width;
      assert.ok(Math.abs(view.width / view.height / (frame[0] / frame[1]) - 1) < 0.02, "as wide and high as the frame is");
      assert.ok(view.width > 1000 || view.height > 600, `${view.width} × ${view.height} is all the room there is`);
      for (const [from, to] of [[at(x, y), at(x + w, y + h)], [at(x + w / 2, y + h / 2), at(x + w / 2 + further, y + h / 2)]]) {
        await page.mouse.move(...from);
        await page.mouse.down();
        await page.mouse.move(...to, { steps: 3 });
        await page.mouse.up();
      }
    });
    nearBox(drawn, [x + further, y, w, h], 2 * pixel);
  });
}

test("--select: a second finger changes nothing of the box that is being drawn", { timeout: PATIENCE }, async () => {
  const size = { width: 700, height: 640 };
  const drawn = await select([640, 480], { size, touch: true }, async ({ page, context }, at) => {
    const finger = await context.newCDPSession(page);
    const touch = (type: "touchStart" | "touchMove" | "touchEnd", ...to: [number, number][]) =>
      finger.send("Input.dispatchTouchEvent", {
        type, touchPoints: to.map((place, id) => ({ x: at(...place)[0], y: at(...place)[1], id })),
      });
    await touch("touchStart", [100, 100]);
    await touch("touchMove", [300, 250]);
    await touch("touchStart", [300, 250], [600, 450]);
    await touch("touchMove", [300, 250], [610, 455]);
    await touch("touchMove", [330, 280]); // the first one goes on, alone
    await touch("touchEnd");
  });
  nearBox(drawn, [100, 100, 230, 180], 3);
});

if (process.env.FARTRACK_WEBGPU) {
  const flags = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan", "--ignore-gpu-blocklist"];
  test("WebGPU computes the same (imitated on the processor: minutes)", { timeout: 3 * PATIENCE }, async () => {
    await visit({ address: `${home}?engine=webgpu`, flags, expected: /./ }, async ({ page }) => {
      page.setDefaultTimeout(2 * PATIENCE);
      await networkIsThere(page);
      await page.click("#try");
      await runTo(page, 2);
      const mean = overlap(await download(page), reference.clip);
      console.log(`# mean IoU with Python ${mean.toFixed(4)} on ${await page.getAttribute("html", "data-ready")}`);
      assert.ok(mean >= 0.95);
    });
  });
}

/** The session: nothing tracked is lost, whatever fails. */

import assert from "node:assert/strict";
import test from "node:test";
import type { Frame } from "../src/frames.ts";
import type { Box } from "../src/geometry.ts";
import { Session, type Follower } from "../src/session.ts";
import type { Source } from "../src/sources.ts";

const BOX: Box = [10, 10, 20, 20];

/** Frames that count how many of them are still open. */
class FakeSource implements Source {
  readonly name = "fake";
  readonly width = 64;
  readonly height = 48;
  readonly fps = 1e6;
  open = 0;
  reads = 0;
  /** From which frame on they are larger. */
  growsAt = Infinity;

  constructor(
    readonly count: number | null,
    private readonly breaksAt = Infinity,
  ) {}

  async read(index: number): Promise<Frame | null> {
    this.reads += 1;
    if (index >= this.breaksAt) throw new Error(`frame ${index} cannot be decoded.`);
    if (this.count !== null && index >= this.count) return null;
    this.open += 1;
    const image = { close: () => void (this.open -= 1) } as ImageBitmap;
    const [width, height] = index < this.growsAt ? [64, 48] : [96, 72];
    return { index, time: index, image, width, height, turn: 0, flip: false, matrix: "bt601" };
  }

  close(): void {}
}

/** Moves one pixel to the right per frame. */
class FakeFollower implements Follower {
  box: Box = BOX;
  updates = 0;
  breaksAt = Infinity;
  private width = 0;
  readonly seeks: boolean[] = [];
  /** Frames that boxes were given on. */
  readonly begun: number[] = [];

  async init(frame: Frame, box: Box): Promise<void> {
    this.box = box;
    this.begun.push(frame.index);
    this.width = frame.width;
  }

  async update(frame: Frame, seeks: boolean) {
    if (frame.index >= this.breaksAt) throw new Error("the network broke.");
    if (frame.width !== this.width) throw new Error("another size.");
    this.seeks.push(seeks);
    this.updates += 1;
    this.box = [this.box[0] + 1, ...this.box.slice(1)] as unknown as Box;
    return { box: this.box, score: 0.9, found: true, network: 1, total: 2 };
  }
}

function make(source: FakeSource) {
  const follower = new FakeFollower();
  const said: [string, boolean][] = [];
  const session = new Session(source, follower, () => {}, (text, wrong) => void said.push([text, wrong]));
  session.fullSpeed = true;
  return { session, follower, said, source };
}

test("a file is followed to its end, every frame once", async () => {
  const { session, follower, said, source } = make(new FakeSource(8));
  await session.show(0);
  assert.ok(await session.begin(BOX));
  await session.play();
  assert.deepEqual([...session.rows.keys()], [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.deepEqual(session.rows.get(0), { frame: 0, box: BOX, score: 1, found: true, network: 0, total: 0 });
  assert.equal(session.rows.get(7)?.box[0], 17);
  assert.equal(follower.updates, 7);
  assert.equal(session.playing, false);
  assert.deepEqual(said, [["Done: 8 frames.", false]]);
  assert.equal(source.open, 1, "only the frame on the page is open");
});

test("going back shows again and does not track again", async () => {
  const { session, follower } = make(new FakeSource(8));
  await session.show(0);
  await session.begin(BOX);
  await session.step();
  await session.step();
  await session.step();
  await session.show(1);
  assert.equal(session.row?.box[0], 11);
  await session.step();
  assert.equal(follower.updates, 3);
  assert.equal(session.frame?.index, 2);
  await session.play();
  assert.equal(follower.updates, 7);
});

test("a box drawn anew goes on from there and keeps what lies before", async () => {
  const { session } = make(new FakeSource(8));
  await session.show(0);
  await session.begin(BOX);
  await session.play();
  await session.show(4);
  await session.begin([30, 5, 9, 9]);
  await session.step();
  assert.equal(session.rows.get(3)?.box[0], 13);
  assert.equal(session.rows.get(5)?.box[0], 31);
  assert.equal(session.rows.get(6)?.box[0], 16, "replaced only when it is tracked again");
  await session.play();
  assert.equal(session.rows.get(7)?.box[0], 33);
});

test("without a box there is nothing to play", async () => {
  const { session, said } = make(new FakeSource(8));
  await session.show(3);
  await session.play();
  assert.equal(session.frame?.index, 3);
  assert.match(said[0][0], /Draw a box on this frame/);
  await session.step(); // but one may look for the frame to begin with
  assert.equal(session.frame?.index, 4);
  assert.equal(session.rows.size, 0);
  await session.show(7);
  await session.step();
  assert.match(said[1][0], /last frame/);
});

test("a box of two pixels changes nothing", async () => {
  const { session, said } = make(new FakeSource(8));
  await session.show(0);
  await session.begin(BOX);
  await session.step();
  assert.equal(await session.begin([5, 5, 2, 2]), false);
  assert.match(said[0][0], /2 × 2 pixels/);
  assert.equal(session.head, 1);
  assert.equal(session.rows.size, 2);
  await session.step();
  assert.equal(session.rows.size, 3);
});

/** Let what is under way come as far as it can. */
const settled = () => new Promise((done) => setTimeout(done, 5));

for (const count of [8, null]) {
  test(`while a ${count ? "video" : "webcam"} runs, a box stays on the picture that it was drawn on`, async () => {
    const { session, follower, source } = make(new FakeSource(count));
    if (count) await session.show(0);
    else await session.step();
    await session.begin(BOX);
    await session.step();
    let release = (): void => {};
    follower.update = () => new Promise((done) => (release = () => done({ box: BOX, score: 0.9, found: true, network: 1, total: 2 })));
    void session.play();
    await settled(); // frame 2 is with the tracker
    session.hold();
    const picture = session.frame;
    assert.equal(picture?.index, 1);
    const begun = session.begin([30, 5, 9, 9], picture.index);
    release();
    assert.ok(await begun);
    assert.equal(session.frame, picture);
    assert.deepEqual(follower.begun, [0, 1]);
    assert.deepEqual(session.rows.get(1)?.box, [30, 5, 9, 9]);
    assert.equal(source.open, 1);
    if (!count) assert.equal(session.rows.has(2), false, "what was seen on a picture that nobody saw");
  });
}

test("a frame that the slider asked for does not come beneath a box that is being drawn", async () => {
  const { session, follower, source } = make(new FakeSource(8));
  await session.show(0);
  for (const early of [false, true]) {
    const asked = session.show(5);
    if (early) await Promise.resolve(); // it is being read already
    session.hold();
    await asked;
    assert.equal(session.frame?.index, 0);
  }
  const left = session.show(5);
  assert.ok(await session.begin(BOX, 0));
  await left;
  assert.deepEqual([follower.begun, [...session.rows.keys()], source.open], [[0], [0], 1]);
});

test("a frame that was left before its box comes to the tracker is shown again", async () => {
  const { session, follower } = make(new FakeSource(8));
  await session.show(2);
  await session.show(3);
  assert.ok(await session.begin(BOX, 2));
  assert.deepEqual([follower.begun, session.frame?.index, [...session.rows.keys()]], [[2], 2, [2]]);
});

for (const what of ["decoder", "network"]) {
  test(`when the ${what} breaks, what was tracked is kept and the frame stays`, async () => {
    const { session, follower, said, source } = make(new FakeSource(8, what === "decoder" ? 5 : Infinity));
    if (what === "network") follower.breaksAt = 5;
    await session.show(0);
    await session.begin(BOX);
    await session.play();
    assert.deepEqual([...session.rows.keys()], [0, 1, 2, 3, 4]);
    assert.equal(session.frame?.index, 4);
    assert.equal(session.playing, false);
    assert.equal(said.length, 1);
    assert.equal(said[0][1], true);
    assert.equal(source.open, 1);
    follower.breaksAt = Infinity;
    if (what === "network") {
      await session.play();
      assert.equal(session.rows.size, 8);
    }
  });
}

test("the webcam is seen before a box is drawn, and counted from there", async () => {
  const { session } = make(new FakeSource(null));
  const preview = session.play();
  while (session.frame === null || (session.source as FakeSource).reads < 5) await new Promise((done) => setTimeout(done, 1));
  session.pause();
  await preview;
  assert.equal(session.frame.index, 0);
  assert.equal(session.rows.size, 0);
  await session.begin(BOX);
  await session.step();
  await session.step();
  assert.deepEqual([...session.rows.keys()], [0, 1, 2]);
});

test("a webcam is seen without a box after the tracker was exchanged, and what was tracked stays", async () => {
  const { session, said, source } = make(new FakeSource(null));
  await session.step();
  await session.begin(BOX);
  await session.step();
  session.forget();
  for (let i = 0; i < 3; i++) {
    await session.step();
    assert.deepEqual([session.frame?.index, session.row], [2, undefined]);
  }
  assert.equal(source.reads, 5);
  await session.begin([30, 5, 9, 9]);
  assert.deepEqual([...session.rows.values()].map((row) => row.box[0]), [10, 11, 30]);
  assert.deepEqual(said, []);
});

test("a forgetful tracker wants a new box", async () => {
  const { session, said } = make(new FakeSource(8));
  await session.show(0);
  await session.begin(BOX);
  await session.step();
  session.forget();
  await session.play();
  assert.match(said[0][0], /Draw a box on this frame/);
  assert.equal(session.rows.size, 2);
});

test("from the next frame on it is looked for in the whole frame, or no more", async () => {
  const { session, follower } = make(new FakeSource(8));
  await session.show(0);
  await session.begin(BOX);
  for (const seeks of [false, true, true, false]) {
    if (seeks !== session.seeks) session.seeks = seeks;
    await session.step();
  }
  assert.deepEqual(follower.seeks, [false, true, true, false]);
});

for (const count of [8, null]) {
  test(`where the ${count ? "video" : "webcam"} changes its size, a box on the new picture goes on`, async () => {
    const { session, said, source } = make(new FakeSource(count));
    source.growsAt = 3;
    if (count) await session.show(0);
    else await session.step();
    await session.begin(BOX);
    await session.play();
    assert.deepEqual(said, [["The picture is now 96 × 72, it was 64 × 48: draw the box again.", true]]);
    assert.deepEqual([session.frame?.index, session.frame?.width, session.playing], [3, 96, false]);
    assert.deepEqual([...session.rows.keys()], [0, 1, 2]);
    await session.begin(BOX);
    await session.step();
    assert.deepEqual([...session.rows.keys()], [0, 1, 2, 3, 4]);
    assert.equal(source.open, 1);
  });
}

test("of the frames that a slider asks for while one is read, only the last is read", async () => {
  const { session, source } = make(new FakeSource(200));
  await Promise.all(Array.from({ length: 100 }, (_, i) => session.show(i)));
  assert.equal(session.frame?.index, 99);
  assert.ok(source.reads <= 2, `${source.reads} reads`);
});

test("at full speed no timer is waited for: those of a page in the background ring once a minute", async (context) => {
  const { session } = make(new FakeSource(8));
  await session.show(0);
  await session.begin(BOX);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  await session.play();
  assert.equal(session.rows.size, 8);
});

test("in the background no timer is waited for at any speed", async (context) => {
  const { session, source } = make(new FakeSource(8));
  Object.defineProperty(source, "fps", { value: 25 });
  session.fullSpeed = false;
  const page = globalThis as { document?: unknown };
  page.document = { hidden: true };
  context.after(() => delete page.document);
  await session.show(0);
  await session.begin(BOX);
  const begun = performance.now();
  await session.play();
  assert.ok(performance.now() - begun < 140, "not one frame per timer");
  assert.equal(session.rows.size, 8);
});

test("closing lets go of the frame", async () => {
  const { session, source } = make(new FakeSource(8));
  await session.show(2);
  await session.close();
  assert.equal(source.open, 0);
});

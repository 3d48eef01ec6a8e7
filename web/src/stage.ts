/** The picture with what was found on it, and the drawing of a box with mouse, finger or keys. */

import { paint, type Frame } from "./frames.ts";
import { SMALLEST_SIDE, type Box } from "./geometry.ts";
import type { Row } from "./table.ts";

export const FOUND = "#28dc50";
export const LOST = "#ff7828";
const TRAIL = 60;

export interface Hands {
  /** A box is being drawn now: hold the picture. */
  begun(): void;
  drawn(box: Box): void;
  /** It was a mere tap, or Escape. */
  cancelled(): void;
}

type Point = [x: number, y: number];

export class Stage {
  /** The box that is being drawn, if one is. */
  draft: Box | null = null;
  private drag: { pointer: number; from: Point; onScreen: Point } | null = null;
  private frame: Frame | null = null;
  private rows: ReadonlyMap<number, Row> = new Map();
  private readonly pen: CanvasRenderingContext2D;
  private asked = false;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly hands: Hands,
  ) {
    this.pen = canvas.getContext("2d", { alpha: false })!;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.draws(event) && this.release());
    canvas.addEventListener("pointercancel", (event) => this.draws(event) && this.cancel());
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  show(frame: Frame | null, rows: ReadonlyMap<number, Row>): void {
    this.frame = frame;
    this.rows = rows;
    if (frame) this.canvas.style.setProperty("--aspect", String(frame.width / frame.height));
    this.redraw();
  }

  /** Begin a box with the keyboard: the one of this frame, or one in the middle. */
  edit(): void {
    const frame = this.frame;
    if (!frame) return;
    const [w, h] = [frame.width, frame.height];
    this.draft = this.rows.get(frame.index)?.box ?? [w * 0.375, h * 0.375, w / 4, h / 4];
    this.canvas.focus();
    this.hands.begun();
    this.redraw();
  }

  cancel(): void {
    if (!this.draft && !this.drag) return;
    this.draft = this.drag = null;
    this.hands.cancelled();
    this.redraw();
  }

  /** Pixels of the frame per pixel of the screen. */
  private get scale(): number {
    return this.frame ? this.frame.width / this.canvas.getBoundingClientRect().width : 1;
  }

  private at(event: PointerEvent): Point {
    const view = this.canvas.getBoundingClientRect();
    const { width, height } = this.frame!;
    return [
      clamp(((event.clientX - view.left) * width) / view.width, 0, width),
      clamp(((event.clientY - view.top) * height) / view.height, 0, height),
    ];
  }

  private press(event: PointerEvent): void {
    if (!this.frame || event.button !== 0 || !event.isPrimary) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.draft = null;
    this.drag = { pointer: event.pointerId, from: this.at(event), onScreen: [event.clientX, event.clientY] };
    this.hands.begun();
  }

  /** Whether it is the finger that draws, and not a second one. */
  private draws(event: PointerEvent): boolean {
    return this.drag?.pointer === event.pointerId;
  }

  private move(event: PointerEvent): void {
    if (!this.drag || !this.frame || !this.draws(event)) return;
    const [x, y] = this.drag.onScreen;
    if (!this.draft && Math.hypot(event.clientX - x, event.clientY - y) < 2) return; // a tap that trembles
    const [x0, y0] = this.drag.from;
    const [x1, y1] = this.at(event);
    this.draft = [Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)];
    this.redraw();
  }

  private release(): void {
    if (!this.drag) return;
    this.drag = null;
    if (this.draft) this.confirm();
    else this.hands.cancelled();
  }

  private confirm(): void {
    const box = this.draft!;
    this.draft = null;
    this.redraw();
    this.hands.drawn(box);
  }

  private key(event: KeyboardEvent): void {
    if (!this.draft || !this.frame || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") this.confirm();
    else if (event.key === "Escape") this.cancel();
    else if (event.key in STEPS) {
      const { width, height } = this.frame;
      const size = Math.max(1, Math.round(Math.min(width, height) / 200)) * (event.repeat ? 3 : 1);
      const [dx, dy] = STEPS[event.key].map((v) => v * size);
      const [x, y, w, h] = this.draft;
      this.draft = event.shiftKey
        ? [x, y, clamp(w + dx, SMALLEST_SIDE, width - x), clamp(h + dy, SMALLEST_SIDE, height - y)]
        : [clamp(x + dx, 0, width - w), clamp(y + dy, 0, height - h), w, h];
      this.redraw();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Paint before the screen is next refreshed. */
  redraw(): void {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
    });
  }

  private paint(): void {
    const { canvas, pen, frame } = this;
    const view = canvas.getBoundingClientRect();
    if (!frame || !view.width) return;
    const dots = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(view.width * dots), Math.round(view.height * dots)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    paint(pen, frame, width, height);
    pen.save();
    pen.scale(width / frame.width, height / frame.height);
    const line = this.scale * 2.5;
    if (this.draft) this.paintDraft(this.draft, line);
    else {
      const row = this.rows.get(frame.index);
      if (row) {
        this.paintTrail(line);
        this.paintRow(row, line);
      }
    }
    pen.restore();
  }

  private paintDraft(box: Box, line: number): void {
    const { pen } = this;
    pen.fillStyle = "rgba(0, 0, 0, .4)";
    pen.beginPath();
    pen.rect(0, 0, this.frame!.width, this.frame!.height);
    pen.rect(...box);
    pen.fill("evenodd");
    this.outline(box, line, "#fff", []);
  }

  private paintTrail(line: number): void {
    const { pen, rows } = this;
    const last = this.frame!.index;
    pen.lineCap = "round";
    pen.lineWidth = line;
    pen.strokeStyle = FOUND;
    for (let i = Math.max(1, last - TRAIL); i <= last; i++) {
      const [a, b] = [rows.get(i - 1), rows.get(i)];
      if (!a?.found || !b?.found) continue;
      pen.globalAlpha = 0.8 * (1 - (last - i) / TRAIL);
      pen.beginPath();
      pen.moveTo(...middle(a.box));
      pen.lineTo(...middle(b.box));
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }

  private paintRow(row: Row, line: number): void {
    const { pen } = this;
    const colour = row.found ? FOUND : LOST;
    this.outline(row.box, line, colour, row.found ? [] : [4 * line, 3 * line]);
    const text = row.found ? row.score.toFixed(2) : `lost ${row.score.toFixed(2)}`;
    const size = 13 * this.scale;
    pen.font = `600 ${size}px system-ui, sans-serif`;
    const [w, h] = [pen.measureText(text).width + size, size * 1.5];
    const x = clamp(row.box[0] - line / 2, 0, this.frame!.width - w);
    const above = row.box[1] - h;
    const y = above >= 0 ? above : Math.min(row.box[1] + row.box[3], this.frame!.height - h);
    pen.fillStyle = colour;
    pen.fillRect(x, y, w, h);
    pen.fillStyle = "#06140a";
    pen.textBaseline = "middle";
    pen.fillText(text, x + size / 2, y + h / 2 + size * 0.05);
  }

  private outline(box: Box, line: number, colour: string, dashes: number[]): void {
    const { pen } = this;
    pen.strokeStyle = "rgba(0, 0, 0, .55)";
    pen.lineWidth = line * 1.8;
    pen.strokeRect(...box);
    pen.setLineDash(dashes);
    pen.strokeStyle = colour;
    pen.lineWidth = line;
    pen.strokeRect(...box);
    pen.setLineDash([]);
  }
}

const STEPS: Record<string, Point> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

const middle = ([x, y, w, h]: Box): Point => [x + w / 2, y + h / 2];

const clamp = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), Math.max(low, high));

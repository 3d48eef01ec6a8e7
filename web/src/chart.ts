/** The score over time, under the video. */

import { FOUND, LOST } from "./stage.ts";
import type { Row } from "./table.ts";

/** Paint one column per pixel: the mean score of the frames that fall into it.
 *
 * @param count frames that the width stands for.
 * @param shown the frame on the page.
 */
export function paintChart(canvas: HTMLCanvasElement, rows: ReadonlyMap<number, Row>, count: number, shown: number): void {
  const view = canvas.getBoundingClientRect();
  const dots = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(view.width * dots), Math.round(view.height * dots)];
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d")!;
  pen.clearRect(0, 0, width, height);

  const sums = new Float64Array(width);
  const lost = new Uint32Array(width);
  const seen = new Uint32Array(width);
  for (const row of rows.values()) {
    const first = Math.floor((row.frame / count) * width);
    const last = Math.max(first + 1, Math.floor(((row.frame + 1) / count) * width));
    for (let x = first; x < Math.min(last, width); x++) {
      sums[x] += row.score;
      seen[x] += 1;
      if (!row.found) lost[x] += 1;
    }
  }
  for (let x = 0; x < width; x++) {
    if (!seen[x]) continue;
    const tall = Math.max(2 * dots, (sums[x] / seen[x]) * height);
    pen.fillStyle = lost[x] * 2 > seen[x] ? LOST : FOUND;
    pen.globalAlpha = 0.5;
    pen.fillRect(x, height - tall, 1, tall);
  }
  pen.globalAlpha = 1;
  pen.fillStyle = getComputedStyle(canvas).color;
  pen.fillRect(Math.round(((shown + 0.5) / count) * width) - dots, 0, 2 * dots, height);
}

/** One frame of a video, and how it is painted upright. */

import type { Matrix, Pose } from "./pixels.ts";

export interface Frame extends Pose {
  /** Number of the frame in the video, from 0. */
  index: number;
  /** Seconds after the video's beginning. */
  time: number;
  image: VideoFrame | ImageBitmap;
  /** Size in pixels once upright; pixels are taken as square, as in Python. */
  width: number;
  height: number;
  /** How the file says that its colours are coded. */
  matrix: Matrix;
}

type Pen = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

/** Paint a frame over (0, 0, width, height). */
export function paint(pen: Pen, frame: Frame, width: number, height: number): void {
  const lying = frame.turn % 180 !== 0;
  const [w, h] = lying ? [height, width] : [width, height];
  pen.save();
  pen.translate(width / 2, height / 2);
  if (frame.flip) pen.scale(-1, 1);
  pen.rotate((frame.turn * Math.PI) / 180);
  pen.drawImage(frame.image, -w / 2, -h / 2, w, h);
  pen.restore();
}

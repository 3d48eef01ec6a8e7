/** From a decoder's planes to red, green and blue with the arithmetic of FFmpeg, which decodes for Python.
 *
 * Browsers convert with other roundings, and take colours that a file leaves unsaid for BT.709 where FFmpeg takes BT.601.
 * With the planes themselves both see the same picture; and only the part that is looked at has to be converted.
 */

import type { Pixels } from "./crops.ts";

export type Matrix = "bt601" | "bt709" | "bt2020";

/** Cr to red, Cb to blue, Cb to green, Cr to green: 65536ths (libswscale/yuv2rgb.c). */
const COEFFICIENTS: Record<Matrix, readonly [number, number, number, number]> = {
  bt601: [104597, 132201, -25675, -53279],
  bt709: [117489, 138438, -13975, -34925],
  bt2020: [110013, 140363, -12277, -42626],
};

/** Luma, then Cb and Cr at half the size: in two planes (I420) or by turns in one (NV12). */
export interface Planes {
  format: "I420" | "NV12";
  data: Uint8Array;
  layout: readonly { offset: number; stride: number }[];
  width: number;
  height: number;
  matrix: Matrix;
  fullRange: boolean;
}

/** Degrees to turn a picture clockwise, then whether to mirror it. */
export interface Pose {
  turn: 0 | 90 | 180 | 270;
  flip: boolean;
}

/** The pixels of planes, upright. */
export class PlanarPixels implements Pixels {
  readonly width: number;
  readonly height: number;
  private readonly luma: Int16Array;
  private readonly chroma: [Int16Array, Int16Array, Int16Array, Int16Array];

  constructor(
    private readonly planes: Planes,
    private readonly pose: Pose,
  ) {
    const lying = pose.turn % 180 !== 0;
    [this.width, this.height] = lying ? [planes.height, planes.width] : [planes.width, planes.height];
    // 13 bits of a coefficient, 3 of the value, and the product's upper half, as FFmpeg's vector code does it.
    const full = planes.fullRange;
    const scaled = (value: number): number => Math.floor((value * 8192 + 32768) / 65536);
    const times = (offset: number, factor: number): Int16Array =>
      Int16Array.from({ length: 256 }, (_, v) => ((v * 8 - offset) * factor) >> 16);
    this.luma = times(full ? 0 : 128, scaled(full ? 65536 : Math.trunc((65536 * 255) / 219)));
    this.chroma = COEFFICIENTS[planes.matrix].map((c) =>
      times(1024, scaled(full ? Math.trunc((c * 224) / 255) : c)),
    ) as PlanarPixels["chroma"];
  }

  read(x: number, y: number, width: number, height: number): Uint8ClampedArray {
    const { data, layout, format } = this.planes;
    const [toRed, toBlue, blueToGreen, redToGreen] = this.chroma;
    const luma = layout[0];
    const cb = layout[1];
    const [cr, apart] = format === "NV12" ? [{ offset: cb.offset + 1, stride: cb.stride }, 2] : [layout[2], 1];
    const result = new Uint8ClampedArray(width * height * 4);
    // Where the first pixel lies in the planes, and which way the next column and the next row are.
    const [sx0, sy0] = this.source(x, y);
    const [sx1, sy1] = this.source(x + 1, y);
    const [sx2, sy2] = this.source(x, y + 1);
    for (let j = 0, to = 0; j < height; j++) {
      let sx = sx0 + j * (sx2 - sx0);
      let sy = sy0 + j * (sy2 - sy0);
      for (let i = 0; i < width; i++, to += 4, sx += sx1 - sx0, sy += sy1 - sy0) {
        const bright = this.luma[data[luma.offset + sy * luma.stride + sx]];
        const half = (sx >> 1) * apart;
        const b = data[cb.offset + (sy >> 1) * cb.stride + half];
        const r = data[cr.offset + (sy >> 1) * cr.stride + half];
        result[to] = bright + toRed[r];
        result[to + 1] = bright + blueToGreen[b] + redToGreen[r];
        result[to + 2] = bright + toBlue[b];
        result[to + 3] = 255;
      }
    }
    return result;
  }

  /** Where an upright pixel lies in the planes. */
  private source(x: number, y: number): [number, number] {
    if (this.pose.flip) x = this.width - 1 - x;
    switch (this.pose.turn) {
      case 0: return [x, y];
      case 90: return [y, this.width - 1 - x];
      case 180: return [this.width - 1 - x, this.height - 1 - y];
      case 270: return [this.height - 1 - y, x];
    }
  }
}

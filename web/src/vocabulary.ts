/** Coordinates as words, and what the distributions over them say about certainty: fartrack/vocabulary.py. */

import { coordinateWords, type ModelConfig } from "./config.ts";
import { roundHalfEven } from "./geometry.ts";

/** A coordinate in units of the search crop -> the nearest word, clipped to the vocabulary's range. */
export function toWord(coordinate: number, config: ModelConfig): number {
  const word = roundHalfEven((coordinate - config.low) * (config.bins - 1));
  return Math.min(Math.max(word, 0), coordinateWords(config) - 1);
}

/** Mean entropy of the four coordinate distributions, in nats. Logits are (4, words). */
export function entropy(logits: ArrayLike<number>, config: ModelConfig): number {
  const words = logits.length / 4;
  const used = coordinateWords(config);
  let sum = 0;
  for (let coordinate = 0; coordinate < 4; coordinate++) {
    const base = coordinate * words;
    let top = -Infinity;
    for (let i = 0; i < used; i++) top = Math.max(top, logits[base + i]);
    let total = 0;
    for (let i = 0; i < used; i++) total += Math.exp(logits[base + i] - top);
    for (let i = 0; i < used; i++) {
      const p = Math.exp(logits[base + i] - top) / total;
      sum -= p * Math.log(Math.max(p, 1e-12));
    }
  }
  return sum / 4;
}

/** How much of the way from the last box to the newest is gone, 0 to 1; `scores` are those of the last frames. */
export function share(scores: readonly number[], { doubt, trust }: ModelConfig): number {
  return trust === 0 ? 1 : Math.min(1, Math.max(0, (Math.max(...scores) - doubt) / (trust - doubt)));
}

/** The calibrated chance, 0 to 1, that the box overlaps the target by more than half; `change` is `changeOfShape`'s. */
export function score(logits: ArrayLike<number>, config: ModelConfig, change = 0): number {
  const { score_bias, score_slope, score_shape } = config;
  return 1 / (1 + Math.exp(-(score_bias + score_slope * entropy(logits, config) + score_shape * change)));
}

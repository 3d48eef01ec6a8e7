"""Logistic regression, and how well a score tells two kinds apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fartrack.errors import InputError

Floats = npt.NDArray[np.float64]


def fit_logistic(x: Floats, hit: npt.NDArray[np.bool_], ridge: float = 1e-3) -> Floats:
    """Coefficients of ``sigmoid(b[0] + x @ b[1:])`` with the greatest likelihood (a little ridge keeps them finite).

    Args:
        x: (N, k).
        hit: (N,).
        ridge: half of what the square of a standardised coefficient costs in log-likelihood of all N.

    Raises:
        InputError: all are hits, or none.
    """
    if hit.all() or not hit.any():
        raise InputError(
            f"the score cannot be calibrated: {int(hit.sum())} of {len(hit)} held-out boxes were hits; "
            "give more --score-clips or other --data, or --samples 0, which leaves it as it is"
        )
    mean, deviation = x.mean(0), np.maximum(x.std(0), 1e-9)
    design = np.concatenate([np.ones((len(x), 1)), (x - mean) / deviation], 1)
    w = np.zeros(design.shape[1])
    cost = np.full(len(w), ridge)
    cost[0] = min(ridge, 1e-3)
    for _ in range(100):
        p = 1 / (1 + np.exp(-design @ w))
        gradient = design.T @ (p - hit) + cost * w
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(cost)
        step = np.linalg.solve(hessian, gradient)
        w -= np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    slopes = w[1:] / deviation
    return np.concatenate([[w[0] - slopes @ mean], slopes])


def auroc(score: npt.NDArray[np.float64], hit: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve, by ranks; ties count half."""
    _, inverse, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[inverse]
    n = int(hit.sum())
    return float((rank[hit].sum() - n * (n + 1) / 2) / max(1, n * (len(hit) - n)))

"""Embeddings on a plane: their first two principal components, for a map that a person can look at."""

from __future__ import annotations

from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def principal_plane(features: Any) -> tuple[FloatArray, tuple[float, float]]:
    """Coordinates (n, 2) of features (n, D) on their first two principal components (Pearson, 1901), and their shares of the variance.

    The sign of a component is chosen so that its largest coordinate is positive: the same features give the same map.
    Fewer than three features, or features without any variance, lie in one point or on one line.
    """
    values = np.asarray(features, dtype=np.float64)
    n, width = values.shape
    if n == 0:
        return np.zeros((0, 2)), (0.0, 0.0)
    centred = values - values.mean(0)
    if n <= width:  # of the two Gram matrices, the smaller has the same variances
        variances, vectors = np.linalg.eigh(centred @ centred.T)
        coordinates = vectors[:, ::-1][:, :2] * np.sqrt(np.maximum(variances[::-1][:2], 0))
    else:
        variances, vectors = np.linalg.eigh(centred.T @ centred)
        coordinates = centred @ vectors[:, ::-1][:, :2]
    plane = np.zeros((n, 2))
    plane[:, : coordinates.shape[1]] = coordinates
    largest = plane[np.abs(plane).argmax(0), [0, 1]]
    plane *= np.where(largest < 0, -1.0, 1.0)
    total = max(float(np.maximum(variances, 0).sum()), np.finfo(np.float64).tiny)
    first, second = (float(max(value, 0.0)) / total for value in (*variances[::-1][:2], 0.0)[:2])
    return plane, (first, second)


def on_grid(plane: FloatArray, size: int = 1000) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Coordinates (n, 2) as whole numbers in [0, size], with one scale for both axes and the middle in the middle."""
    if len(plane) == 0:
        return np.zeros((0, 2), dtype=np.int64)
    low, high = plane.min(0), plane.max(0)
    extent = max(float((high - low).max()), np.finfo(np.float64).tiny)
    grid: np.ndarray[Any, np.dtype[np.int64]] = np.rint(size / 2 + (plane - (low + high) / 2) / extent * size).astype(
        np.int64
    )
    return grid

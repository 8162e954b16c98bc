"""How many samples are enough? Doubling until two seeds tell the same story.

A sampled map (LIME, KernelSHAP) has no error bar of its own, and the additivity that KernelSHAP
forces holds even where the map is wrong. Two seeds against each other are an honest check.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from vad_helpers.attribution.probability import Model
from vad_helpers.attribution.registry import METHODS, explain
from vad_helpers.errors import InputError


def converge(
    model: Model,
    clip: torch.Tensor,
    method: str,
    *,
    start: int = 25,
    most: int = 3200,
    threshold: float = 0.95,
    seeds: tuple[int, int] = (0, 1),
    **options: Any,
) -> pd.DataFrame:
    """Double the number of samples until the maps of two seeds correlate.

    Parameters
    ----------
    model, clip, method
        As `explain`; the method needs a setting `n_samples`.
    start, most : int
        First number of samples, and the largest to try.
    threshold : float
        Pearson correlation over voxels at which two maps count as the same, in (0, 1].
    seeds : tuple of int
        The two seeds.
    **options
        Further options of `explain`.

    Returns
    -------
    DataFrame
        n_samples, correlation (NaN if a map is constant), converged: one row a number tried. The
        last row is the converged one, unless `most` was reached first.

    Raises
    ------
    InputError
        If the method draws no samples, or `start` is not in 1 .. `most`.
    """
    if method in METHODS and "n_samples" not in METHODS[method].settings:
        raise InputError(f"method '{method}' has no setting n_samples; there is nothing to double")
    if not 1 <= start <= most:
        raise InputError(f"start is {start}; expected a whole number from 1 to most = {most}")
    rows, n_samples = [], start
    while n_samples <= most:
        maps = [
            explain(model, clip, method, seed=seed, n_samples=n_samples, **options)
            for seed in seeds
        ]
        correlation = _correlation(*maps)
        rows.append((n_samples, correlation, bool(correlation >= threshold)))
        if correlation >= threshold:
            break
        n_samples *= 2
    return pd.DataFrame(rows, columns=["n_samples", "correlation", "converged"])


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

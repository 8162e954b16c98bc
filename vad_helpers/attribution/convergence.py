"""How many samples are enough? Doubling until two seeds tell the same story.

A sampled map (LIME, KernelSHAP) has no error bar of its own, and the additivity that KernelSHAP
forces holds even where the map is wrong.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vad_helpers.attribution import checks
from vad_helpers.attribution.probability import Probability, evaluating, seeded
from vad_helpers.attribution.registry import METHODS, explain
from vad_helpers.errors import InputError
from vad_helpers.inference.prepared import Model, Prepared, prepare


def converge(
    model: Model | Prepared,
    clip: Tensor,
    method: str,
    *,
    precision: str = "fp32",
    start: int = 25,
    most: int = 3200,
    threshold: float = 0.95,
    seeds: tuple[int, int] = (0, 1),
    **options: Any,
) -> pd.DataFrame:
    """Double the number of samples until the maps of two seeds correlate.

    Twice as many samples begin with those drawn before; methods that fill superpixels do not ask
    for these again, so that all of the doubling costs what its last step costs.

    Parameters
    ----------
    model, clip, method, precision, **options
        As `explain`; the method needs a setting `n_samples`.
    start, most : int
        First number of samples, and the largest to try.
    threshold : float
        Pearson correlation over voxels at which two maps count as the same, in (0, 1].
    seeds : (int, int)

    Returns
    -------
    DataFrame
        n_samples, correlation (NaN if a map is constant), converged: one row a number tried. The
        last row is the converged one, unless `most` was reached first.

    Raises
    ------
    InputError
        If there is no such method, it draws no samples, or `start` is not in 1 .. `most`.
    """
    spec = METHODS[checks.one_of("method", method, METHODS)]
    if "n_samples" not in spec.settings:
        raise InputError(f"method '{method}' has no setting n_samples; there is nothing to double")
    if not 1 <= start <= most:
        raise InputError(f"start is {start}; expected a whole number from 1 to most = {most}")
    if spec.superpixels:
        ready = prepare(model, precision=precision)
        if options.get("batch_size", "auto") == "auto":  # now: memory would answer at once
            example = clip.to(*ready.placement(clip)) if ready is model else None
            with evaluating(ready.model), seeded(0, clip.device):
                options["batch_size"] = Probability(ready, example=example).batch_size
        model = _Remembering(ready)
    rows, n_samples, converged = [], start, False
    while n_samples <= most and not converged:
        shared = {**options, "precision": precision, "n_samples": n_samples}
        maps = [explain(model, clip, method, seed=seed, **shared).ravel() for seed in seeds]
        constant = any(np.ptp(one) == 0 for one in maps)
        correlation = np.nan if constant else np.corrcoef(*maps)[0, 1]
        converged = bool(correlation >= threshold)
        rows.append((n_samples, float(correlation), converged))
        n_samples *= 2
    return pd.DataFrame(rows, columns=["n_samples", "correlation", "converged"])


class _Remembering(Prepared):
    """A prepared model that answers from memory what it was asked before, to the bit."""

    def __init__(self, ready: Prepared) -> None:
        vars(self).update(vars(ready))
        self._known: dict[bytes, Tensor] = {}

    def __call__(self, clips: Tensor) -> Tensor:
        if clips.requires_grad:  # what is remembered has no gradients
            return super().__call__(clips)
        content = clips.cpu().contiguous().view(torch.uint8).numpy()
        keys = [hashlib.blake2b(clip).digest() for clip in content]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if new:
            self._known |= zip((keys[i] for i in new), super().__call__(clips[new]), strict=True)
        return torch.stack([self._known[key] for key in keys])

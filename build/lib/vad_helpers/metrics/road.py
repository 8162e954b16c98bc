"""ROAD, "remove and debias": deletion whose holes are filled from what surrounds them.

A removed voxel becomes the weighted mean of its eight neighbours in the frame, 1/6 for each side
and 1/12 for each corner, all removed voxels solved for together, plus a little noise: the shape of
the hole, which could give the class away, is hard to see. At the border the weights of the
neighbours that are there are scaled up; a frame without a known voxel is filled with 0, mid grey.

References
----------
Y. Rong, T. Leemann, V. Borisov, G. Kasneci, E. Kasneci, "A consistent and efficient evaluation
strategy for attribution methods", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import cg

from vad_helpers.metrics import model_centric
from vad_helpers.metrics.arrays import as_mask

ROAD_AREAS = (0.01, 0.05, 0.2)
_ALL, _FIRST, _LAST = slice(None), slice(None, -1), slice(1, None)
_PAIRS = (  # rows and columns of neighbours, and their weight for each other
    ((_ALL, _FIRST), (_ALL, _LAST), 1 / 6),
    ((_FIRST, _ALL), (_LAST, _ALL), 1 / 6),
    ((_FIRST, _FIRST), (_LAST, _LAST), 1 / 12),
    ((_FIRST, _LAST), (_LAST, _FIRST), 1 / 12),
)


def road(
    predict: model_centric.Predict,
    clip: Any,
    attribution: Any,
    *,
    areas: Sequence[float] = ROAD_AREAS,
    noise: float = 0.01,
    seed: int = 0,
    p_clip: float | None = None,
) -> dict[str, Any]:
    """Mean drop of p while the top voxels are replaced by `fill`.

    Parameters and errors are those of `model_centric.area_matched`, without a baseline; `p_clip` is
    p(x) where it is known, and not asked again.

    Returns
    -------
    dict
        ``road``: mean over `areas` of p(x) - p(x, filled), in [-1, 1], **higher** is better (the
        published curves are of p, lower is better). ``road_curve``: ndarray (n_areas,).
        ``model_calls``: clips that went through the model.
    """
    tensor, _, positive = model_centric.checked(clip, clip, attribution)
    rank = model_centric.importance_rank(positive, seed=seed)
    as_numpy = not isinstance(clip, torch.Tensor)
    p, sizes = [p_clip], [*model_centric.sizes_of(areas, rank.size)]
    if p_clip is None:
        p, sizes = [], [0, *sizes]
    for removed in (rank < size for size in sizes):
        filled = fill(tensor.cpu().numpy(), removed, noise=noise, seed=seed)[None]
        batch = filled if as_numpy else torch.from_numpy(filled).to(tensor)
        p.append(model_centric.probabilities(predict(batch), 1)[0])
    drops = p[0] - np.array(p[1:])
    return {"road": float(drops.mean()), "road_curve": drops, "model_calls": len(sizes)}


def fill(clip: np.ndarray, removed: Any, *, noise: float = 0.01, seed: int = 0) -> np.ndarray:
    """Replace `removed` voxels, bool (T, H, W), in all channels of a clip, floats (C, T, H, W).

    `noise` is the standard deviation of what is added to them, in the clip's units. The filled
    clip is a new array of its type; InputError if `removed` does not fit.
    """
    removed = as_mask(removed, shape=clip.shape[1:], name="removed")
    n, index = np.count_nonzero(removed), np.full(removed.shape, -1)
    index[removed] = np.arange(n)
    known = np.where(removed, 0, clip)
    degrees, sums = np.zeros(removed.shape), np.zeros(clip.shape)
    entries = []
    for one, other, weight in _PAIRS:
        for here, there in ((one, other), (other, one)):
            degrees[:, *here] += weight
            sums[:, :, *here] += weight * known[:, :, *there]
            i, j = index[:, *here], index[:, *there]
            both = (i >= 0) & (j >= 0)
            entries.append((i[both], j[both], np.full(np.count_nonzero(both), weight)))
    i, j, weights = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    system = diags_array(degrees[removed]) - coo_array((weights, (i, j)), shape=(n, n)).tocsr()
    rng, filled = np.random.default_rng(seed), clip.copy()
    for channel, given in zip(filled, sums, strict=True):
        found = cg(system.tocsr(), given[removed], rtol=1e-5)[0] if n else 0
        channel[removed] = found + noise * rng.standard_normal(n)
    return filled

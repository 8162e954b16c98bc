"""Metrics on trial: does a metric recover an order of maps that is known?

Nobody knows which voxels a trained network used; of a *planted* detector one does. Its probability
is sigmoid(k (f - c)) of a quadratic f of the grey voxels, 1 at the clip x and 0 at its baseline b.
Then E = (x - b) * grad f((x + b) / 2) is the exact Shapley value of every voxel (of `and` while
both of its factors are not negative). `ladders` spoil that map by known steps, `try_clip` scores
every step by every metric, and `verdict.judge` asks each metric for the order.

Regions: A is the annotated object, B the same shape where most moves elsewhere, P a still textured
square. Of a clip one grey channel is used, (1, T, H, W).

References
----------
Y. Zhang et al., "AttributionLab: faithfulness of feature attribution under controllable
environments", arXiv 2310.06514, 2023.
Z. Li et al., "Spatio-temporal perturbations for video attribution", IEEE TCSVT, 2021 (who check
metrics on video by another measure of reliability).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage, signal
from torch import Tensor
from torch.nn.functional import avg_pool2d

from vad_helpers.errors import InputError
from vad_helpers.metrics import human_centric, model_centric, references, robustness
from vad_helpers.metrics.arrays import as_mask, grey_change
from vad_helpers.metrics.road import road

LADDERS = {
    "noise": (0.1, 0.3, 0.6, 1.0),  # share of voxels permuted
    "shift": (1, 3, 6, 12),  # pixels
    "delay": (1, 2, 5, 10),  # frames
    "blur": (1, 2, 4, 8),  # standard deviation in pixels
    "parts": (0.25, 0.5, 0.75, 0.9),  # share of the evidence dropped
    "swap": (0.25, 0.5, 0.75, 1.0),  # share of E moved to B
}
POWERS, FLATNESS = (0.2, 0.5, 2.0, 5.0), (0.1, 0.3, 1.0, 3.0, 10.0)
STRESS = ("fragile_minus", "fragile_plus", "diffuse")
TRIED = (
    *("deletion", "insertion", "area_deletion", "area_insertion", "area_matched_deletion"),
    *("area_matched_insertion", "srg", "srg_log", "srg_blocks", "road", "frame_deletion", "auc"),
    *("motion_auc", "iou", "share_in_mask", "pointing", "cv", "gini", "max_sensitivity"),
)
CALLS = {"deletion": 102, "insertion": 102, "area_deletion": 100, "area_insertion": 100}
CALLS |= {"area_matched_deletion": 11, "area_matched_insertion": 11, "srg": 20, "srg_log": 48}
CALLS |= {"srg_blocks": 40, "road": 4, "frame_deletion": 5}
"""Model calls a map, those of clip and baseline too; metrics that are not listed ask none."""
PART = (2, 4, 4)
FRAME_AREAS = (0.05, 0.1, 0.25, 0.5)
"""Shares of the frames that `frame_deletion` replaces whole."""
WEIGHT = 3.0
"""Positive part of the filter of `diffuse`, in units of the object's evidence."""
Explain = Callable[[Tensor], np.ndarray]


@dataclass(frozen=True)
class Detector:
    """A planted detector: `evidence`, (N, T, H, W) -> (N,), is f; `slope` and `middle` k and c."""

    evidence: Callable[[Tensor], Tensor]
    slope: float = 6.0
    middle: float = 0.5

    def predict(self, batch: Tensor) -> Tensor:
        """Probabilities (N,) of clips (N, 1, T, H, W)."""
        return torch.sigmoid(self.slope * (self.evidence(batch[:, 0]) - self.middle))

    def truth(self, clip: Tensor, baseline: Tensor) -> np.ndarray:
        """True attribution E of a clip (1, T, H, W): float64 (T, H, W), of sum f(x) - f(b)."""
        clip, baseline = clip.double(), baseline.double()
        halfway = ((clip + baseline) / 2).requires_grad_()
        (gradient,) = torch.autograd.grad(self.evidence(halfway).sum(), halfway)
        return ((clip - baseline) * gradient)[0].numpy()


def places(
    clip: Any, baseline: Any, mask: np.ndarray
) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
    """Find the regions A, B and P, bool (T, H, W), and by how many rows and columns B is A moved.

    Clip and baseline are (1, T, H, W), the mask is A. InputError if it is empty, or leaves no room.
    """
    grey, smooth = (np.asarray(one, dtype=np.float64)[0] for one in (clip, baseline))
    mask, change = as_mask(mask, shape=grey.shape), grey_change(grey) ** 2
    height, width = grey.shape[1:]
    around = np.ones((1, 7, 7), bool)
    rows, columns = np.nonzero(mask.any(axis=0))
    if not rows.size:
        raise InputError("the mask is empty; give a clip with an annotated object")
    # All translations that keep the object inside, as lags of a correlation.
    inside = (
        slice(height - 1 - rows.min(), 2 * height - 1 - rows.max()),
        slice(width - 1 - columns.min(), 2 * width - 1 - columns.max()),
    )
    energy, overlap = (
        sum(signal.correlate(a, m, method="fft")[inside] for a, m in zip(volume, mask, strict=True))
        for volume in (change, ndimage.binary_dilation(mask, around).astype(float))
    )
    energy[overlap > 0.5] = -np.inf
    down, right = np.unravel_index(energy.argmax(), energy.shape)
    offset = int(down - rows.min()), int(right - columns.min())
    moved = np.roll(mask, offset, axis=(1, 2))
    side = min(height, width, max(2, round(float(np.sqrt(mask.sum() / len(mask))))))
    taken = ndimage.binary_dilation(mask | moved, around).any(axis=0)
    texture = ((grey - smooth) ** 2).mean(axis=0)
    windows = np.lib.stride_tricks.sliding_window_view
    blocked, motion, textured = (
        windows(flat.astype(float), (side, side)).mean(axis=(2, 3))
        for flat in (taken, change.mean(axis=0), texture)
    )
    free = blocked < 1e-9
    if not np.isfinite(energy.max()) or not free.any():
        raise InputError("the object leaves no room for another beside it; give another clip")
    textured[~(free & (motion <= np.quantile(motion[free], 0.25)))] = -np.inf
    top, left = np.unravel_index(textured.argmax(), textured.shape)
    still = np.zeros_like(mask)
    still[:, top : top + side, left : left + side] = True
    return {"A": mask, "B": moved, "P": still}, offset


def planted(
    clip: Tensor, baseline: Tensor, regions: dict[str, np.ndarray], *, seed: int = 0
) -> dict[str, Detector]:
    """Make the detectors of a clip (1, T, H, W), by name; those of `STRESS` get no verdict.

    `regions` are those of `places`; the seed chooses the frames of `frames` and the filter of
    `diffuse`. InputError if blurring does not lower what a detector looks for.
    """
    x, b, rng = clip[0].double(), baseline[0].double(), np.random.default_rng(seed)

    def scaled(raw: Callable[..., Tensor], weights: np.ndarray) -> Callable[[Tensor], Tensor]:
        # Voxels outside the box do not count; one more on each side is what differences ask.
        found = ndimage.find_objects((weights != 0).astype(np.uint8))[0]
        box = tuple(slice(max(0, one.start - 1), one.stop + 1) for one in found)
        own = (torch.from_numpy(weights[box]).double(), b[box])
        at_x, at_b = raw(torch.stack([x[box], b[box]]), *own).tolist()
        if not at_x > at_b:
            raise InputError("the blurred clip has as much to look for as the clip; give another")

        def value(z: Tensor) -> Tensor:
            return (raw(z[:, *box], *(one.to(z.dtype) for one in own)) - at_b) / (at_x - at_b)

        return value

    def matched(z: Tensor, weights: Tensor, blurred: Tensor) -> Tensor:
        return ((z - blurred) * weights).sum((1, 2, 3))

    def texture(z: Tensor, weights: Tensor, blurred: Tensor) -> Tensor:
        smooth = avg_pool2d(z, 3, stride=1, padding=1, count_include_pad=False)
        return (weights * (z - smooth) ** 2).sum((1, 2, 3))

    def motion(z: Tensor, weights: Tensor, blurred: Tensor) -> Tensor:
        return (weights[1:] * (z[:, 1:] - z[:, :-1]) ** 2).sum((1, 2, 3))

    contrast = (x - b).numpy()
    a, elsewhere, still = (scaled(matched, contrast * regions[name]) for name in "ABP")
    moves = scaled(motion, regions["A"].astype(float))
    few = np.isin(np.arange(len(x)), rng.permutation(len(x))[:4])[:, None, None]
    # Per block, a filter without its component along x - b: it sums to zero there.
    drawn = rng.standard_normal(contrast.shape)
    block = model_centric.BLOCK
    along, size = (model_centric.block_means(c * contrast, block) for c in (drawn, contrast))
    share = np.divide(along, size, out=np.zeros_like(along), where=size > 0)
    drawn = drawn - contrast * model_centric.spread(share, block, contrast.shape)
    drawn *= WEIGHT / np.maximum(drawn * contrast, 0).sum()

    def diffuse(z: Tensor) -> Tensor:
        return a(z) + matched(z, torch.from_numpy(drawn).to(z.dtype), b.to(z.dtype))

    return {
        "appearance": Detector(a),
        "texture": Detector(scaled(texture, regions["A"].astype(float))),
        "motion": Detector(moves),
        "frames": Detector(scaled(matched, contrast * (regions["A"] & few))),
        "weighted": Detector(lambda z: 0.7 * a(z) + 0.3 * elsewhere(z)),
        "and": Detector(lambda z: a(z) * elsewhere(z)),
        "saturated": Detector(a, slope=16.0, middle=0.25),
        "hans": Detector(still),
        # Flicker is 1 at x and 0 at b: only inputs off the way between them wake it.
        "fragile_minus": Detector(lambda z: a(z) - torch.relu(moves(z) - 1)),
        "fragile_plus": Detector(lambda z: a(z) + torch.relu(moves(z) - 1)),
        "diffuse": Detector(diffuse),
    }


def ladders(
    truth: np.ndarray, offset: tuple[int, int], *, seed: int = 0
) -> dict[tuple[str, int], Callable[[np.ndarray], np.ndarray]]:
    """Known ways to spoil a true map: (ladder, level from 1) -> function of a map.

    Beside `LADDERS`: "truth", level 0; "power" (the same ranks); "inversion"; and "grid", noise by
    powers, whose level 10 i + j is the i-th of no noise and the ladder's, and the j-th of
    `FLATNESS`. `offset` is that of `places`.
    """
    rng, n = np.random.default_rng(seed), truth.size
    n_parts = model_centric.block_means(truth, PART).shape
    order = rng.permutation(int(np.prod(n_parts))).reshape(n_parts)
    order = np.argsort(model_centric.spread(order, PART, truth.shape), axis=None, kind="stable")
    evidence = np.maximum(truth, 0).ravel()[order].cumsum()

    def permute(share: float) -> Callable[[np.ndarray], np.ndarray]:
        to = np.arange(n)
        chosen = rng.permutation(n)[: round(share * n)]
        to[chosen] = rng.permutation(chosen)
        return lambda e: e.ravel()[to].reshape(e.shape)

    def drop(share: float) -> Callable[[np.ndarray], np.ndarray]:
        kept = np.ones(n)
        kept[order[evidence <= share * evidence[-1]]] = 0
        return lambda e: e * kept.reshape(e.shape)

    def power(by: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda e: np.sign(e) * (np.abs(e) / (np.abs(e).max() or 1)) ** by

    make = {
        "noise": permute,
        "shift": lambda by: lambda e: np.roll(e, by, axis=2),
        "delay": lambda by: lambda e: np.roll(e, by, axis=0),
        "blur": lambda by: lambda e: ndimage.gaussian_filter(e, by, axes=(1, 2)),
        "parts": drop,
        "swap": lambda by: lambda e: (1 - by) * e + by * np.roll(e, offset, axis=(1, 2)),
    }
    steps = {(k, i): make[k](by) for k in LADDERS for i, by in enumerate(LADDERS[k], 1)}
    steps |= {("power", i): power(by) for i, by in enumerate(POWERS, 1)}
    noises = [lambda e: e, *(steps["noise", i] for i in (1, 2, 3, 4))]
    for (i, noisy), (j, by) in ((i, j) for i in enumerate(noises) for j in enumerate(FLATNESS)):
        steps["grid", 10 * i + j] = lambda e, noisy=noisy, by=by: power(by)(noisy(e))
    return {("truth", 0): lambda e: e, ("inversion", 1): lambda e: e.max() - e, **steps}


def try_clip(
    clip: Any,
    baseline: Any,
    mask: np.ndarray,
    *,
    detectors: Collection[str] = (),
    moving: np.ndarray | None = None,
    sensitivity: int = 4,
    seed: int = 0,
) -> pd.DataFrame:
    """Score the true maps of a clip's planted detectors, all that spoils them, and references.

    Clip and baseline are tensors (1, T, H, W), in the network's units; `detectors` are names
    (empty: all); `moving` is for `motion_auc`, by default `human_centric.moving_voxels`;
    `sensitivity` as in `score`. Gives detector, ladder, level, metric (of `TRIED`, and "recall"),
    value. Errors are those of `places` and `planted`.
    """
    regions, offset = places(clip, baseline, mask)
    found = planted(clip, baseline, regions, seed=seed)
    moving = human_centric.moving_voxels(clip) if moving is None else moving
    scene = {"clip": clip, "baseline": baseline, "mask": mask, "moving": moving, "seed": seed}
    lines = []
    for name in detectors or found:
        detector, object_map = found[name], found["appearance"].truth(clip, baseline)
        truth, shape = detector.truth(clip, baseline), object_map.shape
        steps = ladders(truth, offset, seed=seed)
        maps: dict[tuple[str, int], Explain] = {
            key: lambda video, step=step, of=detector: step(of.truth(video, baseline))
            for key, step in steps.items()
            if key[0] != "grid" or name == "appearance"
        }
        noise = references.random_map(shape, seed=seed)
        maps |= {
            ("constant", 1): lambda video, shape=shape: references.constant_map(shape),
            ("random", 1): lambda video, noise=noise: noise,
            ("motion", 1): references.frame_difference,
            ("centre", 1): lambda video, shape=shape: references.centre_prior(shape),
            ("annotation", 1): lambda video: mask.astype(np.float64),
        }
        if name == "diffuse":  # is the object above a filter that means nothing?
            apart = truth - object_map
            maps = {("truth", 0): lambda video, e=object_map: e}
            maps["object", 1] = lambda video, e=apart: e
            truth = object_map
        for (ladder, level), explain in maps.items():
            noisy = 0 if ladder == "grid" else sensitivity
            given = score(detector.predict, explain, truth=truth, sensitivity=noisy, **scene)
            lines += [(name, ladder, level, metric, value) for metric, value in given.items()]
    return pd.DataFrame(lines, columns=["detector", "ladder", "level", "metric", "value"])


def score(
    predict: model_centric.Predict,
    explain: Explain,
    *,
    truth: np.ndarray,
    clip: Any,
    baseline: Any,
    mask: np.ndarray,
    moving: np.ndarray,
    sensitivity: int = 4,
    seed: int = 0,
) -> dict[str, float]:
    """Score one map, which `explain` makes of a clip, by every metric of `TRIED`.

    Also "recall", the share of the positive evidence of `truth` on the map's top voxels, as many as
    `truth` has positive ones. `sensitivity` is the number of noisy clips of max-sensitivity (0: not
    asked).
    """
    values, asked = explain(clip), (predict, clip, baseline)
    options = {"batch_size": 16, "seed": seed}
    found = model_centric.both_axes(*asked, values, **options)
    options["ends"] = ends = found["shared"]["p_clip"], found["shared"]["p_baseline"]
    logs = model_centric.area_matched(*asked, values, areas=model_centric.LOG_AREAS, **options)
    blocks = {"areas": model_centric.BLOCK_AREAS, "block": model_centric.BLOCK}
    frames = {"areas": FRAME_AREAS, "block": (1, *mask.shape[1:])}
    given = {**found["area"], **found["threshold"], "srg_log": logs["srg"]}
    given["srg_blocks"] = model_centric.area_matched(*asked, values, **blocks, **options)["srg"]
    by_frame = model_centric.area_matched(*asked, values, **frames, **options)
    given |= {"frame_deletion": by_frame["area_matched_deletion"]}
    given |= {"road": road(predict, clip, values, seed=seed, p_clip=ends[0])["road"]}
    given |= human_centric.localization(values, mask) | robustness.temporal(values, mask)
    given |= {"motion_auc": human_centric.motion_localization(values, mask, moving)["auc"]}
    given |= {"share_in_mask": human_centric.concentration(values, mask)["share_in_mask"]}
    given |= {"pointing": human_centric.pointing(values, mask)}
    given |= {"gini": human_centric.sparseness(values)}
    if sensitivity:
        noisy = {"n_samples": sensitivity, "seed": seed}
        given["max_sensitivity"] = robustness.max_sensitivity(explain, clip, **noisy)
    evidence, positive = np.maximum(truth, 0), np.maximum(values, 0)
    top = model_centric.importance_rank(positive, seed=seed) < np.count_nonzero(evidence)
    recall = float(evidence[top].sum() / evidence.sum())
    return {name: float(given[name]) for name in TRIED if name in given} | {"recall": recall}

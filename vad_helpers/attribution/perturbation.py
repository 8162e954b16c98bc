"""Sampled methods: many clips with random parts filled, and what their probabilities tell.

LIME and KernelSHAP switch superpixels off, all channels together, and fit a linear model; RISE
averages smooth random masks. All draw which parts every sample keeps before they ask, and make the
clips a batch at a time: memory does not depend on the number of samples.
`vad_helpers.attribution.registry` says what `probability`, `clip`, `baseline`, `segments` and the
maps are.

With `agreement` above 0 the samples are doubled until the maps of two halves of them agree; beside
the map are then reported `n_samples`, how many were asked for, and `agreements`, a list of
[samples, correlation of the maps of their halves].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError

FIRST = 50
"""Samples at which doubling begins: two halves of the paper's 25."""


def lime(
    probability: Probability,
    clip: Tensor,
    baseline: Tensor,
    *,
    segments: Tensor,
    n_samples: int,
    alpha: float,
    kernel_width: float,
    relative: bool = False,
    paired: bool = False,
    agreement: float = 0.0,
) -> tuple[Tensor, dict[str, Any]]:
    """Fit a LASSO to the probability of clips with half of their superpixels filled.

    Beside the map it reports `n_nonzero`: how many coefficients are not zero.

    Parameters
    ----------
    n_samples : int
        Filled clips, at least 2; every superpixel is kept with probability one half.
    alpha : float
        Weight of the LASSO's penalty: larger leaves fewer coefficients that are not zero.
    kernel_width : float
        w of a sample's weight exp(-d^2 / 2 w^2), d its Euclidean distance from the clip over
        all normalised values of the three channels.
    relative : bool
        Multiply the penalty by the range of the probabilities seen: where it is tiny, as with
        random weights, all coefficients would be zero.
    paired : bool
        After each sample comes the one that keeps what it fills: effects of two superpixels at a
        time cancel, so that the same map takes fewer samples.
    agreement : float
        0 asks for all samples. Above 0, at most 1: doubles them, from `FIRST` up to `n_samples`,
        until the maps of two halves have this Pearson correlation over voxels.

    References
    ----------
    Ribeiro, Singh & Guestrin, "Why should I trust you?": explaining the predictions of any
    classifier, KDD 2016.
    """
    from sklearn.linear_model import Lasso  # late: slow to import

    # One by one, as Captum's Lime draws them: one seed, the same samples.
    coins = torch.full((1, int(segments.max()) + 1), 0.5)
    kept = _matrix((torch.bernoulli(coins) for _ in itertools.count()), n_samples, paired)
    apart = clip.float() - baseline.float()
    ask = _asked(probability, clip, baseline, segments)

    def observe(rows: Tensor) -> Tensor:
        weights = []
        for row in rows.to(clip.device):
            # In float32 like Captum's kernel, which rounds: the same weights to the last bit.
            distance = torch.where(row[segments], 0, apart).norm()
            weights.append(math.exp(-(distance**2) / (2 * kernel_width**2)))
        return torch.stack([ask(rows), torch.tensor(weights)], dim=1)

    def fit(rows: Tensor, seen: Tensor) -> Tensor:
        penalty = alpha * (max(float(np.ptp(seen[:, 0].numpy())), 1e-12) if relative else 1)
        return _fitted(Lasso(alpha=penalty, max_iter=20_000), rows, *seen.T).to(clip.device)

    rows, seen, info = _doubled(
        observe, lambda *asked: fit(*asked)[segments], kept, agreement=agreement, paired=paired
    )
    coefficients = fit(rows, seen)
    return coefficients[segments], {"n_nonzero": int(coefficients.count_nonzero()), **info}


def kernel_shap(
    probability: Probability,
    clip: Tensor,
    baseline: Tensor,
    *,
    segments: Tensor,
    n_samples: int,
    paired: bool = False,
    agreement: float = 0.0,
) -> tuple[Tensor, dict[str, Any]]:
    """Estimate the superpixels' Shapley values by weighted least squares.

    Parameters
    ----------
    n_samples : int
        Filled clips, at least 2: the first two are the clip and the baseline themselves, the
        others are drawn by the Shapley kernel.
    paired : bool
        As in `lime`, for the samples that are drawn.
    agreement : float
        As in `lime`; the clip and the baseline themselves are part of both halves.

    Raises
    ------
    InputError
        If there is a single superpixel: it leaves nothing to share out.

    References
    ----------
    Lundberg & Lee, A unified approach to interpreting model predictions, NeurIPS 2017.
    Covert & Lee, Improving KernelSHAP: practical Shapley value estimation using linear regression,
    AISTATS 2021 (samples in pairs).
    """
    from captum.attr import KernelShap
    from sklearn.linear_model import LinearRegression

    n_segments = int(segments.max()) + 1
    if n_segments == 1:
        raise InputError(
            "kernel_shap needs two superpixels or more, and SLIC found one; raise n_segments"
        )
    sizes = torch.arange(n_segments, dtype=torch.float32)
    chances = (n_segments - 1) / (sizes * (n_segments - sizes))
    chances[0] = 0  # of no superpixel; that sample is there already
    draws = KernelShap(probability).kernel_shap_perturb_generator(
        clip,
        num_interp_features=n_segments,
        num_select_distribution=torch.distributions.Categorical(chances),
    )
    kept = _matrix(draws, n_samples, paired)

    def explain(rows: Tensor, p: Tensor) -> Tensor:
        ends = rows.all(dim=1) | ~rows.any(dim=1)
        # Captum's weights: as good as infinite, so that the map sums to p(clip) - p(baseline).
        fitted = _fitted(LinearRegression(), rows, p, torch.where(ends, 1e6, 1.0))
        return fitted.to(clip.device)[segments]

    ask = _asked(probability, clip, baseline, segments)
    *asked, info = _doubled(ask, explain, kept, agreement=agreement, paired=paired, n_ends=2)
    return explain(*asked), info


def rise(
    probability: Probability,
    clip: Tensor,
    baseline: Tensor,
    *,
    n_samples: int,
    grid: tuple[int, int, int],
    p_keep: float,
    paired: bool = True,
    agreement: float = 0.0,
) -> tuple[Tensor, dict[str, Any]]:
    """Average random masks, each weighted by the probability of what it shows of the clip.

    A mask is a coarse grid of coins, enlarged linearly over time and space and shifted by less
    than a cell: a few steps in time make it coherent over many frames. The clip shows where it is
    1, the baseline where it is 0. With masks M the map is E[p M] / E[M] - E[p]: the published map
    less a constant, which leaves its ranks, so that voxels whose absence raises p are negative.

    Parameters
    ----------
    n_samples : int
        Masks, at least 2.
    grid : (int, int, int)
        Cells on the axes (T, H, W).
    p_keep : float
        Probability that a cell shows the clip, in (0, 1).
    paired : bool
        After each mask comes its complement, so that every voxel is shown as often as p_keep
        says, which must be one half; the noise of uneven masks, p times as large, is gone.
    agreement : float
        As in `lime`.

    References
    ----------
    Petsiuk, Das & Saenko, RISE: randomized input sampling for explanation of black-box models,
    BMVC 2018.
    """
    size = clip.shape[1:]
    cell = [-(-n // cells) for n, cells in zip(size, grid, strict=True)]
    enlarged = [n * (cells + 1) for n, cells in zip(cell, grid, strict=True)]
    shown = (torch.rand(n_samples, *grid) < p_keep).to(clip)
    shifts = torch.stack([torch.randint(n, (n_samples,)) for n in cell], dim=1)
    if paired:
        shown[1::2], shifts[1::2] = 1 - shown[: n_samples - 1 : 2], shifts[: n_samples - 1 : 2]

    def masks(rows: Tensor) -> Tensor:
        large = F.interpolate(shown[rows][:, None], enlarged, mode="trilinear")[:, 0]
        corners = zip(large, shifts[rows].tolist(), strict=True)
        return torch.stack(
            [one[t : t + size[0], y : y + size[1], x : x + size[2]] for one, (t, y, x) in corners]
        )

    def show(rows: Tensor) -> Tensor:
        return torch.lerp(baseline, clip, masks(rows)[:, None])

    def explain(rows: Tensor, p: Tensor) -> Tensor:
        total = torch.zeros(size, dtype=torch.float64, device=clip.device)
        for row, value in zip(rows, p.tolist(), strict=True):  # in one order, whatever the batch
            total += value * masks(row[None])[0]
        return total / (len(rows) * p_keep) - p.double().mean()

    *asked, info = _doubled(
        lambda rows: _ask(probability, show, rows, clip.device),
        explain,
        torch.arange(n_samples),
        agreement=agreement,
        paired=paired,
    )
    return explain(*asked), info


def check(settings: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Refuse settings that are no shares, and RISE's pairs where a complement is another mask."""
    if settings["agreement"] > 1:
        raise InputError(f"agreement is {settings['agreement']}; give a correlation of at most 1")
    p_keep = settings.get("p_keep", 0.5)
    if p_keep >= 1:
        raise InputError(f"p_keep is {p_keep}; it must be < 1")
    if settings["paired"] and p_keep != 0.5:
        raise InputError(f"p_keep is {p_keep}; masks in pairs need .5, or give paired=False")


def _matrix(draws: Iterator[Tensor], n_samples: int, paired: bool) -> Tensor:
    """Which superpixels every sample keeps: bool, (n_samples, n_segments)."""

    def samples() -> Iterator[Tensor]:
        for sample in draws:
            yield sample
            if paired and sample.any() and not sample.all():  # not the clip and the baseline
                yield 1 - sample  # as likely as the sample

    return torch.cat([*itertools.islice(samples(), n_samples)]).bool().cpu()


def _asked(
    probability: Probability, clip: Tensor, baseline: Tensor, segments: Tensor
) -> Callable[[Tensor], Tensor]:
    """Function of rows of `_matrix`: the probability (n,) of the clips that keep so much."""

    def fill(rows: Tensor) -> Tensor:
        return torch.where(rows.to(clip.device)[:, None, segments], clip, baseline)

    return lambda rows: _ask(probability, fill, rows, clip.device)


@torch.no_grad()
def _ask(
    probability: Probability, make: Callable[[Tensor], Tensor], rows: Tensor, device: torch.device
) -> Tensor:
    """Probability (n,) of the clips that `make` makes of each batch of rows; a batch a core."""
    prepared = probability.prepared
    size = max(1, probability.batch_size // prepared.n_workers(device))
    found = []
    for p in prepared.spread(
        lambda batch: probability.uncounted(make(batch)), rows.split(size), device=device
    ):
        probability.count(len(p))
        found.append(p.cpu())
    return torch.cat(found)


def _fitted(model: Any, rows: Tensor, p: Tensor, weights: Tensor) -> Tensor:
    """Coefficients (n_segments,) of a linear model of scikit-learn, in float32 as Captum has it."""
    try:
        found = model.fit(*(x.float().numpy() for x in (rows, p)), weights.float().numpy())
    except ValueError as error:
        # scikit-learn refuses NaN, and weights that are all zero, in words of its own.
        raise InputError(
            f"the linear model could not be fitted ({str(error).splitlines()[0]}); check that the "
            "model's logits are finite and the settings not extreme"
        ) from error
    return torch.from_numpy(found.coef_).float()


def _doubled(
    observe: Callable[[Tensor], Tensor],
    explain: Callable[[Tensor, Tensor], Tensor],
    rows: Tensor,
    *,
    agreement: float,
    paired: bool = False,
    n_ends: int = 0,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Observe samples, all or until the maps of two halves agree; those observed, and `info`.

    `explain` makes a map of rows and what was observed of them. Both halves hold the first
    `n_ends`, and no pair is torn apart.
    """
    if agreement == 0:
        return rows, observe(rows), {}
    n, tried = min(FIRST, len(rows)), []
    seen = observe(rows[:n])
    while True:
        half = (n - n_ends) // 2
        half -= half % 2 if paired else 0
        maps = [
            explain(*(torch.cat([x[:n_ends], x[start : start + half]]) for x in (rows, seen)))
            for start in (n_ends, n_ends + half)
        ]
        one, two = (found.cpu().numpy().ravel() for found in maps)
        constant = half == 0 or np.ptp(one) == 0 or np.ptp(two) == 0
        tried.append([n, math.nan if constant else float(np.corrcoef(one, two)[0, 1])])
        if tried[-1][1] >= agreement or n == len(rows):
            return rows[:n], seen, {"n_samples": n, "agreements": tried}
        n = min(2 * n, len(rows))
        seen = torch.cat([seen, observe(rows[len(seen) : n])])

"""Test predictions of networks whose fold was trained again with the same recipe.

A network that replaces another could be the luckier one. What the earlier one predicted stays
beside it, so that nobody has to trust that it was not, and shows what training alone is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

NAME = "replaced_predictions"
ABOUT = ("weights_sha256", "train_precision", "device", "date")
"""Of a fold's entry in the manifest: which network it was, and where it was trained."""
PREDICTED = ("fold", "clip_id", "scene", "sequence", "label", "p")


def with_replaced(
    kept: pd.DataFrame | None,
    predictions: pd.DataFrame,
    *,
    entries: Mapping[int, Mapping[str, Any]],
    networks: Mapping[int, str],
) -> pd.DataFrame:
    """Add what is about to be replaced to what was replaced before.

    Parameters
    ----------
    kept : DataFrame or None
        Table of networks replaced earlier.
    predictions : DataFrame
        As published so far.
    entries : mapping of int to mapping
        Published entry of each fold that another network of the same recipe takes.
    networks : mapping of int to str
        weights_sha256 of the networks that come now: one that comes back is replaced no longer.

    Returns
    -------
    DataFrame
        fold, clip_id, scene, sequence, label, p of test clips; weights_sha256, train_precision,
        device, date of their network.
    """
    parts = [] if kept is None else [kept]
    for fold, entry in entries.items():
        mine = (predictions["fold"] == fold) & (predictions["split"] == "test")
        about = {name: entry.get(name) for name in ABOUT}
        parts.append(predictions.loc[mine, [*PREDICTED]].assign(**about))
    table = pd.concat([part for part in parts if len(part)] or [_none()], ignore_index=True)
    back = table["fold"].map(networks) == table["weights_sha256"]
    return table[~back].drop_duplicates(["clip_id", "weights_sha256"])


def _none() -> pd.DataFrame:
    return pd.DataFrame(columns=[*PREDICTED, *ABOUT])

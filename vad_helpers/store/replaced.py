"""Test predictions of networks whose fold was trained again with the same recipe.

A network that replaces another could be the luckier one. What the earlier one predicted stays
beside it, so that nobody has to trust that it was not, and shows what training alone is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

NAME = "replaced_predictions"
TRAINED = ("train_precision", "device", "date")
ABOUT = ("weights_sha256", *TRAINED)
"""Of a fold's entry in the manifest: which network it was, and where and when it was published."""
PREDICTED = ("fold", "clip_id", "scene", "sequence", "label", "p")


def lines(predictions: pd.DataFrame, *, fold: int, entry: Mapping[str, Any]) -> pd.DataFrame:
    """Give the test predictions of a published fold, with what tells its network from others.

    Parameters
    ----------
    predictions : DataFrame
        As published.
    fold : int
    entry : mapping
        The fold's in the manifest.

    Returns
    -------
    DataFrame
        fold, clip_id, scene, sequence, label, p; weights_sha256, train_precision, device, date.
    """
    mine = (predictions["fold"] == fold) & (predictions["split"] == "test")
    return predictions.loc[mine, [*PREDICTED]].assign(**about(entry))


def about(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Give what tells a fold's network from others, of its entry in the manifest."""
    return {name: entry.get(name) for name in ABOUT}

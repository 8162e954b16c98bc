"""What a practitioner does with a published study: which map to take, beside what, on which clips.

Each part is said where the study's intervals say so, and left out elsewhere; the sections of the
results page have the numbers behind it.
"""

from __future__ import annotations

import pandas as pd

from vad_helpers.pages import spending
from vad_helpers.store import faithfulness, study
from vad_helpers.store.published import Published
from vad_helpers.tables.resampling import FEWEST_GROUPS


def in_practice(found: Published) -> str:
    """Sum up which maps were shown to localise, and how to read them.

    Returns
    -------
    str
        One Markdown sentence or several; "" where nothing was compared with random weights.
    """
    parts = [_which(found), _beside_motion(found), _which_clips(found), _which_axis(found)]
    return f"**In practice.** {' '.join(filter(None, parts))}" if parts[0] else ""


CONTROLS = {
    "random_weights": "gradients of a network that has learnt nothing",
    "centre": "a spot in the middle of every frame",
}
"""Reference rows that a map must be shown to localise better than -> how they are called."""


def _which(found: Published) -> str:
    """Rows that pass every control of localisation that a map can pass without motion.

    They are shown to localise better than all of `CONTROLS`, and not shown to localise worse than
    the same method on a network that has learnt nothing.
    """
    references = set(found.rows.loc[found.rows["kind"] == "reference", "method"])
    rows = [row for row in study.main_rows(found) if row not in references]
    against = {row: study.against_row(found, row, "human_centric", ("auc",), rivals=rows)
               for row in CONTROLS}  # fmt: skip
    against = {row: compared for row, compared in against.items() if len(compared)}
    if "random_weights" not in against:
        return ""
    ahead = [set(table.loc[table["better"] == "b", "method"]) for table in against.values()]
    own = study.against_variants(found, "random")
    own = own[own["metric"] == "auc"]
    passed = set.intersection(*ahead) - set(own.loc[own["verdict"] == "lower", "method"])
    controls = " and than ".join(CONTROLS[row] for row in against)
    if not passed:
        return (
            f"No map of this study is shown to localise better than {controls}: do not rely on one "
            "to find the anomaly."
        )
    seconds, means = study.mean_seconds(found), study.clip_auc(found)
    ordered = means.loc[means.index.isin(passed)].sort_values("mean", ascending=False)
    listed = "; ".join(
        f"{line.label}, clip AUC {line.mean:.3f}"
        + (f" in {spending.spent(found, line.Index)}" if line.Index in seconds.index else "")
        + (f" ({agree})" if (agree := spending.seeds(found, line.Index)) else "")
        for line in ordered.itertuples()
    )
    none = "" if set(study.methods(found)) & passed else (
        "; none of the methods at the paper's settings is"
    )  # fmt: skip
    return (
        f"Shown to localise better than {controls}: {listed}{none}."
        f"{_unasked(found, ordered, set(own['method']))}"
    )


def _unasked(found: Published, passed: pd.DataFrame, asked: set[str]) -> str:
    """Name the rows that were not compared with themselves on a network with random weights."""
    labels = list(passed.loc[~passed.index.isin(asked), "label"])
    if not labels:
        return ""
    return (
        f" What {' and '.join(labels)} would give on a network with random weights was not "
        "measured."
    )


def _beside_motion(found: Published) -> str:
    against = study.against_row(found, "motion", "human_centric", ("auc",))
    ahead = against["better"] == "a"
    if against.empty or ahead.mean() <= 0.5:
        return ""
    return (
        "Show frame difference beside any map: by clip AUC what moves is localised better by it "
        f"than by {ahead.sum()} of {len(against)} methods."
    )


def _which_clips(found: Published) -> str:
    asked = faithfulness.gaps(found)
    if asked.empty or not (asked["p_clip"] < study.CALLED_FROM).any():
        return ""
    return (
        "Look first whether the network calls the clip anomalous: else there is no hit to explain."
    )


def _which_axis(found: Published) -> str:
    """Warn of the axis that a flat map wins on, and of that on which chosen voxels upset it."""
    against = study.against_row(found, "constant", "model_centric", ("deletion",))
    flat = not against.empty and (against["better"] == "a").mean() > 0.5
    beyond = faithfulness.beyond_gap(found)
    beyond = beyond[beyond["method"].isin(study.methods(found))]
    upset = (beyond["n_beyond"] > beyond["n_clips"] / 2).any()
    if flat and upset:
        return (
            "Trust no single axis of deletion: a constant map wins by threshold, and at equal area "
            "replaced voxels can upset the network more than the whole baseline does."
        )
    if flat:
        return "Compare deletion at equal area: by threshold a constant map wins."
    return ""


def scenes(found: Published) -> str:
    """Say which method localises best in each scene, and whose scores differ between scenes."""
    table = study.breakdown(found, "scene")
    names = [study.labels(found)[m] for m in study.methods(found)]
    table = table[table["label"].isin(names)]
    if table["part"].nunique() != 2 or table["n_groups"].min() < FEWEST_GROUPS:
        return ""
    best = table.loc[table.groupby("part")["mean"].idxmax()]
    first = " and ".join(f"{line.label} in {line.part}" for line in best.itertuples())
    if best["label"].nunique() == 1:
        first = f"{best['label'].iloc[0]} in both"
    wide = table.pivot(index="label", columns="part", values=["mean", "low", "high"]).loc[names]
    one, other = wide["mean"].columns
    apart = wide[
        (wide["low"][one] > wide["high"][other]) | (wide["low"][other] > wide["high"][one])
    ]
    listed = ", ".join(
        f"{label} ({line['mean'][one]:.3f}, {line['mean'][other]:.3f})"
        for label, line in apart.iterrows()
    )
    words = (
        f"Between {one} and {other} the intervals of {listed} do not overlap: quote scenes apart."
        if listed
        else f"Between {one} and {other} every method's intervals overlap."
    )
    among = f"Of the methods{study.at_samples(found)}, the highest clip AUC has {first}."
    return f"**Scenes.** {among} {words}"

"""What a practitioner does with a published study: which map to take, beside what, on which clips.

Each part is said where the study's intervals say so, and left out elsewhere; the sections of the
results page have the numbers behind it.
"""

from __future__ import annotations

from vad_helpers.metrics.resampling import FEWEST_GROUPS
from vad_helpers.store import faithfulness, study
from vad_helpers.store.published import Published


def in_practice(found: Published) -> str:
    """Sum up which maps were shown to localise, and how to read them.

    Returns
    -------
    str
        One Markdown sentence or several; "" where nothing was compared with random weights.
    """
    parts = [_which(found), _beside_motion(found), _which_clips(found), _which_axis(found)]
    return f"**In practice.** {' '.join(filter(None, parts))}" if parts[0] else ""


def _which(found: Published) -> str:
    """Rows shown to localise better than gradients of a network that has learnt nothing."""
    references = set(found.rows.loc[found.rows["kind"] == "reference", "method"])
    rows = [row for row in study.main_rows(found) if row not in references]
    against = study.against_row(found, "random_weights", "human_centric", ("auc",), rivals=rows)
    if against.empty:
        return ""
    better = against[against["better"] == "b"]
    if better.empty:
        return (
            "No map of this study is shown to localise better than gradients of a network that has "
            "learnt nothing: do not rely on one to find the anomaly."
        )
    seconds = study.mean_seconds(found)
    means = study.clip_auc(found)
    ordered = means.loc[means.index.isin(better["method"])].sort_values("mean", ascending=False)
    listed = "; ".join(
        f"{line.label}, clip AUC {line.mean:.3f}"
        + (f" in {seconds[line.Index]:.3g} s" if line.Index in seconds.index else "")
        for line in ordered.itertuples()
    )
    own = set(study.methods(found)) & set(better["method"])
    none = "" if own else "; none of the methods at the paper's settings is"
    return (
        "Shown to localise better than gradients of a network that has learnt nothing: "
        f"{listed}{none}."
    )


def _beside_motion(found: Published) -> str:
    against = study.against_row(found, "motion", "human_centric", ("auc",))
    if against.empty or (against["better"] == "a").mean() <= 0.5:
        return ""
    return "Show frame difference beside any map: what only moves is found by it, and better."


def _which_clips(found: Published) -> str:
    asked = faithfulness.gaps(found)
    if asked.empty or not (asked["p_clip"] < study.CALLED_FROM).any():
        return ""
    return (
        "Look first whether the network calls the clip anomalous: else there is no hit to explain."
    )


def _which_axis(found: Published) -> str:
    """Warn of the axis that a flat map wins on, and of that on which a few voxels upset it."""
    against = study.against_row(found, "constant", "model_centric", ("deletion",))
    flat = not against.empty and (against["better"] == "a").mean() > 0.5
    beyond = faithfulness.beyond_gap(found)
    beyond = beyond[beyond["method"].isin(study.methods(found))]
    scattered = (beyond["n_beyond"] > beyond["n_clips"] / 2).any()
    if flat and scattered:
        return (
            "Trust no single axis of deletion: a constant map wins by threshold, and a few "
            "scattered voxels upset the network at equal area."
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
    return f"**Scenes.** The highest clip AUC has {first}. {words}"

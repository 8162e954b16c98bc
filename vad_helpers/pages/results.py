"""The results page, from a published study alone: every number, table, verdict and figure of it.

`book/results.md` and the two cards hold prose without results; they include the fragments made
here while the book is staged. Where nothing is published, the fragments say so and the book still
builds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from vad_helpers import viz
from vad_helpers.metrics.catalog import METRICS
from vad_helpers.pages import controls, provenance
from vad_helpers.pages.conclusions import CONCLUDING, Conclusions, incomplete
from vad_helpers.pages.spelling import NOTHING, count, folded, percent, with_interval
from vad_helpers.store import faithfulness, networks, published, study, tables
from vad_helpers.store.published import Published
from vad_helpers.tables.resampling import LEVEL
from vad_helpers.viz import charts

FOLDER = "results/ucsd"
ABSENT = "*No results are published in this copy of the project.*\n"
COSTS = {
    "model_calls": "model calls",
    "baseline_seconds": "of the seconds, baseline",
    "superpixel_seconds": "of the seconds, superpixels",
}
FRAMES = ("worst", "n_frames")
BROKEN_DOWN = (
    ("human_centric", "auc"),
    ("model_centric", "deletion"),
    ("model_centric", "area_matched_deletion"),
)
RANKED = (
    ("human_centric", "clip", "iou"),
    ("human_centric", "clip", "auc"),
    ("human_centric", "clip", "motion_auc"),
    ("human_centric", "frame", "auc"),
    ("model_centric", "clip", "deletion"),
    ("model_centric", "clip", "area_matched_deletion"),
    ("robustness", "clip", "cv"),
)


def pages(root: Path) -> dict[str, str | bytes]:
    """Make every file that the results page and the cards include.

    Parameters
    ----------
    root : Path
        The project's folder.

    Returns
    -------
    dict
        File name in `book/_run/` -> content (text, or bytes of a PNG).

    Raises
    ------
    InputError
        If the published results are damaged.
    """
    folder = root / FOLDER
    if not published.exists(folder):
        absent = {f"results_{name}.md": ABSENT for name in [*FRAGMENTS, *CONCLUDING]}
        return absent | {"results_front.md": ""}  # the front page is silent on what is not there
    return fragments(published.read(folder))


def fragments(found: Published) -> dict[str, str | bytes]:
    """Make the files from a study; see `pages`."""
    concluded = Conclusions(study.judged(found), study.sensitivities(found))
    contents: dict[str, str | bytes] = {
        f"results_{name}.md": make(found) for name, make in FRAGMENTS.items()
    }
    contents |= {f"results_{name}.md": make(found, concluded) for name, make in CONCLUDING.items()}
    contents |= {f"results_{name}.png": png for name, png in charts.pictures(found).items()}
    return contents | gallery_pictures(found)


def gallery_pictures(found: Published) -> dict[str, bytes]:
    """Read the pictures that are published, by the names under which the page shows them."""
    return {_figure_name(f): (found.folder / f["file"]).read_bytes() for f in found.figures}


def _figure_name(figure: dict[str, str]) -> str:
    return f"results_{Path(figure['file']).name}"


def banner(found: Published) -> str:
    """Say what the numbers come from, and how much of the study is in."""
    s, finished = found.settings, study.finished_clips(found)
    n_sequences = found.clips.set_index("clip_id").loc[finished, "sequence"].nunique()
    done = len(finished)
    wanted = s.get("study_clips") or len(found.clips)
    n_folds = int(s["n_folds"])
    size = " × ".join(map(str, s["frame_size"]))
    return (
        "```{admonition} What these results were made from\n"
        f"Profile `{found.manifest['profile']}`: {len(found.folds)} of {n_folds} folds, "
        f"{done} of {wanted} clips measured in every row, of "
        f"{n_sequences} sequences, each explained by a network that never saw it; "
        f"{s['n_frames']} frames of {size} pixels a clip. All of them hold an anomaly: they are "
        f"drawn from the sequences with masks, balanced by scene{_at_most(s)}."
        f"{incomplete(found)}{_by_fold(found)} Brackets are {LEVEL:.0%} "
        "intervals that resample sequences, given these trained networks.\n```\n"
    )


def _at_most(settings: dict[str, Any]) -> str:
    most = settings.get("max_per_sequence")
    return f", at most {most} a sequence" if most else ""


def _by_fold(found: Published) -> str:
    """Clips of each fold that are measured, where some are not: they need not be a fair part."""
    if not incomplete(found):
        return ""
    done = study.finished_clips(found)
    folds = found.clips.groupby("fold")["clip_id"].agg(list)
    listed = ", ".join(
        f"{sum(clip in done for clip in clips)} of {len(clips)} clips of fold {fold}"
        for fold, clips in folds.items()
    )
    return (
        f" Measured so far: {listed}; the rest can differ. Means are over clips measured in every "
        "row, comparisons over all clips that both sides have."
    )


def performance(found: Published) -> str:
    """Accuracy and AUC of the networks, part by part, beside the paper's."""
    table = networks.performance(found)
    if table.empty:
        return NOTHING
    shown = _spelled_performance(table)
    paper = {"test clips of": "the paper", "scene": "both", "clips": "–", "sequences": "–",
             "anomalous": "not stated", "accuracy": f"{networks.PAPER_PERFORMANCE['accuracy']:.4f}",
             "ROC AUC": f"{networks.PAPER_PERFORMANCE['auc']:.4f}"}  # fmt: skip
    shown.loc[len(shown)] = paper
    return viz.table_html(shown, index=False) + charts.figure(found, "history")


def _spelled_performance(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({
        "test clips of": table["part"],
        "scene": table["scene"],
        "clips": table["n_clips"].map(count),
        "sequences": table["n_sequences"].map(count),
        "anomalous": (table["n_anomalous"] / table["n_clips"]).map(percent),
        "accuracy": [with_interval(*v) for v in
                     table[["accuracy", "accuracy_low", "accuracy_high"]].to_numpy()],
        "ROC AUC": [with_interval(*v) for v in
                    table[["auc", "auc_low", "auc_high"]].to_numpy()],
    })  # fmt: skip


def alternative_performance(found: Published) -> str:
    """Accuracy and AUC under other ways to cut and to split, beside the study's."""
    table = networks.alternative_performance(found)
    if table.empty:
        return NOTHING
    shown = _spelled_performance(table)
    names = table["alternative"].replace("", "the study").str.replace("_", " ")
    shown.insert(0, "cut and split", names)
    return viz.table_html(shown, index=False)


def trained_again(found: Published) -> str:
    """Networks that the same recipe and seed gave, fold by fold."""
    table = networks.trained_again(found)
    if table.empty:
        return ""
    shown = _spelled_performance(table)
    shown.insert(1, "computed on", table["device"] + ", " + table["train_precision"].fillna("–"))
    shown.insert(2, "in the study", table["in_study"].map({True: "yes", False: "replaced"}))
    return (
        "Where a fold was trained again with the same recipe, seed and data, the new network took "
        "its place in the study whatever it scored. The networks of a fold differ by rounding, "
        "which depends on processor, precision and versions of libraries; intervals do not hold "
        "this part of the uncertainty:\n\n"
        + viz.table_html(shown.drop(columns="scene"), index=False)
    )


def table_one(found: Published) -> str:
    """The paper's Table I beside ours."""
    if found.human_centric.empty:
        return NOTHING
    table = tables.first_table(study.summary(found, "human_centric"))
    return _beside_paper(table) + charts.figure(found, "localisation")


def table_two(found: Published) -> str:
    """The paper's Table II beside ours."""
    if found.model_centric.empty or found.robustness.empty:
        return NOTHING
    names = ("model_centric", "robustness", "runtime")
    table = tables.second_table({name: study.summary(found, name) for name in names})
    pictures = [charts.figure(found, name) for name in ("curves", "frames", "cost")]
    return _beside_paper(table) + f"\n{provenance.seconds_note(found)}\n" + "".join(pictures)


def _beside_paper(table: pd.DataFrame) -> str:
    wide = tables.wide(table).rename(columns={"this run": "ours"}, level=1)
    n = int((table["n"] + table["n_undefined"]).max())
    words = f"{n} clips of {int(table['n_groups'].max())} sequences.\n"
    return viz.table_html(wide) + f"\n{words}"


def sampled(found: Published) -> str:
    """What maps of superpixels are made of, and maps that are all zero."""
    table = study.sampled_maps(found)
    if table.empty:
        return NOTHING
    shown = pd.DataFrame({
        "row": table["label"], "maps": table["n"], "model calls": table["model_calls"].map(count),
        "superpixels": table["n_segments"].map(count),
        "of them not zero": table["n_nonzero"].map(count), "maps all zero": table["n_all_zero"],
    })  # fmt: skip
    return viz.table_html(shown, index=False)


def costs(found: Published) -> str:
    """What Table II leaves out: calls and parts of the cost, the worst frame, frames that count."""
    steady = study.summary(found, "robustness")
    steady = steady[steady["metric"].isin(FRAMES)]
    if steady.empty or found.explanations.empty:
        return NOTHING
    medians = found.explanations.groupby("method")[list(COSTS)].median()
    medians = medians.rename(index=study.labels(found), columns=COSTS)
    medians["model calls"] = medians["model calls"].map(count)
    medians = medians.map(lambda value: value if isinstance(value, str) else f"{value:.3f}")
    table = controls.means(steady).join(medians).fillna("–")
    return folded("Worst frame, model calls, parts of the seconds", viz.table_html(table))


def scenes(found: Published) -> str:
    """Scores in each scene, where the network was right, and clip AUC in each sequence."""
    parts = [_by_part(found, *key) for key in BROKEN_DOWN]
    if not any(parts):
        return NOTHING
    sequences = study.breakdown(found, "sequence")
    if sequences.empty:
        return "\n".join(parts)
    wide = sequences.pivot(index=["part", "clips"], columns="label", values="mean")
    wide = wide[list(sequences["label"].unique())].reset_index("clips")
    title = f"Clip AUC in each of the {len(wide)} sequences"
    return "\n".join(parts) + folded(title, viz.table_html(wide.rename_axis("sequence")))


def _by_part(found: Published, table: str, metric: str) -> str:
    """One metric by scene and by what the network says, a line a row."""
    parts = [study.breakdown(found, by, table=table, metric=metric) for by in ("scene", "call")]
    joined = pd.concat([part for part in parts if len(part)] or parts)
    if joined.empty:
        return ""
    joined["cell"] = [with_interval(*line, digits=3) for line in
                      joined[["mean", "low", "high"]].to_numpy(float)]  # fmt: skip
    joined["heading"] = [
        f"{part}, {count(n)} clips of {count(n_groups)} sequences"
        for part, n, n_groups in joined[["part", "clips", "n_groups"]].to_numpy()
    ]
    wide = joined.pivot(index="label", columns="heading", values="cell")
    wide = wide.loc[joined["label"].unique(), joined["heading"].unique()]
    about = METRICS[metric]
    return f"**{about.name}** ({about.direction} is better)\n\n{viz.table_html(wide)}"


def ranks(found: Published) -> str:
    """How firm each method's rank is, a column a metric."""
    columns, missing = {}, {}
    for table, level, metric in RANKED:
        firm = study.firm_ranks(found, table, level, metric)
        if len(firm):
            name = METRICS[metric].name + (f", {level}" if metric in ("iou", "auc") else "")
            name += f" ({firm['n'].iloc[0]} clips)"
            missing[name] = study.unranked(found, table, level, metric)
            columns[name] = firm.set_index("label").apply(_spell_rank, axis=1)
    if not columns:
        return NOTHING
    order = [study.labels(found)[m] for m in study.methods(found)]
    wide = pd.DataFrame(columns)
    notes = [f"{name}: {', '.join(rows)}" for name, rows in missing.items() if rows]
    return viz.table_html(wide.reindex([k for k in order if k in wide.index]).fillna("–")) + (
        f"\nNot ranked, having too few clips: {'; '.join(notes)}.\n" if notes else ""
    )


def _spell_rank(line: pd.Series) -> str:
    if pd.isna(line["rank_low"]):
        return f"{line['rank']:.0f}"
    return f"{line['rank']:.0f} [{line['rank_low']:.0f}–{line['rank_high']:.0f}], first in " + (
        percent(line["p_best"])
    )


def extras(found: Published) -> str:
    """Tables that were measured beside: ablation of the recipe, convergence."""
    shown = {
        "ablation": (
            "What the training recipe owes to its parts, on the validation part",
            _ablation,
        ),
        "convergence": (
            "How the maps of two seeds correlate as samples double",
            lambda table: _doubling(table, study.labels(found)),
        ),
    }
    parts = [
        f"**{title}**\n\n{viz.table_html(spell(found.extras[name]), index=False, digits=4)}"
        for name, (title, spell) in shown.items()
        if name in found.extras
    ]
    return "\n".join(parts) or NOTHING


def _ablation(table: pd.DataFrame) -> pd.DataFrame:
    """A line a network: the recipe first, then what costs most AUC."""
    table = table.assign(changed=table["recipe"] != "the recipe")
    table = table.sort_values(["changed", "auc_difference"], kind="stable")
    scores = {name: [with_interval(*v) for v in
                     table[[key, f"{key}_low", f"{key}_high"]].to_numpy()]
              for key, name in (("accuracy", "accuracy"), ("auc", "ROC AUC"))}  # fmt: skip
    parts = ["auc_difference", "auc_difference_low", "auc_difference_high"]
    differences = table[parts].set_axis(["difference", "low", "high"], axis=1)
    shown = pd.DataFrame({
        "recipe": table["recipe"],
        "fold": table["fold"],
        "epoch chosen": (table["best_epoch"] + 1).map(count) + " of " + table["epochs"].map(count),
        **scores,
        "AUC minus the recipe's": differences.apply(viz.spell_difference, axis=1),
    })  # fmt: skip
    shown.loc[~table["changed"], "AUC minus the recipe's"] = "–"
    return shown


def _doubling(table: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """A line a method and clip, a column a number of samples."""
    table = table.assign(method=table["method"].replace(labels))
    wide = table.pivot(index=["method", "fold", "clip_id"], columns="n_samples",
                       values="correlation")  # fmt: skip
    wide = wide.map(lambda value: "–" if pd.isna(value) else f"{value:.3f}")
    return (
        wide.rename(columns=lambda n: f"{n} samples")
        .reset_index()
        .rename(columns={"clip_id": "clip"})
    )


def own_start(found: Published) -> str:
    """Say beside the commands which weights the study itself started from."""
    name = found.settings.get("init_weights")
    if not name:
        return "The study itself started from random weights: leave `init_weights` out for that.\n"
    return (
        f"The study itself used `-p init_weights={Path(name).name}`; the file that the commands "
        f"name stands for yours.{_own_networks(found)}\n"
    )


def _own_networks(found: Published) -> str:
    """Say what can be repeated to the bit where training started from a part of a checkpoint."""
    if not any(entry["left_fresh"] for entry in found.manifest["folds"].values()):
        return ""
    weights = "the published network alone" if _has_network(found) else "nothing"
    return (
        " The study's is a part of a checkpoint, as said under *the networks*, and is not "
        f"distributed here: a whole one gives other networks, and {weights} repeats to the bit."
    )


def _has_network(found: Published) -> bool:
    return any(name.endswith(".safetensors") for name in found.manifest["files"])


def gallery(found: Published) -> str:
    """Pictures of a few explained clips."""
    places, asked = study.localised(found), faithfulness.gaps(found).set_index("clip_id")
    parts = [
        f"```{{figure}} _run/{_figure_name(figure)}\n:alt: {figure['alt']}\n\n"
        f"{figure['caption']}{_role(figure['file'])}{_place(places, figure['clip_id'])}"
        f"{_sides(found, figure['clip_id'])}{_asked(asked, figure['clip_id'])} Frames: UCSD "
        "{cite}`mahadevan2010anomaly`.\n```\n"
        for figure in found.figures
    ]
    return "\n".join(parts) or "*No pictures are published.*\n"


def _place(places: pd.DataFrame, clip_id: str) -> str:
    """How well a clip is localised, beside the others; nothing where a method lacks it."""
    if clip_id not in places.index:
        return ""
    line = places.loc[clip_id]
    return (
        f" Clip AUC, mean of the methods: {line['auc']:.3f}, "
        f"place {line['place']:.0f} of {len(places)} clips."
    )


def _role(file: str) -> str:
    """Why a picture was drawn, where its caption does not say it."""
    role = Path(file).stem.split("-")[0]
    return f" When pictures were drawn, localised {role}." if role in ("worst", "best") else ""


def _sides(found: Published, clip_id: str) -> str:
    """Which method localises the clip best, which worst, and how frame difference does."""
    rows = [*study.methods(found), "motion"]
    wide = study.wide_scores(found, "human_centric", "clip", "auc", rows)
    wide = wide.rename(columns=study.labels(found)).droplevel("sequence")
    if clip_id not in wide.index:
        return ""
    motion = study.labels(found).get("motion")
    line = wide.loc[clip_id].dropna()
    methods = line.drop(motion, errors="ignore")
    if len(methods) < 2:
        return ""
    ends = [f"{word} {methods[key]:.3f} ({key})" for word, key in
            (("best", methods.idxmax()), ("worst", methods.idxmin()))]  # fmt: skip
    if motion in line:
        ends.append(f"{motion.lower()} {line[motion]:.3f}")
    return f" Of it: {', '.join(ends)}."


def _asked(asked: pd.DataFrame, clip_id: str) -> str:
    """What the network says of a clip and of its baseline."""
    if clip_id not in asked.index:
        return ""
    line = asked.loc[clip_id]
    missed = ": the network misses it" if line["p_clip"] < study.CALLED_FROM else ""
    return f" p(x) {line['p_clip']:.3f}{missed}; p(x_b) {line['p_baseline']:.3f}."


FRAGMENTS: dict[str, Callable[[Published], str]] = {
    "banner": banner,
    "performance": performance,
    "trained_again": trained_again,
    "start": provenance.initial_weights,
    "recipe": provenance.recipe,
    "alternatives": alternative_performance,
    "table1": table_one,
    "table2": table_two,
    "costs": costs,
    "sampled": sampled,
    "motion": controls.motion,
    "flatness": controls.flatness,
    "agreement": controls.agreement,
    "absolute": controls.absolute,
    "converged": controls.converged,
    "varied": controls.varied,
    "by_gap": controls.by_gap,
    "other_baselines": controls.other_baselines,
    "probabilities": controls.probabilities,
    "scenes": scenes,
    "ranks": ranks,
    "extras": extras,
    "gallery": gallery,
    "own_start": own_start,
    "alternative_runs": provenance.alternatives,
    "provenance": provenance.folds,
    "network": provenance.network,
    "settings": provenance.settings,
}

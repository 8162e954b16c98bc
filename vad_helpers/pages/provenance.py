"""What published results were made from and on: videos, weights, machines, precision, settings."""

from __future__ import annotations

import dataclasses
import json
import re

import pandas as pd

from vad_helpers import viz
from vad_helpers.attribution.registry import METHODS
from vad_helpers.metrics.runtime import alike_timed
from vad_helpers.model.recipe import TrainingSpec
from vad_helpers.pages.spelling import folded
from vad_helpers.store import study
from vad_helpers.store.origin import weights_origin
from vad_helpers.store.published import Published


def seconds_note(found: Published) -> str:
    """Say how the seconds were taken, in which precision each row's maps are computed, and of how
    many maps the seconds are left out, as they do not compare."""
    timed = study.timed_alike(found)
    kinds = set(timed.loc[timed["metric"] == "seconds", "source"])
    words = {
        frozenset({"recorded"}): "Seconds were recorded once for each map, while it was made.",
        frozenset({"measured"}): "Seconds are medians of repeats on one clip.",
    }.get(frozenset(kinds), "Seconds were recorded with each map; some are medians of repeats.")
    words += _conditions(timed, alike_timed(found.explanations))
    left_out = _left_out(study.evened(found), alike_timed(found.explanations))
    if left_out and not timed.empty:
        maps = "1 map" if left_out == 1 else f"{left_out} maps"
        words += f" Those of {maps} are left out: made on another machine or in other batches."
    names, shown = study.labels(found), alike_timed(found.explanations)
    shown = shown[shown["method"].isin(study.main_rows(found))]
    by_row = shown.groupby("method", sort=False)["precision"]
    of_row = by_row.agg(lambda used: " and ".join(sorted(set(used.dropna()))))
    if of_row.empty:
        return words
    if of_row.nunique() < 2:
        return f"{words} Those shown are of maps in {of_row.iloc[0]}.{_elsewhere(found, of_row)}"
    usual = of_row.mode()[0]
    others = [f"{names[method]} in {p}" for method, p in of_row.items() if p != usual]
    return (
        f"{words} Those shown are of maps in {usual}, but for {', '.join(others)}: seconds compare "
        f"within one precision.{_elsewhere(found, of_row)}"
    )


def _conditions(timed: pd.DataFrame, made: pd.DataFrame) -> str:
    """Say on how many clips, on which machine and in which batches seconds were taken."""
    if timed.empty:
        return ""
    machine, batch = made[["machine", "batch_size"]].iloc[0]
    where = "" if pd.isna(machine) else f" on {one_core(machine)}"
    batches = "" if pd.isna(batch) or batch == 1 else f", in batches of {batch:.0f}"
    n, groups = timed["clip_id"].nunique(), timed["sequence"].nunique()
    clips, sequences = (f"{k} {word}" + ("" if k == 1 else "s")
                        for k, word in ((n, "clip"), (groups, "sequence")))  # fmt: skip
    return f" They are of {clips} of {sequences}{where}{batches}."


def one_core(machine: str) -> str:
    """Write the cores of a machine in words: one is no plural."""
    return re.sub(r"\b1 cores\b", "1 core", machine)


def _elsewhere(found: Published, of_row: pd.Series) -> str:
    """Say which folds' maps are in another precision than those whose seconds are shown."""
    known = found.explanations.dropna(subset="precision")
    known = known[known["method"].isin(of_row.index)]
    other = known[known["precision"] != known["method"].map(of_row)]
    share = other.groupby("fold").size() / known.groupby("fold").size()
    listed = [
        f"fold {fold} ({' and '.join(sorted(set(other.loc[other['fold'] == fold, 'precision'])))})"
        for fold in share.index[share > 0.5]
    ]
    if not listed:
        return ""
    return (
        f" Most maps of {' and '.join(listed)} are in another precision: their scores are in all "
        "means, their seconds are not."
    )


def _left_out(found: Published, kept: pd.DataFrame) -> int:
    """Count the maps of the rows with seconds in Table II that are not among those kept."""
    timed = found.rows.loc[found.rows["kind"] != "reference", "method"]
    made = found.explanations
    made = made[made["method"].isin(set(timed) & set(study.main_rows(found)))]
    keys = pd.MultiIndex.from_frame(kept[["clip_id", "method"]])
    return int((~pd.MultiIndex.from_frame(made[["clip_id", "method"]]).isin(keys)).sum())


def alternatives(found: Published) -> str:
    """Say on how many clips, in what and when each alternative was measured."""
    table = found.extras.get("alternative_runs")
    if table is None:
        return ""
    entries = found.manifest["folds"]
    own = {int(fold): entry["precision"] for fold, entry in entries.items()}
    sentences = []
    for run in table.itertuples():
        name = run.alternative.replace("_", " ")
        beside = own.get(run.fold, run.precision)
        where = f"fold {run.fold}, scores in {run.precision}, {run.device}, {run.date}"
        clips = f"{run.n_clips} clip" + ("" if run.n_clips == 1 else "s")
        sentence = f"“{name}” was measured on {clips} ({where})"
        sentences.append(
            sentence
            + ("." if beside == run.precision else f"; the study's scores are in {beside}.")
        )
    return "\n" + one_core(" ".join(sentences)) + "\n"


def beside(found: Published, name: str) -> str:
    """Say in which precision an alternative was scored, where the study's is another one."""
    table = found.extras.get("alternative_runs")
    if table is None:
        return ""
    runs = table[table["alternative"] == name]
    used, entries = set(runs["precision"]), found.manifest["folds"]
    own = {entries[str(fold)]["precision"] for fold in runs["fold"]}
    if not used or used == own:
        return ""
    return f" (in {' and '.join(sorted(used))}, the study in {' and '.join(sorted(own))})"


def recipe(found: Published) -> str:
    """The training recipe beside the paper's."""
    s, paper = found.settings, TrainingSpec()
    lines = {
        "starts from": ("ImageNet, inflated", s.get("init_weights") or "random weights"),
        "epochs": (paper.epochs, s["epochs"]),
        "clips an epoch": ("all, once", s["epoch_clips"] or "all, once"),
        "clips a batch": (paper.batch_size, s["batch_size"]),
        "learning rate": tuple(_rate(spec) for spec in (dataclasses.asdict(paper), s)),
        "weight decay": (paper.weight_decay, s["weight_decay"]),
        f"stages before {s['early_end']}": ("trained", _early(s["early_lr"])),
        "averaged weights": ("no", f"decay {s['average']} a step" if s["average"] else "no"),
        "label smoothing": ("no", s["label_smoothing"] or "no"),
        "augmentation": ("random crops and rescaling", _augmentation(s["augmentation"])),
    }
    table = pd.DataFrame.from_dict(lines, orient="index", columns=["the paper", "here"])
    return viz.table_html(table.astype(str))


def _rate(settings: dict) -> str:
    """Write the highest learning rate, and how it falls."""
    kind = settings.get("lr_schedule", settings.get("schedule"))
    if kind == "onecycle":
        return f"{settings['lr']:g}, one cycle"
    return f"{settings['lr']:g}, × {settings['lr_gamma']:g} every {settings['lr_step']} epochs"


def _early(factor: float) -> str:
    if factor == 1:
        return "trained"
    return "frozen" if factor == 0 else f"at {factor:g} of the rate"


def _augmentation(given: dict) -> str:
    """Write what is done to clips: a switch by its name, an amount behind it."""
    used = [name if value is True else f"{name} {value}" for name, value in given.items() if value]
    return ", ".join(used) or "none"


def folds(found: Published) -> str:
    """Say on what, with what and how long each fold was computed."""
    lines = []
    scored = pd.Series(study.finished_clips(found)).map(found.clips.set_index("clip_id")["fold"])
    scored = scored.value_counts()
    for fold, entry in found.manifest["folds"].items():
        explained = found.explanations[found.explanations["fold"] == int(fold)]
        spent = {k: v for k, v in entry["seconds"].items() if k in ("training", "explanations")}
        versions = ", ".join(f"{name} {v}" for name, v in entry["versions"].items())
        lines.append({
            "fold": fold, "device": entry["device"],
            **{name: f"{value / 60:.0f} min" for name, value in spent.items()},
            "training in": entry["train_precision"], "scores in": entry["precision"],
            "clips": f"{scored.get(int(fold), 0)} of {entry['n_clips']}",
            "maps on": _each(explained["machine"].map(one_core, na_action="ignore")),
            "clips a batch": _each(explained["batch_size"]),
            "network": entry["weights_sha256"][:12], "data": entry["data"][:18],
            "date": entry["date"], "versions": versions,
        })  # fmt: skip
    return viz.table_html(pd.DataFrame(lines).fillna("–"), index=False, wrap=True)


def _each(values: pd.Series) -> str:
    """Write each value once, the most frequent first."""
    return ", ".join(map(str, values.value_counts().index)) or "–"


def network(found: Published) -> str:
    """Say what network is published, and what it started from."""
    files = [n for n in found.manifest["files"] if n.endswith(".safetensors")]
    start = initial_weights(found)
    if not files:
        return f"No network is published with these results. {start}\n"
    sizes = ", ".join(
        f"`results/{found.folder.name}/{n}` ({(found.folder / n).stat().st_size / 1e6:.1f} MB)"
        for n in files
    )
    return f"Published: {sizes}. {start}\n"


def initial_weights(found: Published) -> str:
    """Say what training started from, whose it is, and what of it was missing."""
    name = found.settings.get("init_weights")
    if not name:
        return "Training started from random weights."
    fresh = sorted({n for entry in found.manifest["folds"].values() for n in entry["left_fresh"]})
    noun = "convolution" if len(fresh) == 1 else "convolutions"
    lacking = f" It lacks {len(fresh)} {noun}, which started at random: " if fresh else ""
    entries = found.manifest["folds"].values()
    digests = {entry.get("initial_weights_sha256") for entry in entries} - {None}
    known = "".join(f", SHA-256 `{digest}`" for digest in sorted(digests))
    return (
        f"Training started from `{name}` ({weights_origin(name)}{known}).{lacking}"
        + ", ".join(f"`{n}`" for n in fresh)
        + ("." if fresh else "")
    )


def settings(found: Published) -> str:
    """All parameters that the folds share, and every row's settings with their defaults."""
    lines = pd.DataFrame({"value": {k: str(v) for k, v in found.settings.items()}})
    return folded("All parameters", viz.table_html(lines, wrap=True)) + _rows(found)


def _rows(found: Published) -> str:
    """What every map was made with: where a row says nothing, the method's default."""
    known = found.rows[found.rows["attribution"].isin(list(METHODS))]
    if known.empty:
        return ""
    given = [METHODS[line.attribution].settings | json.loads(line.settings)
             for line in known.itertuples()]  # fmt: skip
    shown = pd.DataFrame({
        "row": known["label"], "baseline": known["baseline"], "weights": known["weights"],
        "settings": [", ".join(f"{k} {v}" for k, v in settings.items()) or "–"
                     for settings in given],
    })  # fmt: skip
    return folded("Settings of every row", viz.table_html(shown, index=False, wrap=True))

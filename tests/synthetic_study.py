"""Tables of a study with known effects, for tests of what is concluded from them."""

import dataclasses
import itertools
import json

import numpy as np
import pandas as pd

from vad_helpers.store import published
from vad_helpers.store.cache import file_digest

FAMILIES = {
    "ig": "gradient",
    "ig_smoothgrad": "gradient",
    "guided_backprop": "gradient",
    "gradient_shap": "gradient",
    "kernel_shap": "perturbation",
    "lime": "perturbation",
    "occlusion_lp": "perturbation",
    "occlusion_sp": "perturbation",
}
REFERENCES = ("random", "centre", "motion", "constant", "random_weights")
VARIANTS = {"lime_converged": "lime", "kernel_shap_converged": "kernel_shap",
            "ig_black": "ig", "lime_black": "lime", "ig_strong_blur": "ig",
            "ig_abs_channels": "ig", "lime_alpha_1e-2": "lime"}  # fmt: skip


def by_method(*values):
    """Name one value a method, in the order of `FAMILIES`."""
    return dict(zip(FAMILIES, values, strict=True))


# Means under which every claim of the paper holds.
CLIP = by_method(0.7, 0.75, 0.62, 0.68, 0.45, 0.8, 0.58, 0.5)
FRAME = by_method(0.8, 0.8, 0.62, 0.6, 0.4, 0.45, 0.5, 0.5)
DELETION = by_method(0.3, 0.3, 0.1, 0.3, 0.45, 0.7, 0.7, 0.45)
INSERTION = by_method(0.5, 0.5, 0.8, 0.5, 0.2, 0.2, 0.2, 0.2)
CV = by_method(0.2, 0.2, 0.2, 0.2, 0.8, 0.45, 0.45, 0.5)
LEAK = by_method(0.2, 0.2, 0.7, 0.4, 0.5, 0.5, 0.5, 0.5)
MAUC = dict.fromkeys(FAMILIES, 0.6)
SECONDS = by_method(10.0, 50.0, 0.5, 2.0, 3.0, 3.2, 8.0, 600.0)
HOLD = {
    ("human_centric", "clip", "iou"): CLIP,
    ("human_centric", "clip", "f1"): CLIP,
    ("human_centric", "clip", "auc"): CLIP,
    ("human_centric", "clip", "motion_auc"): {m: 1 - v for m, v in LEAK.items()},
    ("human_centric", "clip", "leak"): LEAK,
    ("human_centric", "frame", "iou"): FRAME,
    ("human_centric", "frame", "f1"): FRAME,
    ("human_centric", "frame", "auc"): FRAME,
    ("model_centric", "clip", "deletion"): DELETION,
    ("model_centric", "clip", "insertion"): INSERTION,
    ("model_centric", "clip", "area_matched_deletion"): DELETION,
    ("model_centric", "clip", "area_matched_insertion"): INSERTION,
    ("model_centric", "clip", "area_deletion"): INSERTION,
    ("model_centric", "clip", "area_insertion"): DELETION,
    ("model_centric", "clip", "mean_area"): DELETION,
    ("robustness", "clip", "mauc"): MAUC,
    ("robustness", "clip", "stdauc"): CV,
    ("robustness", "clip", "cv"): CV,
    ("robustness", "clip", "worst"): MAUC,
}


def reverse(means):
    """Means under which every claim fails: what was high is low."""
    return {key: {m: 1 - v for m, v in values.items()} for key, values in means.items()}


def level_out(means):
    """Means under which nothing differs."""
    return {key: dict.fromkeys(values, 0.5) for key, values in means.items()}


def complete(means):
    """Add references and variants to means: a variant follows its method, 0.1 below with black."""
    found = {}
    for key, values in means.items():
        references = dict.fromkeys(REFERENCES, 0.5)
        if key[2] in ("auc", "motion_auc"):
            references["motion"] = 0.95
        if key[2] == "deletion":
            references["constant"] = 0.9
        variants = {
            name: values[parent] - (0.1 if name.endswith("_black") else 0)
            for name, parent in VARIANTS.items()
        }
        found[key] = {**values, **references, **variants}
    return found


def sequences(n_sequences):
    scenes = itertools.cycle(("ped1", "ped2"))
    return [f"{scene}/Test{i:03d}" for i, scene in zip(range(n_sequences), scenes, strict=False)]


def clip_table(n_sequences=10, per_sequence=2, n_folds=2):
    lines = [
        (i % n_folds, f"{name.replace('/', '-')}-{k}", name.split("/")[0], name, 20 * k, 20, 1)
        for i, name in enumerate(sequences(n_sequences))
        for k in range(per_sequence)
    ]
    return pd.DataFrame(lines, columns=list(published.TABLES["clips"]))


def score_tables(means, clips, *, noise=0.02, seed=0):
    """Tidy scores by table: each method's mean plus noise of its own on every clip."""
    rng = np.random.default_rng(seed)
    lines = {"human_centric": [], "model_centric": [], "robustness": [], "controls": []}
    for (table, level, metric), values in means.items():
        for method, mean in values.items():
            for clip in clips.itertuples():
                value = mean + noise * rng.standard_normal()
                key = (clip.fold, clip.clip_id, clip.sequence, method, level, metric)
                lines[table].append((*key, value))
    columns = list(published.TABLES["human_centric"])
    return {table: pd.DataFrame(found, columns=columns) for table, found in lines.items()}


def about_rows():
    """What the rows are."""
    lines = [(m, m.upper(), "method", family, m, "{}", "blur", "trained")
             for m, family in FAMILIES.items()]  # fmt: skip
    for name, parent in VARIANTS.items():
        baseline = "black" if name.endswith("_black") else "blur"
        baseline = "strong_blur" if name.endswith("strong_blur") else baseline
        settings = "{}" if baseline != "blur" else '{"changed": 1}'
        line = (name, name.upper(), "variant", FAMILIES[parent], parent, settings, baseline)
        lines.append((*line, "trained"))
    lines += [(r, r.upper(), "reference", "reference", "", "{}", "", "") for r in REFERENCES]
    return pd.DataFrame(lines, columns=list(published.TABLES["rows"]))


SAMPLED = ("lime", "kernel_shap")


def explanation_table(clips, seconds=SECONDS, *, noise=0.02, seed=0):
    rng = np.random.default_rng(seed)
    lines = [
        {"fold": clip.fold, "clip_id": clip.clip_id, "sequence": clip.sequence, "method": method,
         "seconds": value * (1 + noise * rng.standard_normal()), "baseline_seconds": 0.1,
         "superpixel_seconds": 0.1, "model_calls": 25,
         **dict.fromkeys(("n_segments", "n_nonzero"), 15 if method in SAMPLED else np.nan),
         "all_zero": False, "precision": "fp32" if method == "lime" else "bf16",
         "machine": "CPU, 1 cores", "batch_size": 2}
        for clip in clips.itertuples()
        for method, value in seconds.items()
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=list(published.TABLES["explanations"]))


def probabilities(scored, clips, *, gap=0.4):
    """Add p(x) and p(x_b) of every row to the scores of faithfulness."""
    table = scored["model_centric"]
    base = table[table["metric"] == "deletion"]
    extra = [
        base.assign(metric="p_clip", value=0.95),
        base.assign(metric="p_baseline", value=0.95 - gap),
    ]
    return scored | {"model_centric": pd.concat([table, *extra], ignore_index=True)}


def predictions(n_sequences=10, n_folds=2, *, separation=2.0, seed=0):
    rng = np.random.default_rng(seed)
    lines = []
    for i, name in enumerate(sequences(n_sequences)):
        for k in range(8):
            label = k % 2
            p = 1 / (1 + np.exp(-(separation * (2 * label - 1) + rng.standard_normal())))
            for split, fold in (("test", i % n_folds), ("val", (i + 1) % n_folds)):
                key = (fold, f"{name.replace('/', '-')}-{k}", name.split("/")[0], name)
                lines.append((*key, split, label, p))
    return pd.DataFrame(lines, columns=list(published.TABLES["predictions"]))


def curves(scored):
    text = published.spell_curve(np.arange(6) / 5)
    names = ("threshold_deletion_curve", "threshold_insertion_curve", "threshold_areas",
             "area_deletion_curve", "area_insertion_curve", "area_area_axis")  # fmt: skip
    pairs = scored["model_centric"][["fold", "clip_id", "method"]].drop_duplicates()
    lines = [(*pair, name, text) for pair in pairs.itertuples(index=False) for name in names]
    return pd.DataFrame(lines, columns=list(published.TABLES["curves"]))


def frame_aucs(clips, methods):
    lines = [
        (clip.fold, clip.clip_id, method, frame, 0.6)
        for clip in clips.itertuples()
        for method in methods
        for frame in range(4)
    ]
    return pd.DataFrame(lines, columns=list(published.TABLES["frame_auc"]))


def history(folds):
    lines = [
        (fold, epoch, 1e-3, 0.5, 0.8, 0.5, 0.8, 0.9, 10.0, epoch == 1)
        for fold in folds
        for epoch in range(3)
    ]
    return pd.DataFrame(lines, columns=list(published.TABLES["history"]))


SETTINGS = {"n_resamples": 300, "seed": 0, "n_folds": 5, "n_clips": 40, "study_clips": 40,
            "n_frames": 20, "frame_size": [158, 237], "n_thresholds": 5, "area_steps": 5,
            "init_weights": "start.safetensors", "precision": "fp32", "epochs": 3,
            "mean": 0.5, "std": 0.5, "dataset": "ucsd", "stride": 20, "epoch_clips": None,
            "batch_size": 5, "lr": 4e-4, "lr_schedule": "onecycle", "weight_decay": 1e-4,
            "early_end": "Mixed_3b", "early_lr": 0.0, "average": 0.98, "label_smoothing": 0.0,
            "augmentation": {"flip": True, "scale": 1.1, "blur": 0}}  # fmt: skip


def write(folder, means=None, *, n_sequences=10, per_sequence=2, n_folds=2, drop=(), extras=None):
    """Write a published folder of a study with these means; give what reads back."""
    clips = clip_table(n_sequences, per_sequence, n_folds)
    scored = probabilities(score_tables(complete(means or HOLD), clips), clips)
    scored = {name: t[~t["method"].isin(drop)] for name, t in scored.items()}
    explained = explanation_table(clips)
    explained = explained[~explained["method"].isin(drop)]
    timed = explained.melt(["fold", "clip_id", "sequence", "method"],
                           ["seconds", "model_calls"], var_name="metric")  # fmt: skip
    rows = about_rows()
    tables = {
        "clips": clips,
        "predictions": predictions(n_sequences, n_folds),
        "history": history(range(n_folds)),
        "rows": rows[~rows["method"].isin(drop)],
        **scored,
        "runtime": timed.assign(level="clip", source="recorded"),
        "explanations": explained,
        "curves": curves(scored),
        "frame_auc": frame_aucs(clips, scored["robustness"]["method"].unique()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in {**tables, **(extras or {})}.items():
        columns = list(published.TABLES.get(name, table.columns))
        table[columns].to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    entry = {"data": "ucsd-0", "weights_sha256": "ab", "precision": "fp32",
             "train_precision": "bf16", "batch_size": 1,
             "initial_weights": "start.safetensors", "left_fresh": ["Mixed_4e.b1b"],
             "trained_weights": None,
             "versions": {"python": "3.11", "torch": "2.6"}, "device": "CPU",
             "seconds": {"training": 60.0}, "n_clips": 4, "date": "2026-01-01"}  # fmt: skip
    manifest = {
        "schema": published.SCHEMA,
        "profile": "ucsd",
        "settings": SETTINGS,
        "folds": {str(fold): entry for fold in range(n_folds)},
        "figures": [],
        "files": {path.name: file_digest(path) for path in sorted(folder.glob("*.csv"))},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return published.read(folder)


def moved(found, table, methods, metric, value):
    """Give some rows' clips one value of a metric."""
    scored = getattr(found, table)
    part = scored["method"].isin(methods) & scored["metric"].eq(metric)
    changed = scored.assign(value=scored["value"].mask(part, value))
    return dataclasses.replace(found, **{table: changed})


def with_replaced(found, *, fold):
    """The study, whose network of a fold took the place of one that says the opposite."""
    lines = found.predictions.query("split == 'test' and fold == @fold").drop(columns="split")
    about = {"weights_sha256": "earlier", "train_precision": "fp32", "device": "elsewhere",
             "date": "2026-01-01"}  # fmt: skip
    lines = lines.assign(p=1 - lines["p"], **about)
    return dataclasses.replace(found, extras={"replaced_predictions": lines})

"""What pages computed before the rebuild is what the functions of this room compute.

`golden/README.md` says what each file holds. Means, counts, intervals and p are equal to 1e-9.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vad_helpers import tables
from vad_helpers.tables.claims import ABSOLUTE, judged
from vad_helpers.tables.summary import PAPER_PERFORMANCE, timed

GOLDEN = Path(__file__).parent / "golden"

INTERVAL = {"n_sequences": "n_groups"}
MOVERS = {
    "mover_auc": "auc",
    "mover_leak": "leak",
    "n_movers": "n_moving",
    "n_anomalous_movers": "n_anomalous",
}
MOVED = ("table", "level", "metric")


def golden(name):
    table = pd.read_csv(GOLDEN / f"{name}.csv")
    return table.rename(columns=INTERVAL)


def as_now(table):
    """Scores of the controls are at a level of their own; run time is made of explanations."""
    if "table" not in table:
        return table
    control = table["table"] == "controls"
    table = table[~(control & (table["metric"] == "all_zero"))].copy()
    control = table["table"] == "controls"
    table.loc[control, "metric"] = table.loc[control, "metric"].map(MOVERS)
    table.loc[control, "level"] = "moving"
    return table.replace({"table": {"controls": "human_centric", "cost": "runtime"}})


def same(found, expected, keys, columns=None, *, extra=False):
    """Equal lines by keys: numbers to 1e-9, NaN for NaN, everything else the same."""
    columns = [c for c in expected if c not in keys] if columns is None else columns
    found, expected = (t.set_index(list(keys))[columns].sort_index() for t in (found, expected))
    assert found.index.is_unique and expected.index.is_unique
    if extra:
        found = found.reindex(expected.index)
    pd.testing.assert_frame_equal(
        found,
        expected,
        check_dtype=False,
        check_index_type=False,
        check_like=True,
        check_column_type=False,
        rtol=1e-9,
        atol=1e-9,
    )


def summaries(study, names, **given):
    return pd.concat([tables.summary(study, t, **given).assign(table=t) for t in names])


NUMBERS = ["mean", "low", "high", "n", "n_groups"]
KEYS = ["table", "level", "metric", "row"]
SCORED = ("human_centric", "model_centric", "robustness", "runtime")


def test_summary(study):
    parts = [tables.ranked(tables.summary(study, t)).assign(table=t) for t in SCORED]
    expected = as_now(golden("summary"))
    found = pd.concat(parts)
    columns = [*NUMBERS, "n_undefined", "n_all_zero"]
    same(found, expected, KEYS, columns, extra=True)
    same(found, expected, KEYS, ["direction", "rank", "paper"], extra=True)


@pytest.mark.parametrize("name", ["table_one", "table_two", "flatness"])
def test_tables_of_the_paper(study, name):
    expected = golden(name).drop(columns="table", errors="ignore")
    same(getattr(tables, name)(study), expected, ["level", "metric", "row"])


def test_performance(study):
    found, expected = tables.performance(study), golden("performance")
    expected["pooling"] = expected["pooling"].mask(expected["folds"] == "0 2 3 4", "untuned")
    same(found, expected, ["pooling", "folds", "scene", "metric"])
    val = tables.performance(study, split="val")
    both = pd.concat([found.assign(split="test"), val.assign(split="val")])
    both = both[both["pooling"] == "fold"].astype({"folds": int}).rename(columns={"folds": "fold"})
    wide = both.pivot(
        index=["fold", "split", "scene", "n", "n_anomalous"], columns="metric", values="mean"
    ).reset_index()
    wide.columns.name = None
    wide["scene"] = wide["scene"].replace("both", "all")
    same(wide, golden("performance_by_split"), ["fold", "split", "scene"])


def test_performance_of_alternatives(study):
    expected = golden("performance_alternatives").astype({"folds": str})
    names = {"study": study} | study.alternatives
    found = [tables.performance(s).assign(alternative=name) for name, s in names.items()]
    found = pd.concat(found).query("pooling == 'fold'")
    same(found, expected, ["alternative", "folds", "scene", "metric"], extra=True)
    again = golden("performance_trained_again")
    parts = [(study, True), (study.alternatives["trained_again"], False)]
    lines = []
    for part, in_study in parts:
        table = tables.performance(part).query("pooling == 'fold' and scene == 'both'")
        for fold, manifest in part.manifests.items():
            about = {
                "fold": fold,
                "network": manifest["weights_sha256"][:12],
                "in_study": in_study,
                "device": manifest["processor"],
                "date": manifest["date"],
                "train_precision": manifest["measured"]["train_precision"],
            }
            lines.append(table[table["folds"] == str(fold)].assign(**about))
    same(pd.concat(lines), again, ["fold", "network", "metric"], extra=True)


def test_breakdown(study):
    expected = golden("breakdown").replace(
        {"part": {"called anomalous": "anomalous", "missed": "normal"}}
    )
    for by, table in itertools.product(
        ("scene", "sequence", "call"), ("human_centric", "model_centric")
    ):
        part = expected[(expected["by"] == by) & (expected["table"] == table)]
        if len(part):
            by = "called" if by == "call" else by
            found = tables.breakdown(study, by, table, metrics=part["metric"].unique())
            same(found, part, ["part", "level", "metric", "row"], NUMBERS, extra=True)


def claim_studies(study):
    """Comparisons of every way to judge that the goldens have."""
    yield "all", tables.comparisons(study)
    yield "called_after", tables.comparisons(study, clips="hits")
    for how, name in (("samples", "converged"), ("absolute", "absolute"), ("refiled", "refiled")):
        *pair, numbers = tables.settled(study, how)
        for part, when in zip(pair, ("before", "after"), strict=True):
            yield f"{name}_{when}", tables.comparisons(part, numbers=numbers)


@pytest.fixture(scope="module")
def compared(study):
    return dict(claim_studies(study))


def test_every_comparison_of_every_claim(compared):
    expected = as_now(golden("comparisons")).rename(columns={"p_floor": "smallest_p"})
    expected["interval"] = expected["interval"].fillna("")
    expected["paper_agrees"] = (
        expected["paper_agrees"].astype(object).where(expected["paper_agrees"].notna(), None)
    )
    found = []
    for on, table in compared.items():
        number = table.groupby("claim").cumcount() + 1
        found.append(table.assign(on=on, comparison=number))
    found = pd.concat(found)
    # Many samples of IG or LIME on moving voxels stand where the study's own rows did.
    same(
        found.fillna({"first": "", "second": ""}),
        expected.fillna({"first": "", "second": ""}),
        ["on", "claim", "comparison"],
    )


def test_verdicts(study, compared):
    names = {
        "stands": "stands_after_holm",
        "at_equal_area": "verdict_at_equal_area",
        "n_comparisons": "n_deciding",
        "n_small": "n_below_alpha_after_holm",
        "n_printed": "n_printed_by_paper",
        "n_agree": "n_agreeing_with_paper",
    }
    found = pd.concat([judged(table).assign(on=on) for on, table in compared.items()])
    found = found.rename(columns=names).drop(columns="statement")
    found["stands_after_holm"] = found["stands_after_holm"].map(
        lambda stands: {True: "yes", False: "no"}.get(stands, "")
    )
    same(found, golden("claims").fillna(""), ["on", "claim"])
    again = golden("claims_again").rename(columns={"n_contrasts": "n_comparisons"})
    hows = {"called": "hits", "converged": "samples", "absolute": "absolute"}
    parts = [tables.claims_again(study, how).assign(study=n) for n, how in hows.items()]
    same(
        pd.concat(parts).drop(columns="statement"),
        again,
        ["study", "claim"],
        ["before", "after", "n_comparisons", "n_changed", "n_turned", "n", "n_groups"],
    )


DIFFERENCE = ["difference", "n", "n_groups", "p", "p_holm"]


def flipped(table):
    """Differences were of the reference minus the row."""
    table = table.assign(difference=-table["difference"], low=-table["high"], high=-table["low"])
    return table.replace({"interval": {"higher": "lower", "lower": "higher"}})


def test_against_references(study):
    expected = as_now(golden("against_references"))
    expected["metric"] = expected["metric"].replace(MOVERS)
    expected["family_metrics"] = expected["family_metrics"].replace(MOVERS)
    more = list(tables.many_samples(study))
    rows = {
        "methods": tables.methods(study),
        "many_samples": more,
        "methods_and_many_samples": [*tables.methods(study), *more],
    }
    keys = ["reference", "rows", "table", "level", "family_metrics"]
    for (reference, kind, table, level, metrics), part in expected.groupby(keys):
        found = tables.against(
            study, [reference], table, metrics.split(), level=level, rows=rows[kind]
        )
        found = found.rename(columns={"first": "row", "smallest_p": "smallest_p_corrected"})
        found["better"] = found["better"].replace({"first": "row", "second": "reference"})
        found = found.replace({"better": {"row": "row", "reference": "reference"}})
        part = flipped(part).fillna({"better": ""})
        same(
            found,
            part,
            ["metric", "row"],
            [*DIFFERENCE, "low", "high", "n_undefined", "smallest_p_corrected", "interval"],
        )
        # "reference" was the first side.
        assert (
            found.sort_values(["metric", "row"])["better"].tolist()
            == part.sort_values(["metric", "row"])["better"].tolist()
        )


def test_against_variants(study):
    expected = golden("variants").fillna({"better": ""})
    changes = {
        "random": {"weights": "random"},
        "black": {"baseline": "black"},
        "strong_blur": {"baseline": "strong_blur"},
    }
    found = pd.concat(
        [tables.against_variants(study, c).assign(suffix=s) for s, c in changes.items()]
    )
    found = found.rename(columns={"first": "row", "second": "variant"})
    found["better"] = found["better"].replace({"first": "row", "second": "variant"})
    same(found, expected.drop(columns="table"), ["suffix", "level", "metric", "row"])


RANK = ["rank", "rank_median", "rank_low", "rank_high", "p_best"]


def test_ranks(study):
    for (table, level, metric), part in golden("ranks").groupby(["table", "level", "metric"]):
        found = tables.rank_stability(study, table, level=level, metric=metric)
        same(found, part[part["rank"].notna()], ["row"], [*RANK, "n"])


def test_sensitivity(study):
    expected = golden("sensitivity").fillna({"flips": ""})
    named = {
        "abs_channels": "channels abs",
        "alpha_1e-2": "alpha 0.01",
        "seed_1": "seed 1",
        "alpha_1e-4": "alpha 0.0001",
        "converged": "n_samples",
        "sigma_0.1": "sigma 0.1",
        "grey_noise": "noise grey",
        "noisy_baseline": "noisy_baseline True",
        "black": "baseline black",
    }
    of_row = expected["how"] == "row"
    expected["alternative"] = expected["alternative"].replace(named)
    expected.loc[of_row, "alternative"] = expected.loc[of_row, "alternative"].replace(
        "strong_blur", "baseline strong_blur"
    )
    keys = ["choice", "how", "alternative", "table", "level", "metric"]
    same(tables.sensitivity(study), expected, keys)


def test_gaps(study):
    expected, found = golden("by_gap"), tables.gaps(study)
    by_gap = expected["metric"].str.endswith("_by_gap") & np.isinf(expected["min_gap"])
    assert expected.loc[by_gap, "mean"].isna().all(), "divided by a gap that can be 0"
    same(found, expected[~by_gap], ["metric", "min_gap", "row"], extra=True)
    beyond = golden("beyond_gap").set_index("row")
    above = found[found["min_gap"] == 0].pivot(index="row", columns="metric", values="mean")
    n_beyond = above["beyond_gap"] * beyond["n"]
    pd.testing.assert_series_equal(
        n_beyond[beyond.index], beyond["n_beyond"], check_dtype=False, check_names=False
    )
    for name in ("area_matched_deletion", "gap"):
        pd.testing.assert_series_equal(above.loc[beyond.index, name], beyond[name], rtol=1e-9)


def test_other_baselines(study):
    expected = golden("other_baselines").rename(
        columns={"change": "difference", "study": "mean", "other": "mean_after"}
    )
    metrics = ("deletion", "insertion", "area_matched_deletion")
    for name, part in expected.groupby("alternative"):
        found = pd.concat(
            [
                tables.changes(study, name, "model_centric", metrics),
                tables.changes(study, name, "gaps", ["gap"]),
            ]
        )
        same(found, part, ["row", "metric"], [*NUMBERS, "mean_after", "difference"])


def test_absolute_and_many_samples(study):
    found = pd.concat(
        [
            tables.changes(study, "absolute", "human_centric", ("auc", "iou"), level=level)
            for level in ABSOLUTE
        ]
    )
    columns = [*NUMBERS, "mean_after", "difference"]
    same(found, golden("absolute"), ["row", "level", "metric"], columns)
    expected = golden("converged")
    asked = {"human_centric": ("auc", "iou"), "model_centric": ("deletion",), "robustness": ("cv",)}
    found = pd.concat([tables.changes(study, "samples", *pair) for pair in asked.items()])
    same(found, expected, ["row", "metric"], [*columns, "rank", "rank_after"], extra=True)


def test_each_clip(study):
    names = {
        "call": "called",
        "share_moving": "share_changing",
        "place": "place",
        "share_moving_voxels_strict": "share_moving",
        "mean_auc_of_methods": "auc",
    }
    expected = golden("by_clip").rename(columns=names)
    expected["called"] = expected["called"].replace(
        {"called anomalous": "anomalous", "missed": "normal"}
    )
    found = tables.by_clip(study)
    same(found, expected, ["clip_id"], [c for c in found if c not in ("clip_id",)])
    strict = found["share_moving"] < found["share_changing"]
    assert dict(zip(found["clip_id"], strict, strict=True)) == dict(
        zip(expected["clip_id"], expected["stricter"].astype(str) == "True", strict=True)
    )


def test_costs(study):
    found = tables.costs(study)
    zero = golden("all_zero")
    same(found, zero[zero["row"].isin(found["row"])], ["row"], ["n", "n_all_zero"], extra=True)
    expected = golden("sampled_maps")
    same(found, expected, ["row"], extra=True)
    expected = golden("cost")
    names = {
        "n_maps": "n",
        "n_timed_alike": "n_timed",
        "mean_seconds": "seconds",
        "precision_of_timed": "precision",
        "mean_auc_per_second": "auc_per_second",
    }
    names |= {c: c.removeprefix("median_") for c in expected if c.startswith("median_")}
    expected = expected.rename(columns=names).fillna({"precision": ""})
    found["precision"] = found["precision"].fillna("")
    same(found, expected, ["row"], list(names.values()), extra=True)


def test_behind_the_best(study):
    expected = golden("behind_best")
    best = expected["best"].iloc[0]
    assert tables.rank_stability(study, "human_centric")["row"].iloc[0] == best
    others = expected[expected["row"] != best]
    found = tables.against(study, [best], "human_centric", ["auc"], rows=list(others["row"]))
    same(
        found.rename(columns={"first": "row"}),
        flipped(others),
        ["row"],
        ["difference", "low", "high", "n", "n_groups"],
    )


def test_seeds_agree(study):
    found = tables.convergence(study).drop(columns="row").rename(columns={"of": "row"})
    found = found.merge(study.evaluation[["clip_id", "scene"]])
    same(found, golden("seeds_agree"), ["row", "clip_id", "end"])


def test_drawn_curves(study):
    same(tables.mean_curves(study), golden("mean_curves"), ["curve", "row", "step"])
    found = tables.frame_means(study).rename(columns={"mean": "mean_auc"})
    expected = golden("frame_means")
    same(found, expected.dropna(subset="mean_auc"), ["row", "frame"], ["mean_auc"])


@pytest.fixture(scope="module")
def fold(study_folder):
    return tables.load(study_folder / "fold-0")


def test_a_fold_alone(study, fold):
    expected = as_now(golden("run_summary"))
    everything = fold.rows["row"]
    found = summaries(fold, SCORED, rows=everything)
    columns = [*NUMBERS, "n_undefined", "n_all_zero"]
    same(found, expected, KEYS, columns, extra=True)
    both = expected.assign(complete=expected["complete"].astype(bool))
    parts = [tables.ranked(part) for _, part in found.groupby("table")]
    parts = pd.concat([part.assign(complete=tables.complete(part)) for part in parts])
    same(parts, both, KEYS, ["complete", "rank"], extra=True)


def test_planned_contrasts(study, fold):
    for (scope, table), part in golden("run_planned").groupby(["scope", "table"]):
        found = tables.contrasts(fold if scope == "fold-0" else study, table)
        same(
            found,
            part.fillna({"better": ""}),
            ["level", "metric", "first", "second"],
            [*DIFFERENCE, "low", "high", "n_undefined", "interval", "better"],
        )


def test_every_row_against_every_reference(study, fold):
    expected = golden("run_references")
    for (scope, table, metric), part in expected.groupby(["scope", "table", "metric"]):
        of, references = fold if scope == "fold-0" else study, part["reference"].unique()
        found = tables.against(of, references, table, [metric])
        found = found.rename(columns={"first": "row", "second": "reference"})
        own = part["row"].isin(tables.methods(of))
        columns = [*DIFFERENCE, "low", "high", "interval"]
        same(found, part[own], ["row", "reference"], columns)
        rest = tables.against(of, references, table, [metric], rows=part.loc[~own, "row"].unique())
        rest = rest.rename(columns={"first": "row", "second": "reference"})
        columns.remove("p_holm")  # which left variants out
        same(rest, part[~own], ["row", "reference"], columns)


def test_ranks_of_all_rows(study, fold):
    for (scope, table, metric), part in golden("run_ranks").groupby(["scope", "table", "metric"]):
        of = fold if scope == "fold-0" else study
        found = tables.rank_stability(of, table, metric=metric, rows=list(part["row"]))
        same(found, part, ["row"], RANK)


def test_the_dearest_and_the_cheapest(study, fold):
    for line in golden("run_price").itertuples():
        of = fold if line.scope == "fold-0" else study
        cost = tables.costs(of).set_index("row")
        cost = cost.loc[tables.methods(of)]
        dearest, cheapest = cost["model_calls"].idxmax(), cost["model_calls"].idxmin()
        assert (dearest, cheapest) == (line.dearest, line.cheapest)
        found = tables.against(of, [cheapest], "human_centric", ["auc"], rows=[dearest]).iloc[0]
        columns = ("difference", "low", "high", "n", "n_groups", "p")
        assert [found[c] for c in columns] == pytest.approx([getattr(line, c) for c in columns])
        assert found["interval"] == line.interval


def test_compared_runs(study_folder):
    for second, expected in golden("compare").groupby("second"):
        other = "fold-3" if second == "fold-3" else "strong_blur-fold-0"
        paths = [study_folder / "fold-0", study_folder / other]
        if second == "fold-3":  # of other clips of the same data: nothing is shared
            expected = expected.fillna({"n_shared": np.nan})
        rows, metrics = expected["row"].unique(), expected["metric"].unique()
        found = tables.compare(paths, rows=rows, metrics=metrics, n_resamples=10000)
        found["run"] = found["run"].map({f"1 {paths[0]}": "fold-0", f"2 {paths[1]}": second})
        columns = [
            "mean",
            "low",
            "high",
            "n",
            "difference",
            "difference_low",
            "difference_high",
            "n_shared",
            "interval",
        ]
        same(found, expected, [*KEYS, "run"], columns, extra=True)


def test_facts(study):
    """Single numbers that no other golden has."""
    facts = golden("facts").set_index("fact")["value"]
    clips = tables.by_clip(study)
    assert len(tables.finished(study)) == 40 == len(clips)
    moves = clips["share_moving"].dropna()
    assert len(moves) == int(facts["clips with the strict rule measured"])
    means = {"by rule": clips["share_changing"].mean(), "strict rule": moves.mean()}
    for rule, mean in means.items():
        fact = facts[f"mean share of voxels that move, {rule}"]
        assert mean == pytest.approx(float(fact), abs=1e-9)
    for line in tables.leakage(study).itertuples():
        fact = facts[f"leakage: {line.metric} split by clip minus by sequence"]
        assert line.difference == pytest.approx(float(fact), abs=1e-9)
    assert timed(study)["clip_id"].nunique() == int(facts["timed: clips"])
    assert set(timed(study)["processor"]) == {facts["timed: machine"]}
    chosen = study.history[study.history["chosen"]].set_index("fold")["epoch"]
    for fold, epoch in chosen.items():
        assert epoch == int(facts[f"history: best epoch of fold {fold}"])
    assert {f"the paper's {k}": str(v) for k, v in PAPER_PERFORMANCE.items()}.items() <= {
        *facts.items()
    }
    recipes = study.extras["ablation"].query("recipe != 'the recipe' and auc_difference_high < 0")
    assert "; ".join(recipes["recipe"]) == facts["recipe: changes shown to cost AUC"]

"""What pages computed before the rebuild is what the functions of this room compute.

`golden/README.md` says what each file holds. Means, counts, intervals and p are equal to 1e-9.
"""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from vad_helpers import tables
from vad_helpers.tables.summary import timed

GOLDEN = Path(__file__).parent / "golden"
SCORED = ("human_centric", "model_centric", "robustness", "runtime")
KEYS = ["table", "level", "metric", "row"]


def golden(name):
    return pd.read_csv(GOLDEN / f"{name}.csv")


def parts(name, *keys):
    """Parts of a golden by some of its columns, and the values of these."""
    for key, part in golden(name).groupby(list(keys)):
        yield *key, part.drop(columns=list(keys))


def same(found, expected, keys):
    """The lines and columns of `expected`: numbers to 1e-9, NaN for NaN, else the same."""
    columns = [column for column in expected if column not in keys]
    texts = [c for c in columns if found[c].dtype == object or found[c].dtype == "str"]
    found, expected = (
        t.fillna(dict.fromkeys(texts, "")).set_index(keys) for t in (found, expected)
    )
    assert found.index.is_unique and expected.index.is_unique
    pd.testing.assert_frame_equal(
        found.reindex(expected.index)[columns].astype(dict.fromkeys(texts, str)),
        expected[columns].astype(dict.fromkeys(texts, str)),
        check_dtype=False,
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.fixture(scope="module")
def scopes(study, study_folder):
    """The study, and one of its folds alone."""
    return {"study": study, "fold-0": tables.load(study_folder / "fold-0")}


def test_summary(study):
    parts = [tables.ranked(tables.summary(study, t)).assign(table=t) for t in SCORED]
    same(pd.concat(parts), golden("summary"), KEYS)


def test_a_fold_alone(scopes):
    fold, parts = scopes["fold-0"], []
    for table in SCORED:
        found = tables.ranked(tables.summary(fold, table, rows=fold.rows["row"]))
        parts.append(found.assign(complete=tables.complete(found), table=table))
    same(pd.concat(parts), golden("run_summary").drop(columns="scope"), KEYS)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("table_one", ["level", "metric", "row"]),
        ("table_two", ["level", "metric", "row"]),
        ("flatness", ["level", "metric", "row"]),
        ("gaps", ["metric", "min_gap", "row"]),
        ("by_clip", ["clip_id"]),
        ("performance", ["pooling", "folds", "scene", "metric"]),
        ("sensitivity", ["choice", "how", "alternative", "table", "level", "metric"]),
        ("costs", ["row"]),
        ("convergence", ["of", "clip_id", "end"]),
    ],
)
def test_tables_of_the_study(study, name, keys):
    files = {"gaps": "by_gap", "costs": "cost", "convergence": "seeds_agree"}
    found, expected = getattr(tables, name)(study), golden(files.get(name, name))
    if name in ("table_one", "table_two"):
        expected = expected.drop(columns="table")
    same(found, expected, keys)
    if name in ("sensitivity", "performance", "table_one", "by_clip"):
        assert len(found) == len(expected)
    if name == "costs":
        same(found, golden("sampled_maps"), ["row"])


def test_performance_of_other_splits_and_alternatives(study):
    parts = [tables.performance(study, split=s).assign(split=s) for s in ("test", "val")]
    expected = golden("performance_by_split").astype({"folds": str})
    same(pd.concat(parts)[lambda t: t["pooling"] == "fold"], expected, [*expected][:3] + ["metric"])
    names = {"study": study} | study.alternatives
    found = [tables.performance(s).assign(alternative=name) for name, s in names.items()]
    expected = golden("performance_alternatives").astype({"folds": str})
    found = pd.concat(found).query("pooling == 'fold'")
    same(found, expected, ["alternative", "folds", "scene", "metric"])


def test_every_comparison_of_every_claim_and_its_verdict(study):
    family = study.rows["family"].mask(study.rows["of"] == "gradient_shap", "perturbation")
    refiled = dataclasses.replace(study, rows=study.rows.assign(family=family))
    many = {"rows": {of: row for row, of in tables.many_samples(study).items()}}
    ways = {"all": {}, "hits": {"clips": "hits"}, "many_samples": many, "refiled": {}}
    verdicts = dict(parts("claims", "on"))
    for on, part in parts("comparisons", "on"):
        of = refiled if on == "refiled" else study
        given = ways[on] | {"numbers": part["claim"].unique()}
        found = tables.comparisons(of, **given)
        found["comparison"] = found.groupby("claim").cumcount() + 1
        assert len(found) == len(part)
        same(found, part, ["claim", "comparison"])
        same(tables.claims(of, **given), verdicts[on], ["claim"])


def test_against_references(study):
    more = list(tables.many_samples(study))
    rows = {"methods": tables.methods(study), "many_samples": more}
    rows["methods_and_many_samples"] = [*rows["methods"], *more]
    keys = ["rows", "table", "family_metrics"]
    for kind, table, metrics, part in parts("against_references", *keys):
        for (reference, level), lines in part.groupby(["second", "level"]):
            given = {"level": level, "rows": rows[kind]}
            found = tables.against(study, [reference], table, metrics.split(), **given)
            same(found, lines, ["metric", "first"])


def test_against_variants(study):
    changes = {
        "random": {"weights": "random"},
        "black": {"baseline": "black"},
        "strong_blur": {"baseline": "strong_blur"},
    }
    found = [tables.against_variants(study, c).assign(suffix=s) for s, c in changes.items()]
    same(pd.concat(found), golden("variants"), ["suffix", "level", "metric", "first"])


def test_every_row_against_every_reference(scopes):
    for scope, table, metric, part in parts("run_references", "scope", "table", "metric"):
        study, references = scopes[scope], part["second"].unique()
        own, keys = part["first"].isin(tables.methods(study)), ["first", "second"]
        same(tables.against(study, references, table, [metric]), part[own], keys)
        rows = part.loc[~own, "first"].unique()
        found = tables.against(study, references, table, [metric], rows=rows)
        same(found, part[~own].drop(columns="p_holm"), keys)  # which left variants out


def test_planned_contrasts(scopes):
    for scope, table, part in parts("run_planned", "scope", "table"):
        found = tables.contrasts(scopes[scope], table)
        assert len(found) == len(part)
        same(found, part, ["level", "metric", "first", "second"])


def test_ranks(scopes):
    for table, level, metric, part in parts("ranks", "table", "level", "metric"):
        found = tables.rank_stability(scopes["study"], table, level=level, metric=metric)
        part = part[part["rank"].notna()]
        assert len(found) == len(part)
        same(found, part, ["row"])
    for scope, table, metric, part in parts("run_ranks", "scope", "table", "metric"):
        found = tables.rank_stability(scopes[scope], table, metric=metric, rows=list(part["row"]))
        same(found, part.drop(columns="level"), ["row"])


def test_compared_runs(study_folder):
    for second, expected in golden("compare").groupby("second"):
        other = "fold-3" if second == "fold-3" else "strong_blur-fold-0"
        paths = [study_folder / "fold-0", study_folder / other]
        rows, metrics = expected["row"].unique(), expected["metric"].unique()
        found = tables.compare(paths, rows=rows, metrics=metrics, n_resamples=10000)
        found["run"] = found["run"].map({f"1 {paths[0]}": "fold-0", f"2 {paths[1]}": second})
        same(found, expected.drop(columns=["first", "second", "paired"]), [*KEYS, "run"])


def test_facts(study):
    """Single numbers that no other golden has."""
    facts = golden("facts").set_index("fact")["value"]
    finished = int(facts["clips finished (measured in every main row)"])
    assert len(tables.finished(study)) == finished == len(tables.by_clip(study))
    assert timed(study)["clip_id"].nunique() == int(facts["timed: clips"])
    assert set(timed(study)["processor"]) == {facts["timed: machine"]}
    recipes = study.extras["ablation"].query("recipe != 'the recipe' and auc_difference_high < 0")
    assert "; ".join(recipes["recipe"]) == facts["recipe: changes shown to cost AUC"]

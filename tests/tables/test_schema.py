"""Run folders are read as they were written, or refused with file and line."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from vad_helpers.errors import InputError
from vad_helpers.tables import load, read
from vad_helpers.tables.schema import SCHEMAS


def edit(manifest_of, **changes):
    path = manifest_of / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def set_cell(folder, name, column, value, line=1):
    """Put a value into a cell of a table; line 1 is the first under the heading."""
    path = folder / f"{name}.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[line - 1, column] = value
    table.to_csv(path, index=False)


def test_a_run_is_read_with_its_types(run_folder, small_files):
    run = load(run_folder)
    assert run.folds == (4,) and not run.committed and run.params["n_folds"] == 5
    for name, schema in SCHEMAS.items():
        table = getattr(run, name)
        counted = json.loads(small_files["manifest.json"])["counts"].get(name, 0)
        assert len(table) == counted > 0, name
        own = [column for column in table if column != "fold"]
        assert own == [c.replace("fold", "assigned") for c in schema.columns]
    assert run.evaluation["clip_id"].tolist() == run.manifests[4]["evaluation"]
    assert run.clips["assigned"].tolist() == [4, 4, 4]
    assert run.explanations["all_zero"].dtype == bool
    assert run.explanations["model_calls"].dtype == np.int64
    assert set(run.human_centric["key"]) == {""}


def test_numbers_are_read_to_the_last_digit(run_folder):
    set_cell(run_folder, "predictions", "p", repr(0.1 + 0.2))
    assert load(run_folder).predictions["p"].iloc[0] == 0.1 + 0.2


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_a_table_that_is_missing_is_empty_and_refused_where_it_was_counted(run_folder, name):
    (run_folder / f"{name}.csv").unlink()
    assert read(run_folder, name).columns.tolist() == list(SCHEMAS[name].columns)
    with pytest.raises(InputError, match=f"{name}.csv.* 0 lines"):
        load(run_folder)


DAMAGES = {
    "one line fewer": lambda lines: lines[:-1],
    "one line twice": lambda lines: [*lines, lines[1]],
    "one column fewer": lambda lines: [line.rpartition(",")[0] for line in lines],
    "a column renamed": lambda lines: [lines[0].replace(",", "x,", 1), *lines[1:]],
    "a cell too many": lambda lines: [*lines[:2], lines[2] + ",0", *lines[3:]],
    "a quote that never ends": lambda lines: [lines[0], '"' + lines[1], *lines[2:]],
}
RAW_DAMAGES = {
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "no newline at the end": lambda whole: whole[:-1],
    "no text": lambda whole: whole[:40] + b"\xff\xfe" + whole[40:],
    "only zeros": lambda whole: bytes(len(whole)),
}


@pytest.mark.parametrize("damage", [*DAMAGES, *RAW_DAMAGES])
@pytest.mark.parametrize("name", list(SCHEMAS))
def test_a_damaged_table_is_named(run_folder, name, damage):
    path = run_folder / f"{name}.csv"
    if damage in RAW_DAMAGES:
        path.write_bytes(RAW_DAMAGES[damage](path.read_bytes()))
    else:
        path.write_text("\n".join(DAMAGES[damage](path.read_text().splitlines())) + "\n")
    with pytest.raises(InputError, match=rf"\A.*{name}.csv.*\Z"):
        load(run_folder)


def wrong_cells(schema):
    """(column, value) that no column of that kind takes."""
    for column, about in schema.columns.items():
        wrong = [] if about.nullable else [""]
        if about.allowed:
            wrong += [about.allowed[0][:-1] + "~"]  # one changed byte
        if about.type in ("int", "float"):
            wrong += ["x", "nan", "inf", "1 2"] + ["0.5"] * (about.type == "int")
            wrong += ["-1.5"] * (about.low > -np.inf) + ["1.5"] * (about.high == 1)
        if about.type in ("bool", "json", "numbers"):
            wrong += ["Truth"]
        yield from ((column, value) for value in wrong)


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_a_wrong_cell_is_named_with_its_line(run_folder, name):
    whole = (run_folder / f"{name}.csv").read_bytes()
    for column, value in wrong_cells(SCHEMAS[name]):
        set_cell(run_folder, name, column, value, line=2)
        with pytest.raises(InputError, match=f"{name}.csv, line 3: {column} is {value!r}; expect"):
            read(run_folder, name)
        (run_folder / f"{name}.csv").write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("human_centric", "clip_id", "ped1-Test004-0061"),
        ("human_centric", "row", "ig2"),
        ("explanations", "row", "Lime"),
        ("model_centric", "sequence", "ped1/Test014"),
        ("predictions", "scene", "ped2"),
        ("predictions", "label", "0"),
        ("predictions", "split", "train"),
    ],
)
def test_clips_and_rows_are_those_that_the_run_lists(run_folder, name, column, value):
    set_cell(run_folder, name, column, value)
    with pytest.raises(InputError, match=f"{name}.csv, line 2: {column} is '?{value}"):
        load(run_folder)


WRONG = {"parameters": {"fold": "0"}}, {"counts": []}, {"alternative": {"of": "x"}}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"parameters": {}', "\x00", *WRONG], ids=str)
def test_a_damaged_manifest_is_named(run_folder, content):
    if isinstance(content, dict):
        edit(run_folder, **content)
    else:
        (run_folder / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest.json is no manifest"):
        load(run_folder)


def test_a_manifest_lists_clips_that_there_are(run_folder):
    edit(run_folder, evaluation=["ped1-Test099-0000"])
    with pytest.raises(InputError, match="lists ped1-Test099-0000, which clips.csv lacks"):
        load(run_folder)


def test_runs_of_one_fold_or_clip_and_rows_that_folds_define_differently_are_refused(run_folder):
    twin = run_folder.parent / "again"
    shutil.copytree(run_folder, twin)
    with pytest.raises(InputError, match="two runs of fold 4"):
        load(run_folder.parent)
    manifest = json.loads((twin / "manifest.json").read_text())
    edit(twin, parameters=manifest["parameters"] | {"fold": 3, "seed": 7})
    with pytest.raises(InputError, match=r"two folds differ in ped.* of .*csv"):
        load(run_folder.parent)
    for name in manifest["counts"].keys() - {"clips", "rows"}:
        (twin / f"{name}.csv").unlink()
    edit(twin, counts={}, evaluation=[])
    both = load(run_folder.parent)
    assert both.folds == (3, 4) and "seed" not in both.params and "n_folds" in both.params
    set_cell(twin, "rows", "settings", '{"n_steps": 3}')
    with pytest.raises(InputError, match="differ in ig of rows.csv"):
        load(run_folder.parent)


def test_alternatives_stand_beside_the_folds(run_folder):
    other = run_folder.parent / "black-fold-4"
    shutil.copytree(run_folder, other)
    edit(other, alternative={"name": "black", "of": "fold-4", "changes": {"baseline": "black"}})
    (run_folder.parent / "study.json").write_text("{}")
    both = load(run_folder.parent)
    assert both.committed and both.folds == (4,) and list(both.alternatives) == ["black"]
    assert len(both.alternatives["black"].human_centric) == len(both.human_centric)
    shutil.rmtree(run_folder)
    with pytest.raises(InputError, match="no fold that they are alternatives to"):
        load(run_folder.parent)
    assert load(other).folds == (4,)


def test_a_study_has_all_folds_and_its_own_tables(study):
    assert study.folds == (0, 1, 2, 3, 4) and study.committed
    assert len(study.evaluation) == 40 and set(study.extras) == {"ablation"}
    assert study.evaluation["clip_id"].is_unique
    assert (study.evaluation["assigned"] == study.evaluation["fold"]).all()
    assert set(study.alternatives["trained_again"].folds) == {1, 2, 3}


def test_a_study_keeps_some_clips_and_rows(study):
    hits, misses = study.keep(clips="hits"), study.keep(clips="misses")
    assert (len(hits.evaluation), len(misses.evaluation)) == (25, 15)
    assert (hits.probabilities() >= 0.5).all() and (misses.probabilities() < 0.5).all()
    both = pd.concat([hits.human_centric, misses.human_centric])
    assert len(both) == len(study.human_centric)
    assert study.keep(clips="all") is study
    one = study.keep(clips=["ped1-Test022-0080"], rows=["ig", "lime"])
    assert set(one.human_centric["row"]) == set(one.rows["row"]) == {"ig", "lime"}
    assert set(one.curves["clip_id"]) == {"ped1-Test022-0080"}
    assert len(one.predictions) == len(study.predictions)
    with pytest.raises(ValueError, match="expected all, hits or misses"):
        study.keep(clips="most")


def test_probabilities_are_predicted_where_they_were_not_asked(study):
    bare = dataclasses.replace(study, model_centric=study.model_centric.iloc[:0])
    apart = (bare.probabilities() - study.probabilities()).abs()
    assert len(apart) == 40 and 0 < apart.max() < 0.02

"""Reading a published folder: every fault is one clear line."""

import json

import pandas as pd
import pytest

from vad_helpers.errors import InputError
from vad_helpers.store import published
from vad_helpers.store.cache import file_digest


@pytest.fixture
def folder(tmp_path):
    """A published folder of empty tables."""
    folder = tmp_path / "results"
    folder.mkdir()
    for name, columns in published.TABLES.items():
        pd.DataFrame(columns=list(columns)).to_csv(folder / f"{name}.csv", index=False)
    write_manifest(folder)
    return folder


def write_manifest(folder, **changes):
    files = {path.name: file_digest(path) for path in folder.glob("*.csv")}
    manifest = {
        "schema": published.SCHEMA,
        "profile": "x",
        "settings": {},
        "folds": {"1": {}, "0": {}},
    }
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": files, **changes}))


def test_empty_tables_read_back_with_their_columns(folder):
    found = published.read(folder)
    assert found.folds == [0, 1] and found.settings == {} and found.figures == []
    for name, columns in published.TABLES.items():
        assert list(getattr(found, name).columns) == list(columns)
    assert found.extras == {}


def test_nothing_there_is_told_apart(tmp_path):
    assert not published.exists(tmp_path)
    with pytest.raises(InputError, match="no published results.*vad publish"):
        published.read(tmp_path)


def test_a_changed_file_is_refused(folder):
    assert published.exists(folder)
    path = folder / "robustness.csv"
    path.write_text(path.read_text() + "0,a,a,ig,clip,cv,0.1\n")
    with pytest.raises(InputError, match="robustness.csv is not what was published"):
        published.read(folder)


def test_a_missing_file_is_named(folder):
    (folder / "rows.csv").unlink()
    with pytest.raises(InputError, match="rows.csv is missing"):
        published.read(folder)
    write_manifest(folder)  # not even listed
    with pytest.raises(InputError, match="rows.csv is missing"):
        published.read(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"profile": "x"}', f'{{"schema": {published.SCHEMA}}}', "3"]
)
def test_a_damaged_manifest_is_one_line(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest.json is damaged"):
        published.read(folder)


def test_another_format_is_refused(folder):
    write_manifest(folder, schema=0)
    with pytest.raises(InputError, match=f"is of format 0, this version reads {published.SCHEMA}"):
        published.read(folder)


def test_a_table_of_other_columns_is_refused(folder):
    pd.DataFrame({"fold": [0]}).to_csv(folder / "clips.csv", index=False)
    write_manifest(folder)
    with pytest.raises(InputError, match=r"clips.csv lacks the columns clip_id, scene"):
        published.read(folder)


def test_a_table_that_is_none_is_refused(folder):
    (folder / "clips.csv").write_bytes(b"")
    write_manifest(folder)
    with pytest.raises(InputError, match=r"clips.csv is no table"):
        published.read(folder)


def test_empty_words_are_words(folder):
    line = {"method": "random", "label": "Random", "kind": "reference", "family": "reference"}
    pd.DataFrame([line], columns=list(published.TABLES["rows"])).to_csv(
        folder / "rows.csv", index=False
    )
    write_manifest(folder)
    assert published.read(folder).rows.loc[0, "attribution"] == ""

"""The study that the goldens are of, as run folders, and a small run cut out of it."""

import json
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from vad_helpers import tables

GOLDEN = Path(__file__).parent / "golden"
CLIPS = ["ped1-Test004-0060", "ped1-Test004-0120", "ped2-Test009-0040"]
ROWS = ["ig", "lime", "lime_converged", "motion"]


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory):
    """Run folders of the published study of before; do not write into it."""
    folder = tmp_path_factory.mktemp("study")
    with tarfile.open(GOLDEN / "study.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def study(study_folder):
    return tables.load(study_folder)


@pytest.fixture(scope="session")
def small_files(study_folder):
    """Every file of a small run, by name: three clips of fold 4, four rows."""
    source, files, counts = study_folder / "fold-4", {}, {}
    for path in sorted(source.glob("*.csv")):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if "clip_id" in table:
            table = table[table["clip_id"].isin(CLIPS)]
        if "row" in table:
            table = table[table["row"].isin(ROWS)]
        files[path.name], counts[path.stem] = table.to_csv(index=False), len(table)
    doubled = "clip_id,row,n_samples,correlation,converged,key\n"
    for n, correlation in ((25, 0.2), (50, 0.97)):
        doubled += f"{CLIPS[0]},lime_converged,{n},{correlation},{correlation > 0.9},k{n}\n"
    files["convergence.csv"], counts["convergence"] = doubled, 2
    manifest = json.loads((source / "manifest.json").read_text())
    manifest |= {"evaluation": CLIPS, "counts": counts}
    return files | {"manifest.json": json.dumps(manifest)}


@pytest.fixture
def run_folder(tmp_path, small_files):
    """A folder of one small run, to change."""
    folder = tmp_path / "fold-4"
    folder.mkdir()
    for name, text in small_files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder

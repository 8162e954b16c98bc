"""What the page says of how published results came about."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests import synthetic_study as synthetic
from vad_helpers.pages import provenance


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("study"))


def test_published_weights_are_named_with_their_size(tmp_path):
    folder = tmp_path / "results" / "ucsd"
    found = synthetic.write(folder)
    assert "No network is published" in provenance.network(found)
    (folder / "model-fold0.safetensors").write_bytes(b"0" * 2_500_000)
    found.manifest["files"]["model-fold0.safetensors"] = ""
    assert "`results/ucsd/model-fold0.safetensors` (2.5 MB)" in provenance.network(found)


def test_the_page_says_how_seconds_were_taken_and_which_rows_have_another_precision(found):
    note = provenance.seconds_note(found)
    assert note.startswith("Seconds were recorded once for each map")
    assert "in bf16, but for LIME in fp32: seconds compare" in note
    timed = found.runtime.assign(source="measured")
    same = found.explanations.assign(precision="fp32")
    alike = provenance.seconds_note(dataclasses.replace(found, runtime=timed, explanations=same))
    assert alike == (
        "Seconds are medians of repeats on one clip. They are of 20 clips of 10 sequences on CPU, "
        "1 core, in batches of 2. Those shown are of maps in fp32."
    )


def test_one_core_is_no_plural_and_eleven_are_one():
    assert provenance.one_core("CPU, 1 cores, x") == "CPU, 1 core, x"
    assert provenance.one_core("CPU, 11 cores") == "CPU, 11 cores"


def test_the_page_names_folds_whose_maps_are_in_another_precision(found):
    assert "another precision" not in provenance.seconds_note(found)
    explained = found.explanations
    first = (explained["fold"] == 0).to_numpy()
    other = explained.assign(
        machine=np.where(first, "slow CPU, 1 cores", explained["machine"]),
        precision=np.where(first, "fp32", explained["precision"]),
    )
    note = provenance.seconds_note(dataclasses.replace(found, explanations=other.iloc[::-1]))
    assert ("fold 0 (fp32) are in another precision" in note) != (
        "fold 1 (bf16) are in another precision" in note
    ), "the fold whose seconds are not shown"


def test_every_row_s_settings_stand_there_with_the_defaults(found):
    text = provenance.settings(found)
    assert "Settings of every row" in text and "n_steps 30, channels sum" in text
    rows = found.rows.assign(settings='{"n_steps": 7}').query("method == 'ig'")
    assert "n_steps 7, channels sum" in provenance.settings(dataclasses.replace(found, rows=rows))


def test_the_page_says_how_many_maps_of_another_machine_seconds_leave_out(found):
    explained = found.explanations
    elsewhere = (explained["clip_id"] == explained["clip_id"].iloc[0]).to_numpy()
    other = explained.assign(
        machine=np.where(elsewhere, "slow CPU, 1 cores", explained["machine"]),
        precision=np.where(elsewhere, "fp64", explained["precision"]),
    )
    note = provenance.seconds_note(dataclasses.replace(found, explanations=other))
    assert "They are of 19 clips of 10 sequences on CPU" in note
    timed = found.runtime["clip_id"] == explained["clip_id"].iloc[0]
    n_maps = found.runtime.loc[timed, "method"].nunique()
    assert (
        f"Those of {n_maps} maps are left out: made on another machine or in other batches." in note
    )
    assert "fp64" not in note and "left out" not in provenance.seconds_note(found)


def test_the_page_names_the_start_of_training_and_what_it_lacks(found):
    assert "`start.safetensors`" in provenance.initial_weights(found)
    assert (
        "lacks 1 convolution, which started at random: `Mixed_4e.b1b`."
        in provenance.initial_weights(found)
    )
    digested = {
        k: e | {"initial_weights_sha256": "0a1b"} for k, e in found.manifest["folds"].items()
    }
    known = dataclasses.replace(found, manifest=found.manifest | {"folds": digested})
    assert "SHA-256 `0a1b`)" in provenance.initial_weights(known)
    found.manifest["settings"].pop("init_weights")
    try:
        assert provenance.initial_weights(found) == "Training started from random weights."
    finally:
        found.manifest["settings"]["init_weights"] = "start.safetensors"


def test_provenance_counts_scored_clips_and_names_what_maps_were_made_on(found):
    shown = provenance.folds(found)
    n = found.human_centric.loc[found.human_centric["fold"] == 0, "clip_id"].nunique()
    assert f"<td>{n} of 4<" in shown.replace(' style="white-space: normal; text-align: left"', "")
    assert "CPU, 1 core<" in shown


def test_the_page_says_how_many_clips_an_alternative_has_and_that_its_precision_differs(found):
    assert provenance.alternatives(found) == ""
    about = {"fold": 0, "device": "CPU", "date": "2026-01-02", "weights_sha256": "w"}
    table = pd.DataFrame([
        {"alternative": "strong_blur", "precision": "bf16", "n_clips": 1, **about},
        {"alternative": "added_masks", "precision": "fp32", "n_clips": 6, **about},
    ])  # fmt: skip
    shown = provenance.alternatives(dataclasses.replace(found, extras={"alternative_runs": table}))
    assert (
        "“strong blur” was measured on 1 clip (fold 0, scores in bf16, CPU, 2026-01-02); "
        "the study's scores are in fp32." in shown
    )
    assert shown.endswith(
        "“added masks” was measured on 6 clips (fold 0, scores in fp32, CPU, 2026-01-02).\n"
    )

"""What the paper leaves open about data, split and scoring, settled differently: runs of their own.

Other open choices are rows or levels of the study itself. These here change which clips there are,
what the network has seen, or what removed pixels are filled with in scores too, and need a run
beside the study's: methods at their settings and some reference rows, on a few clips of a fold,
published as tables of their own (`published.OPTIONAL`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from vad_helpers.errors import InputError
from vad_helpers.store import detector, earlier, measuring, publish, published, restore, scores
from vad_helpers.store.cache import Run, key_of
from vad_helpers.store.params import Params
from vad_helpers.store.published import Published
from vad_helpers.store.row import methods

N_CLIPS = 6
BESIDE = ("random", "motion", "constant")
"""Reference rows that are measured beside the methods: their maps ask no network."""
KEY = ("alternative", "fold")


@dataclasses.dataclass(frozen=True)
class OwnRun:
    """How a choice is settled instead.

    Attributes
    ----------
    changes : callable
        Params of the study's run -> parameters that differ.
    own_network : bool
        Whether a network is trained for it; otherwise that of the study's run is explained.
    """

    changes: Callable[[Params], dict[str, Any]]
    own_network: bool = False


ALTERNATIVES = {
    "half_overlap": OwnRun(lambda p: {"stride": max(1, p.n_frames // 2)}),
    "added_masks": OwnRun(lambda p: {"masks": "added"}),
    "split_by_clip": OwnRun(lambda p: {"split_by": "clip"}, own_network=True),
    # The study's clips: maps and scores with a baseline that removes more, or motion too.
    "strong_blur": OwnRun(lambda p: {"baseline": "strong_blur", "study_clips": p.study_clips}),
    "spacetime_blur": OwnRun(
        lambda p: {"baseline": "spacetime_blur", "study_clips": p.study_clips}
    ),
}
"""Name -> alternative."""


def check_name(name: str) -> None:
    """Refuse a name that is none of `ALTERNATIVES`.

    Raises
    ------
    InputError
    """
    if name not in ALTERNATIVES:
        raise InputError(f"no alternative '{name}'; there are {', '.join(ALTERNATIVES)}")


def open_alternative(run: Run, name: str) -> Run:
    """Open the run of an alternative, in a folder inside the run's.

    Parameters
    ----------
    run : Run
        Of the study. Its network is trained if the alternative explains it.
    name : str
        One of `ALTERNATIVES`.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        For an unknown name; for an alternative with a network of its own, if the run does not say
        how its network was trained.
    """
    check_name(name)
    spec, p = ALTERNATIVES[name], run.params
    if spec.own_network and p.trained_weights and not p.init_weights:
        raise InputError(
            f"alternative '{name}' trains a network as the run's was trained; give init_weights"
        )
    folder = run.path("alternatives") / name
    changes = {"variants": {}, "study_clips": None, "run_dir": str(folder)} | spec.changes(p)
    changes["n_clips"] = min(N_CLIPS, p.n_clips)
    if spec.own_network:
        changes["trained_weights"] = None
    elif p.trained_weights is None:
        detector.model(run)
        changes["trained_weights"] = str(run.path("model.safetensors"))
    return Run(dataclasses.replace(p, **changes), run.root, folder)


def measure(
    run: Run,
    name: str,
    *,
    part: tuple[int, int] = (1, 1),
    dest: str | Path | None = None,
    progress: bool = False,
) -> Run:
    """Explain and score the methods under an alternative; see `measuring.measure`.

    What is published of it already, computed from the same data, network, precision and settings,
    is taken back first, so that an interrupted one goes on anywhere.

    Parameters
    ----------
    run : Run
        Of the study.
    name : str
        One of `ALTERNATIVES`.
    part : (int, int)
        (k, n): the k-th of n parts of its clips.
    dest : str or Path, optional
        A published folder, to which `add` what there is after every clip.
    progress : bool
        Show bars.

    Returns
    -------
    Run
        Of the alternative.

    Raises
    ------
    InputError
        As `add`, before anything is measured; or if there is no such part.
    """
    other = open_alternative(run, name)
    if dest is not None:
        _check_network(other, name, dest)
        print(f"{name}: {_restore(other, name, dest)} scores restored from {dest}", flush=True)

    def after_clip(clip_id: str) -> None:
        print(f"{name}, {clip_id}: all methods scored", flush=True)
        if dest is not None:
            add(other, name, dest)

    measuring.measure(
        other, only=_measured(other), part=part, progress=progress, after_clip=after_clip
    )
    if dest is not None:
        add(other, name, dest)
    return other


def _restore(other: Run, name: str, dest: str | Path) -> int:
    """Take back what is published of this very run; how many (clip, row) scores that is."""
    found = published.read(dest)
    if not earlier.agrees(_published_run(found, other, name), _computed(other)):
        return 0
    return restore.restore_lines(other, _lines_of(found.extras["alternatives"], other, name))


def _published_run(found: Published, other: Run, name: str) -> dict[str, Any]:
    """The line of `alternative_runs` on this alternative and fold; empty if there is none."""
    table = found.extras.get("alternative_runs")
    lines = [] if table is None else _lines_of(table, other, name).to_dict("records")
    return lines[0] if lines else {}


def _lines_of(table: pd.DataFrame, other: Run, name: str) -> pd.DataFrame:
    return table[(table["alternative"] == name) & (table["fold"] == other.params.fold)]


def _computed(other: Run) -> dict[str, str]:
    """What an alternative's scores stand and fall with."""
    settings = publish.shared_settings(other)
    key = key_of("alternative", 2, settings=settings)
    code = key_of("code", 1, versions=scores.code_versions(other))
    # Never digits alone in a CSV.
    return publish.identity(other) | {"settings": f"key-{key}", "code": f"key-{code}"}


def _measured(other: Run) -> list[str]:
    """Keys of the rows that an alternative is measured on."""
    return [*methods(other), *BESIDE]


def add(other: Run, name: str, dest: str | Path) -> None:
    """Put what is scored of an alternative into a published folder, beside what is there.

    What was computed there otherwise (another network, precision or setting) stays until this run
    has as many clips.

    Parameters
    ----------
    other : Run
        From `open_alternative`.
    name : str
    dest : str or Path
        A published folder.

    Raises
    ------
    InputError
        If the study's fold is not published there, or with another network than is explained here.
    """
    about = {"alternative": name, "fold": other.params.fold}
    _check_network(other, name, dest)
    scored = pd.concat(
        scores.tidy(other, scores.finished(other, table)).assign(table=table)
        for table in scores.MEASURES
    )
    scored = scored[scored["method"].isin(_measured(other))]
    computed, n_clips = _computed(other), _n_complete(scored, _measured(other))
    before = _published_run(published.read(dest), other, name)
    if before and not earlier.agrees(before, computed) and before["n_clips"] > n_clips:
        print(f"{name}: {dest} keeps its {before['n_clips']} clips, computed otherwise")
        return
    predicted = detector.predictions(other)
    predicted = predicted[predicted["split"] == "test"].drop(columns="split")
    about_run = {"device": detector.machine(other), "date": publish.today(), "n_clips": n_clips}
    new = {
        "alternatives": scored,
        "alternative_predictions": predicted,
        "alternative_runs": pd.DataFrame([computed | about_run]),
    }
    publish.add_tables(dest, {t: lines.assign(**about) for t, lines in new.items()}, by=KEY)


def _n_complete(scored: pd.DataFrame, rows: list[str]) -> int:
    """Clips with every row in every table: an interrupted clip's scores are kept, not counted."""
    done = scored.drop_duplicates(["clip_id", "table", "method"]).groupby("clip_id").size()
    return int((done == len(rows) * len(scores.MEASURES)).sum())


def _check_network(other: Run, name: str, dest: str | Path) -> None:
    """Refuse to put what explains another network beside a study's fold."""
    fold = other.params.fold
    entry = published.read_manifest(Path(dest))["folds"].get(str(fold))
    if entry is None:
        raise InputError(f"fold {fold} is not in {dest}; publish the study's fold first")
    network = publish.identity(other)["weights_sha256"]
    if not ALTERNATIVES[name].own_network and entry["weights_sha256"] != network:
        raise InputError(
            f"'{name}' explains another network than fold {fold} in {dest} was measured with; "
            "publish that fold again first, or give its network as trained_weights"
        )

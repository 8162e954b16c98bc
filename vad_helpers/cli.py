"""The `vad` command: data, runs, the book. Bad input ends with one line and exit status 2."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vad_helpers.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from vad_helpers.store.cache import Run

app = typer.Typer(
    help="Explain video anomaly detectors, and measure the explanations.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Get and check the videos.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel=None)

Profile = Annotated[str, typer.Option(help="A name in params/ or a path to a YAML file.")]
Overrides = Annotated[
    list[str],
    typer.Option("-p", "--param", metavar="KEY=VALUE", help="Replace a parameter; repeatable."),
]


@data_app.command()
def fetch(
    dest: Annotated[Path, typer.Option(help="Folder that will hold the tree.")],
    archive: Annotated[Path | None, typer.Option(help="A local copy of the archive.")] = None,
    sha256: Annotated[str | None, typer.Option(help="Checksum the archive must have.")] = None,
) -> None:
    """Download the official UCSD archive, or take a local one, and extract it safely."""
    from vad_helpers.data import ucsd

    print(ucsd.fetch(dest, archive=archive, sha256=sha256, progress=_watched()))


@data_app.command()
def check(tree: Annotated[Path, typer.Argument(help="Folder of a UCSD tree.")]) -> None:
    """Tabulate a tree: sequences, frames, masks, disagreements, damaged, stray, missing files."""
    from vad_helpers.data import ucsd

    report = ucsd.check(tree, progress=_watched())
    print(report.summary())
    if not report.usable:
        first, *others = report.errors
        more = f" (and {len(others)} more)" if others else ""
        raise InputError(f"{report.root} cannot be used: {first}{more}")


@data_app.command()
def walkway(
    dest: Annotated[Path, typer.Option(help="Folder that will hold the tree.")],
    seed: Annotated[int, typer.Option(help="Another seed, another dataset.")] = 0,
) -> None:
    """Write the synthetic pedestrian dataset in the UCSD layout."""
    from vad_helpers.data import walkway as synthetic

    print(synthetic.write(dest, seed=seed))


@app.command()
def run(
    profile: Profile = "quick",
    param: Overrides = [],  # noqa: B006 (typer copies it)
    dry_run: Annotated[bool, typer.Option(help="List steps and estimated cost only.")] = False,
) -> None:
    """Execute the chapters: data, training, explanations, measurements."""
    from vad_helpers import pipeline, plan

    overrides = _overrides(param)
    if dry_run:
        print(plan.describe(pipeline.open_checked(profile, overrides)))
    else:
        pipeline.execute_all(profile, overrides)


@app.command()
def measure(
    profile: Profile = "quick",
    param: Overrides = [],  # noqa: B006 (typer copies it)
    publish_to: Annotated[
        Path | None,
        typer.Option(help="Publish what there is after every clip, and go on from what is there."),
    ] = None,
    convergence: Annotated[
        bool, typer.Option(help="Then check whether LIME and KernelSHAP have enough samples.")
    ] = False,
    alternative: Annotated[
        list[str],
        typer.Option(help="Then measure the methods under it too: half_overlap, ..."),
    ] = [],  # noqa: B006
    study: Annotated[
        bool, typer.Option(help="Measure the run's own rows; without, only what comes after them.")
    ] = True,
    part: Annotated[
        str, typer.Option(metavar="K/N", help="The K-th of N parts of the clips: one a process.")
    ] = "1/1",
) -> None:
    """Train, explain and score clip by clip, without notebooks; an interrupted one goes on."""
    from vad_helpers import pipeline
    from vad_helpers.store import alternatives

    share = _part(part)
    opened = pipeline.open_checked(profile, _overrides(param))
    for name in alternative:
        alternatives.check_name(name)
    if convergence and share != (1, 1):
        raise InputError("--convergence is one table of all clips; give it without --part")
    if study:
        _measure_study(opened, share, publish_to)
    elif not convergence and not alternative:
        raise InputError(
            "--no-study leaves nothing to measure; name --alternative or --convergence"
        )
    if convergence:
        _check_convergence(opened, publish_to)
    for name in alternative:
        alternatives.measure(opened, name, part=share, dest=publish_to, progress=_watched())
    print(opened.dir)


def _check_convergence(opened: Run, publish_to: Path | None) -> None:
    """Double the samples, publish each clip's numbers as soon as they are there, and print all."""
    from vad_helpers import store
    from vad_helpers.store import publish as publishing
    from vad_helpers.store import restore

    def publish(table: pd.DataFrame) -> None:
        if publish_to is not None:
            found = table.assign(fold=opened.params.fold)
            by = ["fold", "method", "clip_id"]
            publishing.add_tables(publish_to, {"convergence": found}, by=by)

    if publish_to is not None:
        n_restored = restore.restore_convergence(opened, publish_to)
        print(f"{n_restored} checks of convergence restored from {publish_to}")
    table = store.convergence_table(opened, progress=_watched(), after=publish)
    print(table.assign(fold=opened.params.fold).to_string(index=False))


def _part(text: str) -> tuple[int, int]:
    """Read "2/3" as (2, 3)."""
    number, slash, n_parts = text.partition("/")
    if not (
        slash and number.isdecimal() and n_parts.isdecimal() and 1 <= int(number) <= int(n_parts)
    ):
        raise InputError(f"--part is '{text}'; give K/N with K from 1 to N, such as 2/3")
    return int(number), int(n_parts)


def _measure_study(opened: Run, part: tuple[int, int], publish_to: Path | None) -> None:
    """Measure the rows of a run; publish after every clip, if there is a folder for it."""
    from vad_helpers.store import measuring, restore
    from vad_helpers.store import publish as publishing

    def after_clip(clip_id: str) -> None:
        print(f"{clip_id}: all rows scored", flush=True)
        if publish_to is not None:
            publishing.publish([opened], publish_to)

    if publish_to is not None:
        print(f"{restore.restore(opened, publish_to)} scores restored from {publish_to}")
    measuring.measure(opened, part=part, progress=_watched(), after_clip=after_clip)
    if publish_to is not None:
        publishing.publish([opened], publish_to)


@app.command()
def book(
    profile: Profile = "quick",
    param: Overrides = [],  # noqa: B006 (typer copies it)
    verify: Annotated[bool, typer.Option(help="Only check the site that is there.")] = False,
    zip_it: Annotated[bool, typer.Option("--zip", help="Pack the site into one file too.")] = False,
) -> None:
    """Build the book from the executed chapters, warnings as errors, and check the site."""
    from vad_helpers import pipeline

    if not verify:
        pipeline.build_book(profile, _overrides(param))
    print(pipeline.zip_site() if zip_it else pipeline.verify_site())


@app.command()
def methods() -> None:
    """List the attribution methods: family, cost, settings, citation."""
    from vad_helpers.attribution import METHODS

    for key, spec in METHODS.items():
        settings = ", ".join(f"{name}={value}" for name, value in spec.settings.items())
        print(
            f"{key:16} {spec.family:13} {spec.name}; {settings or 'no settings'}; {spec.citation}"
        )


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    metric: Annotated[list[str], typer.Option(help="Only this metric; repeatable.")] = [],  # noqa: B006
    method: Annotated[list[str], typer.Option(help="Only this row; repeatable.")] = [],  # noqa: B006
    csv: Annotated[Path | None, typer.Option(help="Write the whole comparison here.")] = None,
) -> None:
    """Compare runs: means, and differences from the first run, with 95 % intervals."""
    from vad_helpers.store import comparison

    found = comparison.compare_runs(runs, metrics=metric, methods=method)
    if csv is not None:
        found.to_csv(csv, index=False)
    print(comparison.spelled(found).to_string())


@app.command()
def publish(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, one a fold.")],
    dest: Annotated[Path, typer.Option(help="Published folder, such as results/ucsd.")],
    profile: Annotated[
        str | None, typer.Option(help="Profile of the runs; default: name of the folder above.")
    ] = None,
    param: Overrides = [],  # noqa: B006 (typer copies it)
    weights: Annotated[bool, typer.Option(help="Also the first run's network, float16.")] = False,
    figures: Annotated[bool, typer.Option(help="Also a few pictures of explained clips.")] = False,
) -> None:
    """Write what runs have finished as tidy tables, beside folds that were published before."""
    from vad_helpers.store import publish as publishing

    opened = [publishing.run_of(r, profile=profile, overrides=_overrides(param)) for r in runs]
    pictures = None
    if figures:
        from vad_helpers.viz import gallery

        pictures = gallery.pictures(opened)
    found = publishing.publish(opened, dest, weights=weights, pictures=pictures)
    done = found.human_centric.groupby("fold")["clip_id"].nunique()
    for fold in found.folds:
        n_clips = found.manifest["folds"][str(fold)]["n_clips"]
        print(f"fold {fold}: {done.get(fold, 0)} of {n_clips} clips with scores")
    print(dest)


def _watched() -> bool:
    """Tell whether somebody watches: bars belong on a terminal, not in a log."""
    return sys.stderr.isatty()


def _overrides(texts: list[str]) -> dict[str, object]:
    from vad_helpers.store import params

    overrides = dict(params.parse_override(text) for text in texts)
    params.check_overrides(overrides)
    return overrides


def main() -> None:
    """Run the command; turn bad input and a failing disk into one line and exit status 2."""
    try:
        app()
    except InputError as error:
        _fail(str(error), status=2)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), status=2)
    except RuntimeError as error:
        _fail(str(error), status=1)


def _fail(message: str, *, status: int) -> None:
    print(f"vad: {message}", file=sys.stderr)
    raise SystemExit(status)

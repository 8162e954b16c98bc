"""The `vad` command: data, runs, the book. Bad input ends with one line and exit status 2."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from vad_helpers.errors import InputError

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
    from vad_helpers.data import archive as archives

    print(archives.fetch(dest, archive=archive, sha256=sha256, progress=_watched()))


@data_app.command()
def check(
    tree: Annotated[Path, typer.Argument(help="Folder of a UCSD tree, or of own videos.")],
    labels: Annotated[str, typer.Option(help="Of own videos: table, 'masks' or 'none'.")] = "",
    masks: Annotated[str, typer.Option(help="Of own videos: folder of masks, or 'none'.")] = "none",
) -> None:
    """Tabulate a dataset: sequences, frames, masks, disagreements, what is damaged or missing."""
    from vad_helpers.data import ucsd, videos

    if labels:
        with tempfile.TemporaryDirectory() as kept:
            options = {"kept": kept, "labels": labels, "masks": masks}
            report = videos.check(tree, **options, progress=_watched())
    else:
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
    from vad_helpers.run import open_run, steps

    overrides = _overrides(param)
    if dry_run:
        opened = open_run(profile, **overrides)
        print(opened.dir)
        print(steps.plan(opened).to_string(index=False))
    else:
        from vad_helpers import book

        book.execute_all(profile, overrides)


@app.command()
def measure(
    profile: Profile = "quick",
    param: Overrides = [],  # noqa: B006 (typer copies it)
    part: Annotated[
        str, typer.Option(metavar="K/N", help="The K-th of N parts of the clips: one a process.")
    ] = "",
    workers: Annotated[int | None, typer.Option(help="So many processes, by Dask.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Of Dask, tcp://host:8786.")] = None,
    jobqueue: Annotated[Path | None, typer.Option(help="YAML of a batch system.")] = None,
    drop_maps: Annotated[bool, typer.Option(help="Workers write no maps to the disk.")] = False,
    dry_run: Annotated[bool, typer.Option(help="List steps and estimated cost only.")] = False,
) -> None:
    """Train, explain and score clip by clip, without notebooks; an interrupted one goes on."""
    from vad_helpers.run import cluster, open_run, steps

    asked = re.fullmatch(r"([0-9]+)/([0-9]+)", part or "1/1")
    if not asked or not 1 <= int(asked[1]) <= int(asked[2]):
        raise InputError(f"--part is '{part}'; give K/N with K from 1 to N, such as 2/3")
    where = {"workers": workers, "scheduler": scheduler, "jobqueue": jobqueue}
    spread = any(value is not None for value in where.values())
    if spread and part:
        raise InputError("--part is for processes without Dask; leave it out, or the workers")
    if drop_maps and not spread:
        raise InputError("--drop-maps is for workers; `attributions/` may be deleted afterwards")
    place = cluster.place(**where) if spread else None
    opened = open_run(profile, **_overrides(param))
    if dry_run:
        table = steps.plan(opened)
        print(opened.dir, table.to_string(index=False), sep="\n")
        if workers is not None:
            print(f"{cluster.hours(table, workers):.1f} hours with {workers} workers")
        return
    steps.check(opened)
    if place is not None:
        cluster.measure(opened, place, keep=not drop_maps, progress=_watched())
    else:
        for fill in (steps.measure, steps.converge):
            fill(opened, part=(int(asked[1]), int(asked[2])), progress=_watched())
    print(opened.dir)


@app.command()
def book(
    profile: Profile = "quick",
    param: Overrides = [],  # noqa: B006 (typer copies it)
    verify: Annotated[bool, typer.Option(help="Only check the site that is there.")] = False,
    zip_it: Annotated[bool, typer.Option("--zip", help="Pack the site into one file too.")] = False,
) -> None:
    """Build the book from the executed chapters, warnings as errors, and check the site."""
    from vad_helpers import book as building

    if not verify:
        building.build_book(profile, _overrides(param))
    print(building.zip_site() if zip_it else building.verify_site())


@app.command()
def explain(
    video: Annotated[Path, typer.Argument(help="A video file, or a folder of frame pictures.")],
    weights: Annotated[Path | None, typer.Option(help="A trained network's file.")] = None,
    model: Annotated[str, typer.Option(help="Your own network: file.py:NAME.")] = "",
    args: Annotated[str, typer.Option(help="Of --model, such as '{depth: 3}'.")] = "{}",
    target: Annotated[int, typer.Option(help="The class of --model that is anomalous.")] = 1,
    method: Annotated[str, typer.Option(help="A method, see `vad methods`.")] = "lime",
    setting: Annotated[
        list[str],
        typer.Option("-s", "--setting", metavar="KEY=VALUE", help="Of the method; repeatable."),
    ] = [],  # noqa: B006 (typer copies it)
    out: Annotated[Path | None, typer.Option(help="Default: <video>-explained, here.")] = None,
    frames: Annotated[int, typer.Option(help="Frames a clip.")] = 20,
    stride: Annotated[int | None, typer.Option(help="Between clips' starts; --frames.")] = None,
    size: Annotated[str, typer.Option(metavar="HxW", help="What the network sees.")] = "158x237",
    fps: Annotated[float, typer.Option(help="Of a folder of pictures.")] = 25.0,
    seed: Annotated[int, typer.Option(help="Of what the method draws.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    scale: Annotated[str, typer.Option(help="Colours: one for the video, or each clip.")] = "video",
) -> None:
    """Explain one video: an overlay to play, a contact sheet, a table of its clips."""
    from vad_helpers.inference.prepared import resolve_device
    from vad_helpers.model import weights as saved
    from vad_helpers.run import plugins
    from vad_helpers.run.cache import file_digest
    from vad_helpers.video import explain_video

    if not (sides := re.fullmatch(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", size)):
        raise InputError(f"--size is '{size}'; give height x width, such as 158x237")
    own, origin, known = None, {}, {}
    if model:
        own, origin = plugins.network(model, _arguments(args), target=target, root=Path.cwd())
    elif weights is None:
        raise InputError("no network is given; give its --weights, or a --model of your own")
    if weights is not None:
        own, known = saved.load(weights, own)
        origin |= {"weights": weights.name, "sha256": file_digest(weights)}
    if "anomalous" not in (classes := known.get("classes", saved.CLASSES)):
        raise InputError(f"{weights} knows {classes}: give a network of 'anomalous'")
    found = explain_video(
        video,
        own.eval().to(resolve_device(device)),
        out=out or Path(f"{video.resolve().stem}-explained"),
        origin=origin,
        **{"mean": known.get("mean", 0.5), "std": known.get("std", 0.5)},
        **{"target": list(classes).index("anomalous"), "settings": _overrides(setting)},
        **{"method": method, "n_frames": frames, "stride": stride, "fps": fps, "seed": seed},
        **{"size": (int(sides[1]), int(sides[2])), "precision": precision, "scale": scale},
        progress=_watched(),
    )
    print(found[["clip", "start_s", "end_s", "p", "called", "all_zero"]].to_string(index=False))
    for odd in found.attrs["odd"]:
        print(f"{video.name}: {odd}")
    print(*found.attrs["files"], sep="\n")
    if found.attrs["interrupted"]:
        done = f"{len(found)} of {found.attrs['n_clips']} clips"
        print(f"vad: interrupted, {done} are done; the same command goes on", file=sys.stderr)
        raise typer.Exit(130)


@app.command()
def methods() -> None:
    """List the attribution methods: family, cost, settings, citation."""
    from vad_helpers.attribution import METHODS

    for key, spec in METHODS.items():
        told = ", ".join(f"{name}={value}" for name, value in spec.settings.items())
        told = f"{spec.name}; {told or 'no settings'}; {spec.citation}"
        print(f"{key:16} {spec.family:13} {told}")


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    metric: Annotated[list[str], typer.Option(help="Only this metric; repeatable.")] = [],  # noqa: B006
    row: Annotated[
        list[str], typer.Option("--row", "--method", help="Only this row; repeatable.")
    ] = [],  # noqa: B006
    csv: Annotated[Path | None, typer.Option(help="Write the whole comparison here.")] = None,
) -> None:
    """Compare runs: means, and differences from the first run, with 95 % intervals."""
    from vad_helpers import tables

    found = tables.compare(runs, metrics=metric, rows=row)
    if csv is not None:
        found.to_csv(csv, index=False)
    print(found.to_string(index=False, float_format="{:.3f}".format))


@app.command("check")
def check_own(
    kind: Annotated[str, typer.Argument(metavar="model|method|metric")],
    address: Annotated[str, typer.Argument(help="file.py:NAME or package.module:NAME.")],
    args: Annotated[str, typer.Option(help="YAML: arguments, or a method's settings.")] = "{}",
    frames: Annotated[int | None, typer.Option(help="Of a clip; default: profile quick's.")] = None,
    size: Annotated[str, typer.Option(metavar="HxW", help="Of a frame, likewise.")] = "",
    target: Annotated[int, typer.Option(help="A network's class 'anomalous'.")] = 1,
) -> None:
    """Try a network, method or metric of your own: a line a property that runs rely on."""
    from vad_helpers import conformance
    from vad_helpers.run import params, plugins

    checks = {name: getattr(conformance, f"check_{name}") for name in ("model", "method", "metric")}
    if kind not in checks:
        raise InputError(f"vad check {kind}: there is no such kind; give {', '.join(checks)}")
    given = _arguments(args)
    try:
        shape = [(p := params.load()).n_frames, *p.frame_size]
    except InputError:  # outside of the project
        shape = conformance.SHAPE
    found = re.fullmatch(r"([0-9]+)x([0-9]+)", size or "{1}x{2}".format(*shape))
    shape = (shape[0] if frames is None else frames, *map(int, found.groups() if found else ()))
    if len(shape) < 3 or min(shape) < 1:
        raise InputError("give --frames from 1, and --size HxW such as 80x120")
    options = {} if kind == "metric" else {"args": given}
    options |= {"target": target} if kind == "model" else {}
    loaded = plugins.load_object(address, root=Path.cwd())
    lines = checks[kind](loaded, shape=shape, **options)
    for line in lines:
        print(f"{line.state:7} {line.name:24} {line.told}".rstrip())
    for line in lines:
        if line.state == "fails":
            raise InputError(f"{address}: {line.name}: {line.told}")


def _watched() -> bool:
    """Tell whether somebody watches: bars belong on a terminal, not in a log."""
    return sys.stderr.isatty()


def _overrides(texts: list[str]) -> dict[str, object]:
    from vad_helpers.run import params

    return dict(params.parse_override(text) for text in texts)


def _arguments(text: str) -> dict[str, object]:
    from vad_helpers.run import params

    given = params.parse_override(f"--args={text}")[1]
    if not isinstance(given, dict):
        raise InputError(f"--args is {text!r}; give a YAML mapping such as '{{depth: 3}}'")
    return given


def main() -> None:
    """Run the command; turn bad input, a full disk or memory into one line, exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        # A pipe may not hold a path's letters (ASCII, cp1252): spelled out they are still readable.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except (InputError, OSError, RuntimeError, MemoryError) as error:
        told = str(error) or "no memory is left"  # a MemoryError may say nothing
        if isinstance(error, OSError):
            told = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        print(f"vad: {told}", file=sys.stderr)
        raise SystemExit(1 if isinstance(error, RuntimeError) else 2) from None

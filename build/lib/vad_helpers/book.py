"""Notebooks through papermill, then the book: execute, stage, build, verify, pack.

The chapters are executed with one set of parameters into `<run_dir>/notebooks/`; the book is
built from a staging folder that holds these executed copies beside the prose, so that what a
reader sees is what ran. Prose pages include the tables in `book/_run/`.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd

from vad_helpers import tables
from vad_helpers.attribution import METHODS
from vad_helpers.errors import InputError, needs
from vad_helpers.files import atomic_write
from vad_helpers.metrics.catalog import METRICS
from vad_helpers.run import open_run, params, steps
from vad_helpers.run.cache import Run

with needs("book"):
    import nbformat
    import papermill
    import yaml
    from ipykernel.kernelspec import write_kernel_spec

STUDY = "results/ucsd"
"""Folder of the published networks and what they say of every clip, in the project."""
PAPER_CLIP = (3, 20, 158, 237)
"""A clip of the paper's study as the network gets it: channels, frames, height, width."""


def chapters(root: Path, *, of: str = "run") -> list[Path]:
    """List the chapters on a "run", or those on the "study", which name `study_dir`, in order."""
    listed = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return [path for path in listed if ("study_dir" in _named(path)) == (of == "study")]


def _named(chapter: Path) -> set[str]:
    """What a chapter's parameters cell names."""
    page = nbformat.read(chapter, as_version=4)
    cell = next(c for c in page.cells if "parameters" in c.metadata.get("tags", []))
    return set(re.findall(r"^(\w+):", cell.source, flags=re.MULTILINE))


def injected(chapter: Path, profile: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Arrange overrides as papermill parameters of a chapter.

    What the chapter's parameters cell names goes there, the rest into its `overrides`.
    """
    named = _named(chapter)
    plain = {name: value for name, value in overrides.items() if name in named}
    others = {name: value for name, value in overrides.items() if name not in named}
    return {"profile": profile, **plain, **({"overrides": others} if others else {})}


def execute_all(profile: str, overrides: Mapping[str, Any]) -> Run:
    """Execute the chapters on a run; keep the executed copies; print how long each took.

    Copies of an earlier run are removed first: after a failure, none can be taken for this run's.
    InputError for bad parameters, before anything runs; else the errors of `execute`.
    """
    run = open_run(profile, **overrides)
    steps.check(run)
    if run.readonly:
        raise InputError(
            f"{run.dir} is read-only ({run.readonly}), so that `vad run` has nothing to run; open "
            "one chapter on it: papermill CHAPTER OUT -p run_dir ..."
        )
    listed = chapters(run.root)
    for chapter in listed:
        for name in (chapter.name, f"{chapter.stem}-failed.ipynb"):
            (run.dir / "notebooks" / name).unlink(missing_ok=True)
    started = time.perf_counter()
    for number, chapter in enumerate(listed, start=1):
        print(f"[{number}/{len(listed)}] {chapter.stem} ...", end=" ", flush=True)
        begun = time.perf_counter()
        execute(run, chapter, injected(chapter, profile, overrides))
        print(f"{time.perf_counter() - begun:.0f} s", flush=True)
    minutes = (time.perf_counter() - started) / 60
    print(f"executed {len(listed)} chapters in {minutes:.1f} minutes: {run.dir}")
    return run


def execute(run: Run, chapter: Path, values: Mapping[str, Any]) -> Path:
    """Execute one chapter through papermill into the run's folder.

    InputError if the chapter ended on bad input, OSError if a file could not be written,
    RuntimeError if it failed otherwise: its executed copy shows where.
    """
    target = run.dir / "notebooks" / chapter.name
    failed = target.with_name(f"{chapter.stem}-failed.ipynb")
    with atomic_write(target) as partial, batch_mode():
        try:
            papermill.execute_notebook(
                chapter,
                partial,
                parameters=dict(values),
                cwd=run.root,
                kernel_name="python3",
                progress_bar=sys.stderr.isatty(),
            )
        except papermill.PapermillExecutionError as error:
            shutil.copyfile(partial, failed)
            kind, told = getattr(builtins, error.ename, None), error.evalue
            if error.ename == "InputError":
                raise InputError(told) from None
            if isinstance(kind, type) and issubclass(kind, OSError):  # a full disk, no permission
                raise OSError(told) from None
            told = f"{chapter.stem} failed with {error.ename}: {told}; see {failed}"
            raise RuntimeError(told) from None
    failed.unlink(missing_ok=True)
    return target


@contextlib.contextmanager
def batch_mode() -> Iterator[None]:
    """Start kernels of this very Python, and tell them that nobody watches.

    A `python3` kernel of another interpreter may come first on JUPYTER_PATH; here a kernel
    specification of our own comes before it.
    """
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ):  # put back after
        write_kernel_spec(Path(folder) / "kernels" / "python3")
        places = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
        os.environ |= {"JUPYTER_PATH": places, "VAD_BATCH": "1"}
        os.environ.pop("MPLBACKEND", None)  # `agg` would silently drop every inline figure
        yield


def build_book(profile: str, overrides: Mapping[str, Any]) -> Path:
    """Stage the executed chapters and build the book, warnings as errors: path of its index.

    InputError if a chapter has not been executed with these parameters, RuntimeError if the build
    fails or warns.
    """
    run = open_run(profile, **overrides)
    steps.check(run)
    staged = stage(run)
    build = run.root / "_build"
    # A page left over from an earlier book must not pass for one of this book.
    shutil.rmtree(build / "html", ignore_errors=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(staged)]
    command += ["--path-output", str(run.root), "-n", "-W", "--keep-going"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=run.root)
    (build / "build.log").write_text(result.stdout + result.stderr, encoding="utf-8")
    index = build / "html" / "index.html"
    if result.returncode or not index.is_file():
        lines = result.stderr.splitlines()
        warned = [line for line in lines if "WARNING" in line or "ERROR" in line]
        tail = "\n".join(warned or lines[-15:])
        raise RuntimeError(f"the book did not build; see {build / 'build.log'}\n{tail}")
    return index


def verify_site(root: Path | None = None) -> Path:
    """Check that the built site is whole: path of its index.

    RuntimeError if a page of the contents is missing, nearly empty, or shows a Python traceback.
    """
    root = root or params.project_root()
    html = root / "_build" / "html"
    if not (html / "index.html").is_file():
        raise RuntimeError(f"no site at {html}; build it with `make book`")
    contents = (root / "_toc.yml").read_text(encoding="utf-8")
    for name in re.findall(r"^\s*-?\s*(?:root|file): (\S+)", contents, flags=re.MULTILINE):
        page = html / f"{name}.html"
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        if len(text) < 2000:
            raise RuntimeError(f"{page} is missing or empty; see {root / '_build' / 'build.log'}")
        if "Traceback (most recent call last)" in text:
            raise RuntimeError(f"{page} shows a Python error; run its notebook alone to see why")
    return html / "index.html"


def zip_site(root: Path | None = None) -> Path:
    """Pack the built site into `_build/book.zip`, to hand on and read without a network: unpacked,
    `book/index.html` opens it. RuntimeError if the site is not whole."""
    html = verify_site(root).parent
    target = html.parent / "book.zip"
    with atomic_write(target) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in html.rglob("*") if path.is_file()):
                archive.write(path, Path("book") / path.relative_to(html))
    return target


def stage(run: Run) -> Path:
    """Make the staging folder: prose, executed chapters, tables that the prose includes.

    Chapters on the study are executed here, so that a headline that its tables contradict stops the
    build: RuntimeError. InputError if another chapter has not been executed, or with other
    parameters than the run's.
    """
    executed = {path.stem: _executed(run, path) for path in chapters(run.root)}
    study = {
        path.stem: nbformat.read(execute(run, path, {}), as_version=4)
        for path in chapters(run.root, of="study")
    }
    numbers, executed = stated(*study.values()), executed | study
    staged = run.root / "_build" / "stage"
    shutil.rmtree(staged, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in ("book", "examples"):
        shutil.copytree(run.root / name, staged / name, ignore=ignore)
    shutil.copytree(run.root / "notebooks", staged / "book" / "_run" / "notebooks", ignore=ignore)
    shutil.copy(run.root / "_toc.yml", staged / "_toc.yml")
    config = yaml.safe_load((run.root / "_config.yml").read_text(encoding="utf-8"))
    if config["repository"]["url"]:  # without an address, buttons would lead nowhere
        config["launch_buttons"]["binderhub_url"] = "https://mybinder.org"
        config["html"]["use_repository_button"] = True
    config["sphinx"]["config"]["myst_substitutions"] = numbers
    (staged / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    for figures in (run.root / "results").glob("*/figures"):
        shutil.copytree(figures, staged / figures.relative_to(run.root))
    write_fragments(run, staged / "book" / "_run")
    (staged / "notebooks").mkdir()
    for name, page in executed.items():
        page = merge_parameters(page)
        # The notebook without outputs, to take along: the theme's button gives the executed one.
        link = f"{{download}}`{name}.ipynb <../book/_run/notebooks/{name}.ipynb>`"
        page.cells.insert(1, nbformat.v4.new_markdown_cell(link, id="download"))
        nbformat.write(page, staged / "notebooks" / f"{name}.ipynb")
    return staged


def _executed(run: Run, chapter: Path) -> nbformat.NotebookNode:
    """Read a chapter's executed copy, if it was executed with the run's parameters.

    They are compared by what they mean, the profile's values filled in. Where the run and its data
    lie does not matter: the data's content is in the manifest's key.
    """
    path = run.dir / "notebooks" / chapter.name
    again = f"run `vad run --profile {run.params.profile}` with the same parameters first"
    if not path.is_file():
        raise InputError(f"{path} is not there; {again}")
    page = nbformat.read(path, as_version=4)
    values = dict(page.metadata.get("papermill", {}).get("parameters", {}))
    values |= values.pop("overrides", {})
    try:
        made = params.load(values.pop("profile", run.params.profile), root=run.root, **values)
    except InputError as error:  # of a parameter or a profile that was there then
        raise InputError(f"{path} has parameters that no longer hold ({error}); {again}") from None
    for name in params.Params.model_fields:
        had, want = getattr(made, name), getattr(run.params, name)
        if had != want and name not in ("run_dir", "data_dir"):
            raise InputError(
                f"{path} was executed with {name} {had}, asked for now is {want}; {again}"
            )
    return page


def stated(*pages: nbformat.NotebookNode) -> dict[str, str]:
    """What executed chapters state for the prose (`viz.state`), by name; ValueError for a name that
    is given two values, of which a sentence would show the wrong one."""
    found: dict[str, str] = {}
    for output in (o for page in pages for cell in page.cells for o in cell.get("outputs", ())):
        if name := output.get("metadata", {}).get("scrapbook", {}).get("name"):
            text = output["data"]["application/papermill.record/text/plain"]
            value = ast.literal_eval(text)
            if found.setdefault(name, value) != value:
                raise ValueError(f"{name} is stated as {found[name]} and as {value}; rename one")
    return found


def bibtex(root: Path) -> str:
    """Write `CITATION.cff` as a BibTeX entry."""
    about = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    people = [
        f"{{{a['name']}}}" if "name" in a else f"{a['given-names']} {a['family-names']}"
        for a in about["authors"]
    ]
    fields = {
        "title": f"{{{about['title']}}}",
        "author": " and ".join(people),
        "version": about["version"],
        "year": str(about["date-released"])[:4],
        "license": about["license"],
    }
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items()]
    return "@software{vad_explained,\n" + ",\n".join(lines) + "\n}\n"


def merge_parameters(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Show one parameters cell, holding the injected values, and drop papermill's metadata."""
    tagged = {}
    for part in (notebook, *notebook.cells):
        part.metadata.pop("papermill", None)
        part.metadata.pop("execution", None)
        tagged |= dict.fromkeys(part.metadata.get("tags", []), part)
    if given := tagged.get("injected-parameters"):
        notebook.cells.remove(given)
        values = dict(re.findall(r"^(\w+) = (.*)$", given.source, flags=re.MULTILINE))
        tagged["parameters"].source = re.sub(
            r"^(\w+)(: [^=\n]*= )(.*?)(  #.*)?$",
            lambda line: f"{line[1]}{line[2]}{values.get(line[1], line[3])}{line[4] or ''}",
            tagged["parameters"].source,
            flags=re.MULTILINE,
        )
    return notebook


def write_fragments(run: Run, folder: Path) -> None:
    """Write what prose pages include into `book/_run` of the staging folder: tables, the explorer,
    the entry to cite."""
    from vad_helpers import viz  # draws: who only runs chapters need not load it
    from vad_helpers.viz import explorer

    study, committed = tables.load(run.dir), tables.load(run.root / STUDY)
    networks = tables.performance_table(tables.performance(committed))
    listed = method_table(study)
    in_paper = listed["key"].isin(tables.paper()["row"])
    made = {"methods": listed[in_paper], "methods_beyond": listed[~in_paper]}
    made |= {"facts": run.facts(), "metrics": metric_table(), "study_performance": networks}
    for name, table in made.items():
        html = viz.table_html(table, index=not isinstance(table.index, pd.RangeIndex))
        (folder / f"{name}.md").write_text(html, encoding="utf-8")
    (folder / "explorer.html").write_text(explorer.explorer_html(run), encoding="utf-8")
    entry = f"```bibtex\n{bibtex(run.root)}```\n"
    (folder / "citation.md").write_text(entry, encoding="utf-8")


def method_table(study: tables.Study) -> pd.DataFrame:
    """One line a method: key, family, settings and model calls of the paper, seconds in a study."""
    seconds = study.explanations.groupby("row")["seconds"].median()
    lines = {
        spec.name: {
            "key": key,
            "family": spec.family,
            "settings": ", ".join(f"{name} {value}" for name, value in spec.settings.items()),
            "calls": spec.model_calls(spec.settings, PAPER_CLIP, spec.settings.get("n_segments")),
            "seconds here": seconds.get(key),
        }
        for key, spec in METHODS.items()
    }
    return pd.DataFrame.from_dict(lines, orient="index")


def metric_table() -> pd.DataFrame:
    """One line a metric: key, range, which way is better, what else moves it."""
    lines = {
        metric.name: {
            "key": metric.key,
            "asks about": metric.family,
            "range": "{:g} to {:g} {}".format(*metric.range, metric.unit or "").strip(),
            "better": metric.direction,
            "sensitive to": ", ".join(metric.sensitive_to),
        }
        for metric in METRICS.values()
    }
    return pd.DataFrame.from_dict(lines, orient="index")

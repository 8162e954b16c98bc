"""Notebooks through papermill, then the book: run, plan, stage, build.

The chapters are executed with one set of parameters into `<run_dir>/notebooks/`; the book is
built from a staging folder that holds these executed copies beside the prose, so that what a
reader sees is what ran.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
import yaml

from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write
from vad_helpers.pages.chapters import Chapter, with_head
from vad_helpers.store import detector, experiment, params
from vad_helpers.store.cache import Run, open_run
from vad_helpers.store.params import project_root
from vad_helpers.store.row import check_rows

INJECTABLE = (
    "profile",
    "data_dir",
    "run_dir",
    "seed",
    "device",
    "precision",
    "fold",
    "n_clips",
    "methods",
    "epochs",
    "init_weights",
    "trained_weights",
)
"""Parameters with a line of their own in every notebook; others travel in `overrides`."""

BINDER = "https://mybinder.org"


def notebooks(root: Path) -> list[Path]:
    """List the chapters in their order."""
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def open_checked(profile: str, overrides: Mapping[str, Any]) -> Run:
    """Open a run and check its parameters as far as possible before anything starts.

    Raises
    ------
    InputError
        For an unknown profile, parameter, method or setting, a value of the wrong type or out of
        range, a device that is not there, a tree without sequences, weights that cannot be used,
        or a split by clip.

    Warns
    -----
    UserWarning
        If bf16 is asked for on a device that only emulates it.
    """
    params.check_overrides(overrides)
    run = open_run(profile, **overrides)
    if run.params.split_by != "sequence":
        # Chapters and tables say that tested sequences were never seen.
        raise InputError(
            f"parameter 'split_by' is '{run.params.split_by}', which shows the network the tested "
            "sequences; measure it beside a study: vad measure --alternative split_by_clip"
        )
    check_rows(run)
    detector.warn_of_emulation(run)
    experiment.check_data(run)
    detector.check_weights(run)
    return run


def injected(profile: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Arrange overrides as papermill parameters of a chapter."""
    plain = {name: value for name, value in overrides.items() if name in INJECTABLE}
    others = {name: value for name, value in overrides.items() if name not in INJECTABLE}
    return {"profile": profile, **plain, **({"overrides": others} if others else {})}


def execute_all(profile: str, overrides: Mapping[str, Any]) -> Run:
    """Execute every chapter; keep the executed copies; tell how each went.

    Copies of an earlier run are removed first: after a failure, none of them can be taken for
    this run's.

    Parameters
    ----------
    profile : str
    overrides : mapping
        Parameters that replace the profile's values.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        For bad parameters, before anything runs; or raised inside a chapter.
    RuntimeError
        If a chapter fails; its executed copy shows where.
    """
    run = open_checked(profile, overrides)
    chapters = notebooks(run.root)
    for chapter in chapters:
        executed_path(run, chapter).unlink(missing_ok=True)
        failed_path(run, chapter).unlink(missing_ok=True)
    started = time.perf_counter()
    for number, chapter in enumerate(chapters, start=1):
        print(f"[{number}/{len(chapters)}] {chapter.stem} ...", end=" ", flush=True)
        begun = time.perf_counter()
        execute(run, chapter, injected(profile, overrides))
        print(f"{time.perf_counter() - begun:.0f} s", flush=True)
    minutes = (time.perf_counter() - started) / 60
    print(f"executed {len(chapters)} chapters in {minutes:.1f} minutes: {run.dir}")
    return run


def executed_path(run: Run, chapter: Path) -> Path:
    """Path of a chapter's executed copy."""
    return run.dir / "notebooks" / chapter.name


def failed_path(run: Run, chapter: Path) -> Path:
    """Path of what is kept of a chapter that failed."""
    return run.dir / "notebooks" / f"{chapter.stem}-failed.ipynb"


def execute(run: Run, chapter: Path, values: Mapping[str, Any]) -> Path:
    """Execute one chapter through papermill into the run's folder.

    Raises
    ------
    InputError
        If the chapter ended on bad input.
    OSError
        If a file could not be written.
    RuntimeError
        If it failed otherwise.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    target = executed_path(run, chapter)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed when complete: a killed run never leaves half a chapter.
    partial = target.with_name(f".partial-{target.name}")
    try:
        with batch_mode():
            papermill.execute_notebook(
                chapter,
                partial,
                parameters=dict(values),
                cwd=run.root,
                kernel_name="python3",
                progress_bar=sys.stderr.isatty(),
            )
        failed_path(run, chapter).unlink(missing_ok=True)
        os.replace(partial, target)
    except PapermillExecutionError as error:
        os.replace(partial, failed_path(run, chapter))
        raise _told_apart(error, chapter, failed_path(run, chapter)) from None
    finally:
        partial.unlink(missing_ok=True)
    return target


def _told_apart(error: Any, chapter: Path, failed: Path) -> Exception:
    """The error inside a chapter as one of ours: bad input, the disk's trouble, or a failure."""
    kind = getattr(builtins, error.ename, None)
    if error.ename == "InputError":
        return InputError(error.evalue)
    if isinstance(kind, type) and issubclass(kind, OSError):  # a full disk, no permission, ...
        return OSError(error.evalue)
    return RuntimeError(f"{chapter.stem} failed with {error.ename}: {error.evalue}; see {failed}")


@contextlib.contextmanager
def batch_mode() -> Iterator[None]:
    """Tell kernels started inside that nobody watches: no progress bars in their outputs."""
    before = {name: os.environ.get(name) for name in ("VAD_BATCH", "MPLBACKEND")}
    os.environ["VAD_BATCH"] = "1"
    os.environ.pop("MPLBACKEND", None)  # `agg` would silently drop every inline figure
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def build_book(profile: str, overrides: Mapping[str, Any]) -> Path:
    """Stage the executed chapters and build the book, warnings as errors.

    Returns
    -------
    Path
        `_build/html/index.html`.

    Raises
    ------
    InputError
        If a chapter has not been executed with these parameters.
    RuntimeError
        If the build fails or warns.
    """
    run = open_checked(profile, overrides)
    staged = stage(run)
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        *("build", str(staged), "--path-output", str(run.root)),
        *("-n", "-W", "--keep-going"),
    ]
    log = run.root / "_build" / "build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # A page left over from an earlier book must not pass for one of this book.
    shutil.rmtree(run.root / "_build" / "html", ignore_errors=True)
    result = subprocess.run(command, capture_output=True, text=True, cwd=run.root)
    log.write_text(result.stdout + result.stderr, encoding="utf-8")
    index = run.root / "_build" / "html" / "index.html"
    if result.returncode or not index.is_file():
        tail = "\n".join(warnings_in(result.stderr) or (result.stderr.splitlines()[-15:]))
        raise RuntimeError(f"the book did not build; see {log}\n{tail}")
    return index


def verify_site(root: Path | None = None) -> Path:
    """Check that the built site is whole: every page of the table of contents, none in error.

    Returns
    -------
    Path
        `_build/html/index.html`.

    Raises
    ------
    RuntimeError
        If a page is missing, nearly empty, or shows a Python traceback.
    """
    root = root or project_root()
    html = root / "_build" / "html"
    if not (html / "index.html").is_file():
        raise RuntimeError(f"no site at {html}; build it with `make book`")
    for name in pages_of_toc(root / "_toc.yml"):
        page = html / f"{name}.html"
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        if len(text) < 2000:
            raise RuntimeError(f"{page} is missing or empty; see {root / '_build' / 'build.log'}")
        if "Traceback (most recent call last)" in text:
            raise RuntimeError(f"{page} shows a Python error; run its notebook alone to see why")
    return html / "index.html"


def zip_site(root: Path | None = None) -> Path:
    """Pack the built site into one file that can be handed on and read without a network.

    Returns
    -------
    Path
        `_build/book.zip`; unpacked, `book/index.html` opens it.

    Raises
    ------
    RuntimeError
        If the site is not whole.
    """
    html = verify_site(root).parent
    target = html.parent / "book.zip"
    with atomic_write(target) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in html.rglob("*") if path.is_file()):
                archive.write(path, Path("book") / path.relative_to(html))
    return target


def pages_of_toc(path: Path) -> list[str]:
    """Names of all pages in a table of contents, in reading order."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("root", "file"):
                    yield str(value).removesuffix(".md").removesuffix(".ipynb")
                else:
                    yield from walk(value)
        elif isinstance(node, list):
            for item in node:
                yield from walk(item)

    return list(walk(yaml.safe_load(path.read_text(encoding="utf-8"))))


def warnings_in(text: str) -> list[str]:
    """Lines of a Sphinx log that warn or err."""
    return [line for line in text.splitlines() if "WARNING" in line or "ERROR" in line]


def stage(run: Run) -> Path:
    """Make the staging folder: prose, executed chapters, this run's tables and figure.

    Raises
    ------
    InputError
        If a chapter has not been executed, or with other parameters than the run's.
    """
    from vad_helpers.pages import bookfiles  # draws: who only runs chapters need not load that

    executed = [Chapter(path.stem, _executed_page(run, path)) for path in notebooks(run.root)]
    staged = run.root / "_build" / "stage"
    shutil.rmtree(staged, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in ("book", "examples"):
        shutil.copytree(run.root / name, staged / name, ignore=ignore)
    shutil.copy(run.root / "_toc.yml", staged / "_toc.yml")
    config = yaml.safe_load((run.root / "_config.yml").read_text(encoding="utf-8"))
    _write_all({"_config.yml": yaml.safe_dump(with_buttons(config), sort_keys=False)}, staged)
    shutil.copytree(run.root / "notebooks", staged / "book" / "_run" / "notebooks", ignore=ignore)
    write_run_pages(run, staged / "book" / "_run")
    _write_all(bookfiles.files(run, executed), staged)
    (staged / "notebooks").mkdir()
    for chapter in executed:
        page = merge_parameters(with_head(chapter, bookfiles.head(run, chapter)))
        nbformat.write(page, staged / "notebooks" / f"{chapter.name}.ipynb")
    return staged


def with_buttons(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the book's configuration with launch buttons, if it names a public repository.

    Parameters
    ----------
    config : mapping
        Of `_config.yml`. Where `repository.url` is empty, buttons would lead nowhere, and the
        theme refuses them: nothing changes then.

    Returns
    -------
    dict
        With a button that opens a chapter on Binder, and one that leads to the source.
    """
    if not config.get("repository", {}).get("url"):
        return dict(config)
    launch = {**config.get("launch_buttons", {}), "binderhub_url": BINDER}
    html = {**config.get("html", {}), "use_repository_button": True}
    return {**config, "launch_buttons": launch, "html": html}


def _executed_page(run: Run, chapter: Path) -> nbformat.NotebookNode:
    """Read a chapter's executed copy, if it was executed with the run's parameters."""
    executed = executed_path(run, chapter)
    what_to_do = f"run `vad run --profile {run.params.profile}` with the same parameters first"
    if not executed.is_file():
        raise InputError(f"{executed} is not there; {what_to_do}")
    page = nbformat.read(executed, as_version=4)
    difference = _difference(run, page.metadata.get("papermill", {}).get("parameters", {}))
    if difference:
        raise InputError(f"{executed} was executed with {difference}; {what_to_do}")
    return page


def _difference(run: Run, recorded: Mapping[str, Any]) -> str:
    """Say in what the parameters of an executed chapter differ from the run's; "" if in nothing.

    They are compared by what they mean, the profile's values filled in. Where the run lies does not
    matter, nor where its data lie, as long as they are the same.
    """
    values = {**recorded, **recorded.get("overrides", {})}
    values.pop("overrides", None)
    profile = values.pop("profile", run.params.profile)
    try:
        made = open_run(profile, **values)
        if made.params.data_dir != run.params.data_dir:
            had, want = (experiment.data_key(each) for each in (made, run))
            if had != want:
                return f"other data ({made.params.data_dir})"
    except InputError as error:  # of a parameter or a profile that was there then
        return f"parameters that no longer hold ({error})"
    for name in params.names():
        had, want = getattr(made.params, name), getattr(run.params, name)
        if had != want and name not in ("run_dir", "data_dir"):
            return f"{name} {had}, asked for now is {want}"
    return ""


def merge_parameters(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Show one parameters cell, holding the injected values, and drop papermill's metadata."""
    cells = []
    values: dict[str, str] = {}
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            values = _assignments(cell.source)
        else:
            cells.append(cell)
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    for cell in cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = _with_values(cell.source, values)
    notebook.cells = cells
    notebook.metadata.pop("papermill", None)
    return notebook


def _assignments(source: str) -> dict[str, str]:
    lines = [line.partition("=") for line in source.splitlines() if "=" in line]
    return {name.strip(): value.strip() for name, sign, value in lines if not name.startswith("#")}


def _with_values(source: str, values: Mapping[str, str]) -> str:
    lines = []
    for line in source.splitlines():
        left, sign, right = line.partition("=")
        name = left.partition(":")[0].strip()
        if sign and name in values:
            _, hash_sign, comment = right.partition("#")
            right = f" {values[name]}" + (f"  # {comment.strip()}" if hash_sign else "")
        lines.append(left + sign + right)
    return "\n".join(lines)


def write_run_pages(run: Run, folder: Path) -> None:
    """Write what the prose pages include: this run's banner, tables and figure."""
    from vad_helpers.pages import report

    _write_all(report.pages(run), folder)


def _write_all(contents: Mapping[str, str | bytes], folder: Path) -> None:
    for name, content in contents.items():
        with atomic_write(folder / name) as temporary:
            if isinstance(content, bytes):
                temporary.write_bytes(content)
            else:
                temporary.write_text(content, encoding="utf-8")

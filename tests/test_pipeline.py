"""Running chapters and building the book."""

import re
import shutil
import zipfile

import nbformat
import pytest

from vad_helpers import pipeline, store
from vad_helpers.data import walkway
from vad_helpers.errors import InputError
from vad_helpers.pages import report


def notebook(*cells):
    made = nbformat.v4.new_notebook()
    for source, tags in cells:
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": tags, "papermill": {"x": 1}})
        made.cells.append(cell)
    made.metadata.update(papermill={"input_path": "x"}, language_info={"name": "python"})
    return made


def test_injected_values_move_into_the_one_parameters_cell():
    page = pipeline.merge_parameters(
        notebook(
            (
                'profile: str = "quick"  # which\nepochs: int | None = None\nkept = 1',
                ["parameters"],
            ),
            ('# Parameters\nprofile = "ucsd"\nepochs = 3', ["injected-parameters"]),
            ("x = epochs", []),
        )
    )
    assert [cell.source for cell in page.cells] == [
        'profile: str = "ucsd"  # which\nepochs: int | None = 3\nkept = 1',
        "x = epochs",
    ]
    assert "papermill" not in page.metadata
    assert all("papermill" not in cell.metadata for cell in page.cells)


def test_parameters_without_a_line_of_their_own_travel_in_overrides():
    assert pipeline.injected("quick", {"epochs": 2, "lr": 0.1}) == {
        "profile": "quick",
        "epochs": 2,
        "overrides": {"lr": 0.1},
    }
    assert pipeline.injected("quick", {}) == {"profile": "quick"}


def test_every_injectable_parameter_has_its_line_in_every_chapter(in_project):
    chapters = pipeline.notebooks(in_project)
    assert [c.stem[:2] for c in chapters] == [f"0{k}" for k in range(1, 8)]
    for chapter in chapters:
        (cell,) = [
            c
            for c in nbformat.read(chapter, as_version=4).cells
            if "parameters" in c.metadata.get("tags", [])
        ]
        found = re.findall(r"^(\w+):", cell.source, flags=re.M)
        assert found == [*pipeline.INJECTABLE, "overrides"], chapter.name


@pytest.fixture
def one_chapter(in_project, tmp_path, monkeypatch):
    """A project whose only chapter holds the given code."""

    def make(code):
        path = tmp_path / "01_only.ipynb"
        nbformat.write(
            notebook(('profile = "tiny"\nrun_dir = None', ["parameters"]), (code, [])), path
        )
        monkeypatch.setattr(pipeline, "notebooks", lambda root: [path])
        return {"run_dir": str(tmp_path / "run")}

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("raise RuntimeError('broken')", RuntimeError, "01_only failed with RuntimeError: broken"),
        (
            "import vad_helpers.errors as e\nraise e.InputError('no such thing')",
            InputError,
            "no such",
        ),
        ("raise OSError(28, 'No space left on device')", OSError, "No space left"),
        ("raise PermissionError(13, 'Permission denied')", OSError, "Permission denied"),
    ],
)
def test_a_failing_chapter_is_told_apart_and_leaves_no_executed_copy(
    one_chapter, tmp_path, code, error, words
):
    with pytest.raises(error, match=words):
        pipeline.execute_all("tiny", one_chapter(code))
    names = {p.name for p in (tmp_path / "run" / "notebooks").iterdir()}
    assert names == {"01_only-failed.ipynb"}


@pytest.mark.slow
def test_a_chapter_runs_in_the_project_without_bars_and_keeps_its_figures(
    one_chapter, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MPLBACKEND", "agg")
    code = "import os\nprint(os.getcwd(), os.environ['VAD_BATCH'], 'MPLBACKEND' in os.environ)"
    overrides = one_chapter(code)
    run = pipeline.execute_all("tiny", overrides)
    executed = nbformat.read(tmp_path / "run" / "notebooks" / "01_only.ipynb", as_version=4)
    printed = executed.cells[-1].outputs[0].text
    assert printed.split()[0] == str(run.root)
    # The inline backend sets the variable itself, to its own name.
    assert printed.split()[1] == "1"
    assert "[1/1] 01_only" in capsys.readouterr().out
    monkeypatch.setattr(pipeline, "write_run_pages", lambda run, folder: None)
    staged = pipeline.stage(run)
    assert (staged / "notebooks" / "01_only.ipynb").is_file()
    import os

    assert os.environ["MPLBACKEND"] == "agg" and "VAD_BATCH" not in os.environ


@pytest.mark.slow
def test_a_full_disk_while_weights_are_written_is_told_as_such(one_chapter, tmp_path, full_disk):
    store.clips(store.open_run("tiny"))  # the data are there
    code = "from vad_helpers import store\nstore.model(store.open_run(profile, run_dir=run_dir))"
    with full_disk(200_000), pytest.raises(OSError, match="File too large"):
        pipeline.execute_all("tiny", one_chapter(code))
    files = [path.name for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert "clips.csv" in files and "01_only-failed.ipynb" in files
    assert not [name for name in files if "partial" in name or name.endswith((".pt", "tensors"))]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_a_killed_chapter_leaves_no_half_of_a_copy(one_chapter, tmp_path, monkeypatch, error):
    import papermill

    def die(chapter, partial, **options):
        partial.write_text("{")
        raise error

    monkeypatch.setattr(papermill, "execute_notebook", die)
    with pytest.raises(type(error)):
        pipeline.execute_all("tiny", one_chapter("pass"))
    assert list((tmp_path / "run" / "notebooks").iterdir()) == []


@pytest.fixture
def tree_elsewhere(tmp_path):
    """Two places of one tree, and another tree."""
    sizes = {"ped1_size": (48, 64), "ped2_size": (48, 64), "n_frames": 32}
    first = walkway.write(tmp_path / "one", n_train=5, n_test=5, **sizes)
    shutil.copytree(first, tmp_path / "copy")
    other = shutil.copytree(first, tmp_path / "other")
    shutil.rmtree(other / "UCSDped2" / "Train" / "Train005")
    return (first, tmp_path / "copy"), other


@pytest.fixture
def chapters(in_project, tmp_path, monkeypatch):
    """Two chapters; their executed copies are written by `executed(**parameters)`."""
    paths = [tmp_path / f"0{k}_chapter.ipynb" for k in (1, 2)]
    monkeypatch.setattr(pipeline, "notebooks", lambda root: paths)
    monkeypatch.setattr(pipeline, "write_run_pages", lambda run, folder: None)
    overrides = {"run_dir": str(tmp_path / "run")}

    def executed(**parameters):
        run = store.open_run("tiny", **overrides)
        for path in paths:
            page = notebook(("x = 1", []))
            page.metadata["papermill"] = {"parameters": {"profile": "tiny", **parameters}}
            copy = pipeline.executed_path(run, path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(page, copy)
        return run

    return executed, overrides


def test_chapters_executed_with_the_same_parameters_are_staged(chapters):
    executed, overrides = chapters
    executed(**overrides, n_clips=2, overrides={"lr": 0.1})
    run = pipeline.open_checked("tiny", {**overrides, "n_clips": 2, "lr": 0.1})
    staged = pipeline.stage(run)
    names = {path.name for path in (staged / "notebooks").iterdir()}
    assert names == {"01_chapter.ipynb", "02_chapter.ipynb"}


@pytest.mark.parametrize(
    ("had", "asked", "words"),
    [
        ({"epochs": 3}, {}, "epochs 3, asked for now is 1"),
        ({}, {"epochs": 3}, "epochs 1, asked for now is 3"),
        ({"n_clips": 2}, {"n_clips": 4}, "n_clips 2, asked for now is 4"),
        ({"overrides": {"lr": 0.1}}, {"lr": 0.2}, "lr 0.1, asked for now is 0.2"),
        ({"settings": {"ig": {"n_steps": 9}}}, {}, "settings .*'n_steps': 9"),
        ({"profile": "quick"}, {}, "(other data|profile quick)"),
        ({"profile": "gone"}, {}, "no longer hold .unknown profile 'gone'"),
    ],
)
def test_chapters_executed_with_other_parameters_are_no_book(chapters, had, asked, words):
    executed, overrides = chapters
    executed(**overrides, **had)
    with pytest.raises(InputError, match=f"{words}.*same parameters first"):
        pipeline.build_book("tiny", {**overrides, **asked})


def test_a_value_that_is_the_profiles_own_makes_no_difference(chapters):
    executed, overrides = chapters
    executed(**overrides, epochs=1)
    assert pipeline.stage(pipeline.open_checked("tiny", overrides))


def test_the_place_of_the_data_does_not_matter_but_the_data_do(chapters, tree_elsewhere):
    executed, overrides = chapters
    same, other = tree_elsewhere
    executed(**overrides, overrides={"dataset": "ucsd"}, data_dir=str(same[0]))
    options = {**overrides, "dataset": "ucsd"}
    assert pipeline.stage(pipeline.open_checked("tiny", {**options, "data_dir": str(same[1])}))
    with pytest.raises(InputError, match="other data"):
        pipeline.build_book("tiny", {**options, "data_dir": str(other)})


def test_a_run_that_fails_midway_leaves_no_older_chapter_behind(chapters, monkeypatch):
    executed, overrides = chapters
    run = executed(**overrides)

    def fail(*arguments):
        raise RuntimeError("broken")

    monkeypatch.setattr(pipeline, "execute", fail)
    with pytest.raises(RuntimeError, match="broken"):
        pipeline.execute_all("tiny", overrides)
    assert list((run.dir / "notebooks").iterdir()) == []


def test_a_book_without_executed_chapters_says_what_to_run(in_project, tmp_path):
    with pytest.raises(InputError, match="vad run --profile tiny"):
        pipeline.build_book("tiny", {"run_dir": str(tmp_path / "nothing")})


def test_the_pages_of_the_table_of_contents_are_listed_in_order(tmp_path):
    toc = tmp_path / "_toc.yml"
    toc.write_text("root: a\nparts:\n- chapters:\n  - file: b.md\n    sections:\n    - file: c\n")
    assert pipeline.pages_of_toc(toc) == ["a", "b", "c"]


def site(folder, text):
    (folder / "_toc.yml").write_text("root: a\n")
    html = folder / "_build" / "html"
    html.mkdir(parents=True)
    (html / "index.html").write_text("x" * 3000)
    if text is not None:
        (html / "a.html").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "missing or empty"),
        ("short", "missing or empty"),
        ("Traceback (most recent call last)" + "x" * 3000, "Python error"),
    ],
)
def test_an_empty_or_erring_site_is_refused(tmp_path, text, words):
    with pytest.raises(RuntimeError, match=words):
        pipeline.verify_site(site(tmp_path, text))


def test_a_whole_site_is_accepted_and_none_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="make book"):
        pipeline.verify_site(tmp_path)
    assert pipeline.verify_site(site(tmp_path, "x" * 3000)).name == "index.html"


def test_warnings_are_picked_from_a_log():
    assert pipeline.warnings_in("fine\na.md:3: WARNING: x\n") == ["a.md:3: WARNING: x"]


def test_the_banner_says_what_kind_of_data_and_how_many_clips(in_project):
    run = store.open_run("tiny")
    text = report.banner(run)
    assert "Synthetic data" in text and "`tiny`" in text and "3 anomalous clips" in text


def test_reference_ranks_have_a_column_for_every_reference(in_project):
    found = report.reference_ranks(store.open_run("tiny"))
    assert found.columns[0] == "rank" and len(found.columns) == 6
    assert found.iloc[0, 1].split()[-1] in {"higher", "lower", "undecided"}


def test_the_zip_holds_the_whole_site_under_one_folder(tmp_path):
    with pytest.raises(RuntimeError, match="make book"):
        pipeline.zip_site(tmp_path)
    root = site(tmp_path, "x" * 3000)
    asset = root / "_build" / "html" / "_static" / "deep" / "a.css"
    asset.parent.mkdir(parents=True)
    asset.write_text("p {}")
    packed = pipeline.zip_site(root)
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        assert archive.read("book/_static/deep/a.css") == b"p {}"
    assert packed.name == "book.zip" and "book/index.html" in names
    assert all(name.startswith("book/") for name in names)


def test_launch_buttons_need_a_public_repository():
    config = {"repository": {"url": ""}, "launch_buttons": {"thebe": False}, "html": {"a": 1}}
    assert pipeline.with_buttons(config) == config
    public = pipeline.with_buttons(config | {"repository": {"url": "https://example.org/a/b"}})
    assert public["launch_buttons"] == {"thebe": False, "binderhub_url": pipeline.BINDER}
    assert public["html"] == {"a": 1, "use_repository_button": True}
    assert config["html"] == {"a": 1}

"""The package outside this repository: the wheel, its declared dependencies, and nothing else."""

import os
import subprocess
import sys
import textwrap
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "fifteen_lines.py"
FOLDS = [str(ROOT / "results" / "ucsd-earlier" / f"fold-{fold}") for fold in (0, 1)]


def closure(requirements):
    """Names of the distributions that requirements bring, and theirs, in this environment."""
    found, todo = {}, [(Requirement(text), {""}) for text in requirements]
    while todo:
        asked, extras = todo.pop()
        if asked.marker and not any(asked.marker.evaluate({"extra": one}) for one in extras):
            continue
        taken, extras = found.setdefault(canonicalize_name(asked.name), set()), {"", *asked.extras}
        if not extras <= taken:
            taken |= extras
            todo += [(Requirement(text), extras) for text in metadata.requires(asked.name) or ()]
    return set(found)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this tree, built apart from it: a build would leave folders behind."""
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "LICENSES", "vad_helpers",
                 "tests", "notebooks", "results", "params"):  # fmt: skip
        (source / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def alone(wheel, tmp_path_factory):
    """Runs a Python that has the wheel, links to what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("alone")
    venv.create(folder / "env", with_pip=False)
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (mine,) = metadata.distributions(name="vad-helpers", path=[str(site)])
    for name in closure(mine.requires):
        distribution = metadata.distribution(name)
        for top in {Path(path).parts[0] for path in distribution.files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    (folder / "empty").mkdir()

    def run(*arguments):
        command = [folder / "env" / "bin" / "python", *arguments]
        options = {"capture_output": True, "text": True, "cwd": folder / "empty"}
        return subprocess.run(command, env=environment, **options)

    run.folder = folder / "empty"
    return run


def test_the_example_in_the_readme_is_the_file():
    assert f"```python\n{EXAMPLE.read_text()}```\n" in (ROOT / "README.md").read_text()
    included = "```{literalinclude} ../examples/fifteen_lines.py"
    assert included in (ROOT / "book" / "quickstart.md").read_text()


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_nothing_beside_it(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    files = (path for path in (ROOT / "vad_helpers").rglob("*") if path.is_file())
    expected = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert set(names) == expected and "vad_helpers/data/official_frames.txt.gz" in names
    assert {".csv", ".css", ".js", ".html", ".gz"} <= {Path(name).suffix for name in names}


@pytest.mark.slow
def test_the_fifteen_lines_run_with_the_wheel_alone(alone):
    done = alone(EXAMPLE)
    assert done.returncode == 0 and not done.stderr, done.stderr
    scores = eval(done.stdout)
    assert scores["auc"] > 0.9 and scores["deletion"] > 0.5  # what is fast is found, and used
    (picture,) = alone.folder.glob("*.png")
    with Image.open(picture) as image:
        assert image.width > 800 and len(image.convert("L").getcolors()) > 100


@pytest.mark.slow
def test_every_module_can_be_imported_except_those_of_the_book(alone):
    code = """
        import importlib, pkgutil, vad_helpers
        from vad_helpers.errors import InputError
        for module in pkgutil.walk_packages(vad_helpers.__path__, "vad_helpers."):
            try:
                importlib.import_module(module.name)
            except InputError as error:
                assert "pip install 'vad-helpers[book]'" in str(error), error
                print(module.name)
    """
    done = alone("-c", textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["vad_helpers.book", "vad_helpers.viz.explorer"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "compare"),
        (["methods"], 0, "kernel_shap"),
        (["compare", *FOLDS, "--metric", "auc"], 0, "human_centric"),
        (["data", "check", "nowhere"], 2, "nowhere"),
        (["measure"], 2, "params/quick.yaml"),
        (["run"], 2, "pip install 'vad-helpers[book]'"),
        (["book"], 2, "pip install 'vad-helpers[book]'"),
    ],
)
def test_the_command_works_in_any_folder_and_names_what_is_missing(alone, arguments, status, words):
    done = alone("-c", "from vad_helpers.cli import main; main()", *arguments)
    assert done.returncode == status and words in (done.stderr if status else done.stdout)
    assert done.stderr.count("\n") == (status == 2), done.stderr


@pytest.mark.slow
def test_explaining_loads_nothing_slow_but_pytorch(alone):
    """Seconds differ from machine to machine; what is loaded does not."""
    slow = {"captum", "matplotlib", "pandas", "PIL", "scipy", "skimage", "sklearn"}
    done = alone("-c", f"import sys, vad_helpers.attribution; print({slow} & sys.modules.keys())")
    assert done.stdout.strip() == "set()", done.stdout + done.stderr

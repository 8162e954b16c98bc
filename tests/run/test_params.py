"""Parameters: strict types and names, one-line messages, YAML 1.2."""

import dataclasses

import pytest

from vad_helpers.errors import InputError
from vad_helpers.model.training import TrainingSpec
from vad_helpers.run import experiment, open_run, params


@pytest.mark.parametrize("profile", ["quick", "ucsd", "paper"])
def test_profiles_load_and_survive_their_own_dump(profile):
    loaded = params.load(profile)
    assert loaded.profile == profile
    assert params.checked(loaded.dump()) == loaded


NUMBERS = {"010": 10, "0123": 123, "08": 8, "+5": 5, "0o17": 15, "0x10": 16, ".inf": float("inf")}
REALS = {"1e-3": 0.001, "12e03": 12000.0, ".5": 0.5, "-1.": -1.0, "true": True, "False": False}
OTHERS = {"[ig, lime]": ["ig", "lime"], "{a: 010, b: yes}": {"a": 10, "b": "yes"}, "'010'": "010"}
READ = NUMBERS | REALS | OTHERS | {"null": None, "~": None, "": None}
TEXT = "1:30 190:20:30 1:30.5 yes No on OFF y".split()


@pytest.mark.parametrize(("text", "value"), [*READ.items(), *zip(TEXT, TEXT, strict=True)])
def test_values_are_read_as_yaml_1_2_has_them(text, value):
    name, found = params.parse_override(f"x={text}")
    assert name == "x" and found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text", ["epochs", "=3", "x={a: 1, a: 2}", "x=[1", "x=!!python/object:os.x"]
)
def test_overrides_that_are_none_are_refused(text):
    with pytest.raises(InputError, match=r"\A.*\Z"):
        params.parse_override(text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("seed: 1:30", "parameter 'seed' is '1:30'"),
        ("seed: yes", "parameter 'seed' is 'yes'"),
        ("seed: 2020-01-01", "parameter 'seed' is datetime.date"),
        ("seed: 1\nseed: 2", "line .* duplicate key"),
        ("sede: 1", "unknown parameter: 'sede'; did you mean 'seed'"),
        ("", "profile '.*' lacks parameter 'seed'"),
        ("seed: [", "is not readable YAML"),
        ("\xff", "is not UTF-8"),
    ],
)
def test_profile_files_with_a_fault_are_refused(tiny_root, tmp_path, change, words):
    text = (tiny_root / "params" / "tiny.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.replace("\nseed: 0", f"\n{change}").encode("latin-1"))
    with pytest.raises(InputError, match=rf"\A.*{words}.*\Z"):
        params.load(str(path))


def test_values_that_mean_the_same_are_taken():
    given = {"frame_size": (40, 60), "methods": ("ig",), "epochs": None, "lr": "1e-3", "mean": 1}
    expected = {"frame_size": [40, 60], "methods": ["ig"], "epochs": 8, "lr": 0.001, "mean": 1.0}
    found = {name: getattr(params.load("quick", **given), name) for name in given}
    assert found == expected and list(map(type, found.values())) == [list, list, int, float, float]


REFUSED = """
epochs=0 epochs=true epochs='3' epochs=2.0 lr=true lr=1:30 lr=.inf lr=0 lr_gamma=1.5 average=1.0
seed=4294967296 seed=-1 fold=5 n_folds=1 n_folds=2 device=gpu precision=fp16 frame_size=[40]
frame_size=['40',60] methods=[] methods=ig methods=[ig,ig] methods=[gradcam] masks=mine
data_dir=3 split_by=clip alternative='A.b' early_end=Mixed_9 walkway={'crowd':3}
augmentation={'zoom':2} augmentation={'scale':true} settings={'gradcam':{}} settings={'ig':3}
settings={'ig':{'n_step':3}} settings={'ig':{'n_steps':true}} walkway={'n_test':0}
settings={'occlusion_lp':{'window':[99,9,9]}}
variants={'lime':{'method':'lime'}} variants={'motion':{'method':'lime'}} variants={'x':3}
variants={'x':{'n_samples':3}} variants={'x':{'method':'gradcam'}}
variants={'x':{'method':'lime','seed':0}} variants={'x':{'method':'ig','n_clips':0}}
variants={'x':{'method':'ig','n_clips':true}} variants={'x':{'method':'ig','weights':'best'}}
variants={'x':{'method':'ig','label':3}} variants={'x':{'method':'ig','baseline':'white'}}
variants={'x':{'method':'ig','precision':'fp8'}} variants={'x':{'method':'ig','kernel':3}}
"""


@pytest.mark.parametrize("text", REFUSED.split())
def test_values_that_make_no_sense_are_refused_in_one_line_that_names_them(text):
    name, value = params.parse_override(text)
    with pytest.raises(InputError, match=rf"\A.*('{name}|variant '|{name} |n_test).*\Z"):
        params.load("quick", **{name: value})


def test_unknown_parameters_profiles_and_places_are_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("- 1\n")
    for message, call in {
        "did you mean 'epochs'": lambda: params.load("quick", epohcs=3),
        "choose from profile, dataset": lambda: params.load("quick", zzz=3),
        "there are paper, quick": lambda: params.load("quik"),
        "--profile": lambda: params.override({}, {"profile": "ucsd"}),
        "not inside the project": lambda: params.project_root(tmp_path),
        "no `parameter: value`": lambda: params.load(str(tmp_path / "list.yaml")),
    }.items():
        with pytest.raises(InputError, match=message):
            call()


def test_settings_and_variants_are_merged_entry_by_entry():
    before = {"a": {"method": "ig", "n_steps": 3}, "b": {"method": "lime"}}
    for change, after in (
        ({"a": {"n_steps": 5}}, {"a": {"method": "ig", "n_steps": 5}, "b": {"method": "lime"}}),
        ({"b": None}, {"a": {"method": "ig", "n_steps": 3}}),
        ({"c": {"method": "ig"}}, {**before, "c": {"method": "ig"}}),
        ({}, {}),
        (None, before),
    ):
        assert params.override({"variants": before}, {"variants": change})["variants"] == after


def test_what_is_special_but_allowed():
    found = params.load("quick", split_by="clip", alternative="split_by_clip", mean=0.5, std=0.25)
    assert found.alternative == "split_by_clip" and found.black == -2.0


def test_the_papers_profile_is_the_recipe_that_training_has_by_default():
    run = open_run("paper")
    stated = dataclasses.replace(experiment.training_spec(run), early_end="Mixed_4b", keep="best")
    assert stated == TrainingSpec()  # nothing is early, no epoch is chosen
    assert run.params.alternative and run.params.split_by == "clip"


def test_a_profile_gives_what_differs_from_its_base(tiny_root):
    path = tiny_root / "params" / "shorter.yaml"
    path.write_text("base: tiny\nepochs: 3\nvariants: {}\n")
    found, tiny = params.load("shorter"), params.load("tiny")
    changed = {n for n, value in found.dump().items() if value != tiny.dump()[n]}
    assert changed == {"profile", "epochs", "variants"} and found.profile == "shorter"
    for text, told in (
        ("base: shorter\n", "has the base 'shorter'"),
        ("base: ../x\n", "has the base"),
        ("base: nobody\n", "unknown profile 'nobody'"),
        ("base: tiny\nepoch: 3\n", "epoch"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=rf"\A.*{told}.*\Z"):
            params.load("shorter")
    path.unlink()

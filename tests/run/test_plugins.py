"""Networks, methods and metrics of one's own: loaded by address, keyed by their code."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

from vad_helpers import tables
from vad_helpers.attribution import METHODS
from vad_helpers.data import video_file
from vad_helpers.errors import InputError
from vad_helpers.metrics.catalog import METRICS
from vad_helpers.run import open_run, params, plugins, steps
from vad_helpers.viz import explorer

NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self, n_logits=2, trained=False):
        super().__init__()
        self.conv = torch.nn.Conv3d(3, 4, 3, padding=1)
        self.head = torch.nn.Linear(4, n_logits)
        self.scale = torch.nn.Parameter(torch.ones(4))
        if trained:
            for parameter in self.parameters():
                parameter.data.fill_(0.25)

    def forward(self, clips):
        found = torch.relu(self.conv(clips))
        return self.head(found.mean(dim=(2, 3, 4)) * self.scale)
"""
pytestmark = pytest.mark.usefixtures("as_found")
METHOD, METRIC = "examples/own_method.py:SPEC", "examples/own_metric.py:METRIC"


@pytest.fixture
def own(tiny_root, request):
    """Options of a small run with a network of its own, in a folder of this test's."""
    folder = tiny_root / "own" / request.node.name[:60].replace("[", "-").replace("]", "")
    folder.mkdir(parents=True)
    (folder / "net.py").write_text(NETWORK)
    yield {
        "model": f"{folder / 'net.py'}:Net",
        "run_dir": str(folder / "run"),
        "methods": ["ig", "guided_backprop", METHOD],
        "metrics": [METRIC],
        "settings": None,
        "variants": {},
        "n_clips": 2,
    }
    shutil.rmtree(folder)


def test_the_whole_chain_on_a_network_method_and_metric_of_ones_own(own):
    run = open_run("tiny", **own)
    study = steps.measure(run)
    assert run.params.methods == ["ig", "guided_backprop", "moving_gradient"]
    # Guided Backpropagation finds no ReLU module: it is left out, with the reason, not as zeros.
    assert list(steps.left_out(run)) == ["guided_backprop"]
    assert "ReLU" in steps.left_out(run)["guided_backprop"]
    assert "guided_backprop" not in set(study.rows["row"])
    scored = study.human_centric.query("metric == 'centre_distance'")
    assert set(scored["row"]) == set(study.rows["row"]) - {"ig_time_average"}
    assert scored["value"].dropna().between(0, 1).all() and scored["value"].notna().any()
    summary = tables.summary(study, "human_centric")
    assert "centre_distance" in set(summary["metric"])
    # It goes on from its tables, by the profile that names the code, and by what is given.
    again = open_run("tiny", **own)
    assert steps.measure(again).explanations.equals(study.explanations)


def test_a_folder_alone_runs_no_code_but_its_tables_are_read(own):
    run = open_run("tiny", **own)
    steps.measure(run)
    METRICS.pop("centre_distance"), METHODS.pop("moving_gradient")
    with pytest.raises(InputError, match="only where you name it"):
        open_run(run_dir=own["run_dir"])
    assert "centre_distance" in set(tables.load(run.dir).human_centric["metric"])
    assert METRICS["centre_distance"].direction == "lower"
    path = run.path("manifest.json")
    known = json.loads(path.read_text())
    for damaged in ({"x": {}}, {"x": {"range": 1}}, ["x"]):
        path.write_text(json.dumps(known | {"own_metrics": damaged}))
        with pytest.raises(InputError, match="damaged own_metrics"):
            tables.load(run.dir)
    path.write_text(json.dumps(known))
    code = {name: own[name] for name in ("model", "methods", "metrics")}
    assert open_run(run_dir=own["run_dir"], **code).supplied


def test_a_folder_that_brings_its_own_profile_along_names_nothing(own, tiny_root):
    run = open_run("tiny", **own)
    steps.clips(run)
    path = run.path("manifest.json")
    known = json.loads(path.read_text())
    (run.dir / "brought.yaml").write_text(json.dumps(known["parameters"]))
    for name in (run.dir / "brought.yaml", run.dir / "brought"):
        inside = os.path.relpath(name, tiny_root / "params")
        known["parameters"]["profile"] = inside
        path.write_text(json.dumps(known))
        with pytest.raises(InputError, match="only where you name it"):
            open_run(run_dir=own["run_dir"])


@pytest.mark.parametrize("name", ["net.py", "own_method.py", "own_metric.py"])
def test_edited_code_is_computed_again(own, tiny_root, name):
    folder = (tiny_root / own["run_dir"]).parent
    for example in ("own_method.py", "own_metric.py"):
        shutil.copy(tiny_root / "examples" / example, folder)
    own |= {"methods": [f"{folder}/own_method.py:SPEC"], "n_clips": 1}
    own["metrics"] = [f"{folder}/own_metric.py:METRIC"]
    run = open_run("tiny", **own)
    before = {key: steps.score_key(run, row) for key, row in steps.rows(run).items()}
    (folder / name).write_text((folder / name).read_text() + "\n# edited\n")
    again = open_run("tiny", **own | {"run_dir": str(folder / "again")})
    after = {key: steps.score_key(again, row) for key, row in steps.rows(again).items()}
    changed = {key for key in before if before[key] != after[key]}
    assert changed == ({"moving_gradient"} if name == "own_method.py" else set(before))


@pytest.mark.parametrize(("n_logits", "target"), [(1, 1), (2, 0), (5, 3)])
def test_other_numbers_of_logits_keep_their_probability(own, n_logits, target):
    own |= {"model_args": {"n_logits": n_logits}, "target_class": target}
    run = open_run("tiny", **own)
    adapted = steps.fresh_network(run).eval()
    plain = plugins.load_object(own["model"], root=run.root)(n_logits=n_logits).eval()
    plain.load_state_dict(adapted.state_dict())  # whose names are the network's own
    clips = torch.randn(3, 3, 8, 40, 60)
    with torch.no_grad():
        logits, found = plain(clips), adapted(clips).softmax(dim=1)[:, 1]
    expected = logits[:, 0].sigmoid() if n_logits == 1 else logits.softmax(dim=1)[:, target]
    torch.testing.assert_close(found, expected)


def test_random_weights_keep_nothing_of_those_that_the_network_comes_with(own):
    run = open_run("tiny", **own | {"model_args": {"trained": True}})
    assert steps.fresh_network(run).conv.weight.unique().tolist() == [0.25]
    random = steps.network(run, "random")
    for name in ("conv.weight", "conv.bias", "head.weight"):
        assert len(random.get_parameter(name).unique()) > 1, name
    assert not torch.isnan(random.scale).any()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("net.py", "no address"),
        ("no_such_file.py:make", "no file"),
        ("no.such.module:make", "no module|cannot be loaded"),
        ("examples/own_method.py:NOTHING", "has no NOTHING; it has"),
        ("params/quick.yaml:x", "no module|cannot be loaded"),
    ],
)
def test_addresses_that_lead_nowhere_are_one_line(tiny_root, address, told):
    with pytest.raises(InputError, match=rf"\A.*({told}).*\Z"):
        plugins.load_object(address, root=tiny_root)


def test_code_that_fails_and_things_of_another_kind_are_one_line(own, tiny_root):
    bad = tiny_root / "own" / "bad.py"
    bad.write_text("raise KeyError('a\\nb')")
    for changed, told in (
        ({"methods": [f"{bad}:X"]}, "cannot be loaded: KeyError"),
        ({"methods": [METRIC]}, "is a Metric; expected a MethodSpec"),
        ({"metrics": [METHOD]}, "is a MethodSpec; expected a Metric"),
        ({"init_weights": "x.pt"}, "init_weights are for the I3D"),
        ({"metrics": ["iou"]}, "no metric of your own"),
    ):
        with pytest.raises(InputError, match=rf"\A.*{told}.*\Z"):
            open_run("tiny", **own | changed)
    with pytest.raises(InputError, match="depth.* fails: TypeError"):
        steps.fresh_network(open_run("tiny", **own | {"model_args": {"depth": 3}}))
    bad.unlink()


def test_a_method_of_ones_own_cannot_take_the_place_of_the_packages(own, tiny_root):
    mine = tiny_root / "own" / "mine.py"
    text = (tiny_root / "examples" / "own_method.py").read_text()
    mine.write_text(text.replace('"moving_gradient"', '"ig"'))
    with pytest.raises(InputError, match="exists already"):
        open_run("tiny", **own | {"methods": [f"{mine}:SPEC"]})
    mine.unlink()


def test_a_profile_that_names_code_is_enough_for_chapters_and_workers(own, tiny_root):
    profile = tiny_root / "params" / "named.yaml"
    values = (tiny_root / "params" / "tiny.yaml").read_text()
    own |= {"variants": {}, "run_dir": "own-run"}
    own.pop("settings")
    loaded = params.read_yaml(values) | own
    profile.write_text(json.dumps(loaded))
    run = open_run("named", run_dir="own-run", n_clips=1)
    steps.measure(run)
    assert open_run("named", run_dir="own-run").supplied
    assert open_run(run_dir="own-run").params.metrics == ["centre_distance"]
    shutil.rmtree(run.dir)
    profile.unlink()


def test_a_method_of_ones_own_is_judged_beside_rows_that_are_there(own, measured, weights):
    own |= {"model": None, "metrics": [], "methods": [METHOD], "trained_weights": weights}
    run = open_run("tiny", **own)
    steps.measure(run)
    found = tables.compare([run.dir, measured.dir], metrics=["srg", "auc"], n_resamples=100)
    beside = found[(found["against"] == "moving_gradient") & (found["level"] == "clip")]
    assert {"ig", "lime", "motion", "constant"} <= set(beside["row"])
    assert set(beside["n_shared"]) == {1, 2} and set(beside["metric"]) == {"srg", "auc"}


def test_videos_without_masks_are_explained_and_scored_but_not_localised(own, tiny_root, weights):
    pytest.importorskip("av", reason="videos need PyAV")
    pictures = np.full((20, 40, 60, 3), 90, dtype=np.uint8)
    for t in range(20):
        pictures[t, 10:20, 2 * t : 2 * t + 8] = 255
    stem, times = tiny_root / own["run_dir"] / ".." / "one video", np.arange(20) / 25
    path, _ = video_file.write(stem.resolve(), pictures, times, duration=0.8)
    own |= {"model": None, "metrics": [], "methods": ["ig"], "trained_weights": weights}
    own |= {"dataset": "videos", "data_dir": str(path), "labels": "none"}
    run = open_run("tiny", **own, masks="none", n_folds=1)
    study = steps.measure(run)
    assert len(study.evaluation) == 2 and not steps.mask(run, "videos-one_video-0000").any()
    scores = study.model_centric.query("row == 'ig'").set_index("metric")["value"]
    assert scores[["deletion", "insertion", "srg"]].notna().all()
    assert study.human_centric.query("metric == 'auc'")["value"].isna().all()
    assert list(explorer.clip_labels(run)) == study.evaluation["clip_id"].tolist()
    explorer.Explorer(run)  # opens what has no masks
    assert not open_run(run_dir=run.dir).readonly

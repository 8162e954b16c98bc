"""The results page: fragments from a published study, prose without results."""

import ast
import dataclasses
import io
import re
import types
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tests import synthetic_study as synthetic
from vad_helpers.errors import InputError
from vad_helpers.pages import conclusions, controls, provenance, results, takeaways
from vad_helpers.pages.spelling import NOTHING
from vad_helpers.store import faithfulness, networks, published, rejudged, study, verdicts
from vad_helpers.store.claims import CLAIMS
from vad_helpers.viz import charts

PAGES = Path(__file__).parents[2] / "book"
WITH_FRAGMENTS = ("results.md", "intro.md", "model_card.md")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("root") / "results" / "ucsd")


@pytest.fixture(scope="module", autouse=True)
def unrendered():
    """Charts are drawn but not turned into PNGs, which takes most of the time; one test does."""
    with pytest.MonkeyPatch.context() as patch:
        rendered = charts.png_bytes
        patch.setattr(charts, "png_bytes", lambda drawn: b"png")
        yield rendered


@pytest.fixture(scope="module")
def pages(found, unrendered):
    return results.fragments(found)


def text(page, name):
    return page[f"results_{name}.md"]


def test_pages_include_fragments_that_are_made_and_all_are_included(pages):
    included = set()
    for name in WITH_FRAGMENTS:
        included |= set(re.findall(r"\{include\} _run/(results_\S+)", (PAGES / name).read_text()))
    assert included == {name for name in pages if name.endswith(".md")}


@pytest.mark.parametrize("name", [*WITH_FRAGMENTS, "data_card.md"])
def test_no_result_is_typed_by_hand(name):
    prose = re.sub(r"```.*?```", "", (PAGES / name).read_text(), flags=re.S)
    assert not re.findall(r"\d*\.\d+|\d+ ?%", prose)


def literals(path):
    """Every text of a module that is no docstring and no format."""
    tree = ast.parse(path.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    formats = {id(part) for node in ast.walk(tree) if isinstance(node, ast.FormattedValue)
               and node.format_spec for part in ast.walk(node.format_spec)}  # fmt: skip
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        and id(node) not in docs | formats
    ]  # fmt: skip


SPEAKING = (results, controls, provenance, takeaways, conclusions)


@pytest.mark.parametrize("module", SPEAKING, ids=lambda m: m.__name__)
def test_no_result_is_typed_into_a_sentence_that_is_computed(module):
    found = literals(Path(module.__file__))
    assert any(words.count(" ") > 5 for words in found)  # sentences are among them
    assert not [words for words in found if re.search(r"\d*\.\d+|\d+ ?%", words)]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: str(claim.number))
def test_an_explanation_of_a_claim_says_what_could_be_and_no_result(claim):
    assert not re.search(r"\d*\.\d+|\d+ ?%", claim.statement + claim.explanation)
    for judgement in ("take this away", "mostly", "most coefficients", "are sparse", "is far from"):
        assert judgement not in claim.explanation


def test_a_claims_verdict_is_not_typed_by_hand():
    prose = (PAGES / "results.md").read_text()
    for method in ("IG", "SmoothGrad", "Guided", "Occlusion", "GradientSHAP"):
        assert method not in prose


def test_a_project_without_results_says_so_on_every_fragment(tmp_path, pages):
    absent = results.pages(tmp_path)
    assert set(absent) == {name for name in pages if name.endswith(".md")}
    assert absent.pop("results_front.md") == ""  # the front page need not speak of it
    assert set(absent.values()) == {results.ABSENT}


def test_the_front_page_says_what_a_study_comes_to_once_it_is_complete(found, pages, monkeypatch):
    assert text(pages, "front") == ""
    monkeypatch.setattr(conclusions, "incomplete", lambda found: "")
    nothing = conclusions.Conclusions([], study.sensitivities(found))
    front = conclusions.front(found, nothing)
    assert front.startswith("## And on the real videos")
    assert conclusions.lessons(found, nothing) in front


def test_a_project_with_results_shows_them(found, pages, monkeypatch):
    assert "20 of 40 clips measured" in text(pages, "banner")
    said = text(pages, "banner")
    assert "Measured so far: 10 of 10 clips of fold 0, 10 of 10 clips of fold 1" in said
    assert "balanced by scene. The study is not complete" in said
    drawn = {**found.manifest, "settings": {**found.settings, "max_per_sequence": 2}}
    banner = results.banner(dataclasses.replace(found, manifest=drawn))
    assert "balanced by scene, at most 2 a sequence." in banner
    monkeypatch.setattr(results, "fragments", lambda found: {"of": found.clips})
    pd.testing.assert_frame_equal(results.pages(found.folder.parents[1])["of"], found.clips)


def test_damaged_results_are_refused(tmp_path):
    folder = tmp_path / "results" / "ucsd"
    synthetic.write(folder)
    (folder / "curves.csv").write_text("fold\n")
    with pytest.raises(InputError, match="curves.csv"):
        results.pages(tmp_path)


def test_every_picture_that_is_shown_is_there_and_has_words(pages):
    for name in (n for n in pages if n.endswith(".md")):
        for block in re.findall(r"```\{figure\} (.*?)```", pages[name], flags=re.S):
            path, alt = block.splitlines()[:2]
            assert path.removeprefix("_run/") in pages, path
            assert len(alt.removeprefix(":alt: ").split()) >= 6
    assert {f"results_{name}.png" for name in charts.CHARTS} <= set(pages)


def test_a_chart_is_a_picture_as_wide_as_the_text(found, unrendered):
    png = unrendered(charts.cost(found))
    assert 700 < Image.open(io.BytesIO(png)).size[0] < 900


def test_a_point_of_the_cost_chart_is_the_mean_of_its_scores(found):
    points = charts.cost_points(found)
    many = ["kernel_shap_converged", "lime_converged"]
    assert sorted(points.index) == sorted([*synthetic.FAMILIES, *many])
    assert points.loc[many, "paper_seconds"].isna().all()
    spent = found.explanations.groupby("method")["seconds"].mean()
    assert points.loc["lime", "seconds"] == pytest.approx(spent["lime"])
    assert points.loc["lime", "paper_seconds"] == 3.2
    assert points.loc["lime", "paper_quality"] == 0.7259


def test_both_tables_have_the_paper_and_ours_side_by_side(pages):
    one, two = text(pages, "table1"), text(pages, "table2")
    for printed in ("0.1515", "0.7432", "0.3186"):
        assert printed in one
    for printed in ("0.282", "0.575", "623.2", "0.241"):
        assert printed in two
    assert "LIME_CONVERGED" in one and "MOTION" in one and "20 clips of 10 sequences" in one
    assert "LIME_BLACK" not in one and ">ours<" in one


def test_all_claims_have_a_section_with_their_verdict_and_numbers(pages):
    claims = text(pages, "claims")
    assert re.findall(r"### Claim (\d+): holds", claims) == [str(n) for n in range(1, 15)]
    assert "The paper's own table agrees in 3 of 4 comparisons" in claims
    assert claims.count("What could make a difference") == 14
    assert claims.count("**Holds by the intervals; after Holm's") == 14, "ten sequences"
    assert claims.count("At equal area: the same rule says “holds”.") == 3
    assert claims.count(
        "Beside it, deciding nothing: gradient methods − perturbation methods, mAUC"
    )
    assert claims.count("than a map of noise") == 1, "beside claim 8"


def test_claims_are_judged_again_with_enough_samples(found, pages):
    shown = text(pages, "converged_claims")
    assert (
        "Of the 11 claims that take in a method with a row of many more samples, 10 keep" in shown
    )
    assert "claim 13 turns from “holds” to “undecided”" in shown, "its seconds are not measured"
    assert "on the 20 clips of 10 sequences" in shown and "On all clips" not in shown
    table = rejudged.judged_converged(found)
    other = [types.SimpleNamespace(claim=CLAIMS[1], verdict="undecided")]
    elsewhere = conclusions._elsewhere(table, other)
    assert elsewhere == " On all clips the verdict is another for claim 2 (“undecided”)."


def test_the_studys_own_weights_stand_beside_the_commands(found, pages):
    assert "`-p init_weights=start.safetensors`" in text(pages, "own_start")
    settings = {**found.settings, "init_weights": None}
    bare = dataclasses.replace(found, manifest={**found.manifest, "settings": settings})
    assert "started from random weights" in results.own_start(bare)


def test_performance_has_folds_scenes_and_the_paper(pages):
    shown = text(pages, "performance")
    for word in (
        "fold 0",
        "fold 1",
        "folds 0, 1 but fold 1",
        "mean over folds 0, 1",
        "0.9331",
        "ped2",
    ):
        assert word in shown, word


def test_sensitivity_lists_measured_and_unmeasured_choices(pages):
    shown = text(pages, "sensitivity")
    assert "4 of 10 open choices are measured" in shown and "not measured yet" in shown
    assert "alpha 1e-2" in shown and "the verdicts on the claims" in shown


def test_methods_stand_beside_their_variants(pages):
    shown = text(pages, "varied")
    assert "minus black baseline" in shown and "minus random weights" in shown
    assert "OCCLUSION_SP" not in shown, "it has no variant here"


def test_every_clip_has_its_two_probabilities(pages, found):
    shown = text(pages, "probabilities")
    assert all(clip_id in shown for clip_id in found.clips["clip_id"])
    assert "p(x) and p(x_b) of all 20 clips" in shown and "0.550" in shown


def test_a_clip_that_is_not_measured_has_one_probability(found):
    lacking = found.clips["clip_id"][0]
    scored = found.model_centric[found.model_centric["clip_id"] != lacking]
    p = pd.DataFrame({"clip_id": [lacking], "split": "test", "p": [0.12345]})
    shown = controls.probabilities(dataclasses.replace(found, model_centric=scored, predictions=p))
    assert "p(x) of all 20 clips, and p(x_b) of the 19 measured so far" in shown
    line = shown[shown.index(lacking) :]
    assert re.findall(r"<td>(.*?)</td>", line)[:3] == ["0.123", "–", "–"]


def test_rounding_between_predicted_and_scored_probabilities_is_told(found):
    first, second, *_ = found.clips["clip_id"]
    p = pd.DataFrame({"clip_id": [first, second], "split": "test", "p": [0.945, 0.49]})
    shown = controls.probabilities(dataclasses.replace(found, predictions=p))
    assert "which differ by 0.460 at most" in shown
    assert f", and {second} is on the other side of one half there." in shown
    alike = controls.probabilities(dataclasses.replace(found, predictions=p.assign(p=0.95)))
    assert "differ by" not in alike


def test_the_recipe_stands_beside_the_papers(found, pages):
    shown = re.sub(r"<[^>]+>", " ", text(pages, "recipe"))
    for name, paper, here in (
        ("epochs", "100", "3"),
        ("learning rate", "0.001, × 0.1 every 30 epochs", "0.0004, one cycle"),
        ("stages before Mixed_3b", "trained", "frozen"),
        ("label smoothing", "no", "no"),
        ("augmentation", "random crops and rescaling", "flip, scale 1.1"),
    ):
        assert re.search(rf"{re.escape(name)}\s+{re.escape(paper)}\s+{re.escape(here)}\s", shown)
    other = {"lr_schedule": "step", "lr": 0.01, "lr_gamma": 0.5, "lr_step": 7, "early_lr": 0.1,
             "augmentation": {}, "init_weights": None}  # fmt: skip
    manifest = {**found.manifest, "settings": {**found.settings, **other}}
    bare = provenance.recipe(dataclasses.replace(found, manifest=manifest))
    for words in ("0.01, × 0.5 every 7 epochs", "at 0.1 of the rate", "none", "random weights"):
        assert words in bare, words


def test_claims_on_localisation_are_judged_again_by_absolute_values(found, pages):
    assert text(pages, "absolute") == NOTHING and text(pages, "absolute_claims") == ""
    located = found.human_centric
    located = located[located["metric"].isin(["iou", "auc"])]
    other = located.assign(level=located["level"] + "_abs", value=1 - located["value"])
    both = dataclasses.replace(found, human_centric=pd.concat([found.human_centric, other]))
    nothing = conclusions.Conclusions([], pd.DataFrame())
    shown = conclusions.absolute_claims(both, nothing)
    assert "Of the 7 claims that localisation alone decides, 0 keep their verdict" in shown
    assert "claim 2 turns from “holds” to “does not hold”" in shown
    assert re.search(r"Of their (\d+) comparisons \1 come out differently, \1 of them", shown)
    table = controls.absolute(both)
    assert "AUC, frame" in table
    line = re.sub(r"<[^>]+>", " ", table).split(" LIME ")[1]
    assert re.search(r"0\.\d{3} → 0\.20\d, -0\.[56]\d\d \[-", line)


def test_scores_by_gap_count_their_clips(pages):
    shown = text(pages, "by_gap")
    assert "gap &gt; 0.2 (20 clips)" in shown and "Insertion / gap" in shown


def test_the_gallery_shows_what_is_published(tmp_path):
    folder = tmp_path / "results" / "ucsd"
    before = synthetic.write(folder)
    (folder / "figures").mkdir()
    (folder / "figures" / "one.png").write_bytes(b"png")
    clip_id = before.clips["clip_id"].iloc[0]
    figure = {"file": "figures/one.png", "alt": "a frame and its eight maps", "caption": "Clip.",
              "clip_id": clip_id}  # fmt: skip
    found = published.Published(
        **{name: getattr(before, name) for name in published.TABLES},
        folder=folder,
        manifest={**before.manifest, "figures": [figure]},
    )
    assert results.gallery_pictures(found) == {"results_one.png": b"png"}
    assert "_run/results_one.png" in results.gallery(found)
    line = study.localised(found).loc[clip_id]
    words = f"{line['auc']:.3f}, place {line['place']:.0f} of 20 clips"
    assert words in results.gallery(found)
    gap = faithfulness.gaps(found).set_index("clip_id").loc[clip_id]
    asked = f"p(x) {gap['p_clip']:.3f}; p(x_b) {gap['p_baseline']:.3f}."
    assert asked in results.gallery(found)
    aucs = study.wide_scores(found, "human_centric", "clip", "auc", study.methods(found))
    of_clip = aucs.droplevel("sequence").loc[clip_id]
    assert f"Of it: best {of_clip.max():.3f} ({of_clip.idxmax().upper()})" in results.gallery(found)
    assert "localised worst" not in results.gallery(found)
    found.manifest["figures"][0]["file"] = "figures/worst-1.png"
    assert "When pictures were drawn, localised worst." in results.gallery(found)
    lost = found.model_centric["value"].mask(found.model_centric["metric"] == "p_clip", 0.1)
    lost = dataclasses.replace(found, model_centric=found.model_centric.assign(value=lost))
    assert "p(x) 0.100: the network misses it;" in results.gallery(lost)
    elsewhere = found.human_centric["clip_id"] != clip_id
    without = dataclasses.replace(found, human_centric=found.human_centric[elsewhere])
    assert "place" not in results.gallery(without)
    scored = found.model_centric[found.model_centric["clip_id"] != clip_id]
    assert "p(x)" not in results.gallery(dataclasses.replace(found, model_centric=scored))
    assert "mahadevan2010anomaly" in results.gallery(found)


def test_the_recipe_stands_above_what_each_part_brings(found):
    ablation = pd.DataFrame({
        "recipe": ["no averaging", "the recipe", "no augmentation"], "fold": 0, "epochs": 6,
        "best_epoch": [5, 3, 2], "accuracy": [0.81, 0.8, 0.7], "auc": [0.92, 0.91234, 0.85],
        **{f"{key}_{end}": value for key in ("accuracy", "auc")
           for end, value in (("low", 0.6), ("high", 0.95))},
        "auc_difference": [0.008, 0.0, -0.062], "auc_difference_low": [-0.01, 0.0, -0.1],
        "auc_difference_high": [0.02, 0.0, -0.02],
    })  # fmt: skip
    text = results.extras(dataclasses.replace(found, extras={"ablation": ablation}))
    order = [text.index(f"<td>{name}</td>") for name in
             ("the recipe", "no augmentation", "no averaging")]  # fmt: skip
    assert order == sorted(order)
    assert "4 of 6" in text and "0.9123" in text
    assert "-0.062" in text and "[-0.100, -0.020]" in text and "+0.000" not in text


def test_how_two_seeds_agree_is_a_line_a_clip_and_a_column_a_number(found):
    checked = pd.DataFrame({"fold": 0, "clip_id": "c", "method": "lime", "n_samples": [25, 50],
                            "correlation": [0.5, 0.96], "converged": [False, True]})  # fmt: skip
    text = results.extras(dataclasses.replace(found, extras={"convergence": checked}))
    assert "25 samples" in text and "50 samples" in text
    assert "0.500" in text and "0.960" in text and text.count("<td") == 5
    assert "<td>LIME</td>" in text


@pytest.mark.parametrize(
    "options",
    [
        {"n_sequences": 1, "per_sequence": 1, "n_folds": 1},
        {"n_sequences": 4, "n_folds": 1, "drop": ("occlusion_sp", "lime_converged")},
        {"n_sequences": 3, "n_folds": 1, "drop": ("motion", "constant")},
    ],
)
def test_a_part_of_a_study_makes_a_page(tmp_path, options):
    found = synthetic.write(tmp_path / "ucsd", **options)
    pages = results.fragments(found)
    assert "not complete" in text(pages, "banner")
    assert "14 claims" in text(pages, "lessons")


def test_a_study_without_any_score_makes_a_page(tmp_path):
    found = synthetic.write(tmp_path / "ucsd", n_sequences=2, n_folds=1)
    empty = {name: getattr(found, name).iloc[:0] for name in published.TABLES}
    keep = {name: getattr(found, name) for name in ("rows", "clips")}
    bare = published.Published(folder=found.folder, manifest=found.manifest, **(empty | keep))
    pages = results.fragments(bare)
    for name in ("performance", "table1", "table2", "motion", "flatness", "converged", "varied",
                 "by_gap", "probabilities", "scenes", "ranks", "sampled"):  # fmt: skip
        assert text(pages, name) == NOTHING, name
    assert "0 hold, 0 do not hold, 14 are undecided" in text(pages, "lessons")
    assert not [name for name in pages if name.endswith(".png")]


def test_a_complete_study_does_not_call_itself_a_part(tmp_path):
    found = synthetic.write(tmp_path / "ucsd", n_sequences=20, n_folds=5)
    assert "not complete" not in results.banner(found)
    assert "5 of 5 folds, 40 of 40 clips" in results.banner(found)
    assert networks.performance(found)["part"].tolist()[-1] == "all folds but fold 1"


def test_scenes_count_their_clips_in_whole_numbers(found, pages):
    for scene, n in found.clips.groupby("scene").size().items():
        assert f"{scene}, {n} clips of 5 sequences<" in text(pages, "scenes")
    for heading in ("**AUC** (higher", "**Deletion** (higher", "**Deletion at equal area**"):
        assert heading in text(pages, "scenes")


def test_scores_by_gap_and_their_controls_have_intervals(found, pages):
    interval = r'<td class="vad-mean">-?[0-9.]+ <span>\[-?[0-9.]+, -?[0-9.]+\]</span>'
    assert len(re.findall(interval, text(pages, "by_gap"))) > 50
    body = text(pages, "flatness").split("Constant map minus")[0]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", body)
    assert cells and all("[" in cell or cell.endswith(" of 20") for cell in cells)


def test_costs_show_the_worst_frame_valid_frames_and_parts_of_the_seconds(found):
    shown = results.costs(found)
    for words in ("AUC of the worst frame", "model calls", "of the seconds, superpixels"):
        assert words in shown, words
    frames = found.robustness[found.robustness["metric"] == "worst"]
    valid = frames.assign(metric="n_frames", value=20.0)
    both = dataclasses.replace(found, robustness=pd.concat([found.robustness, valid]))
    assert "Valid frames" in results.costs(both)


def test_networks_trained_again_are_a_table_of_their_own_or_nothing(found):
    assert results.trained_again(found) == ""
    text = results.trained_again(synthetic.with_replaced(found, fold=1))
    assert text.count("fold 1") == 2 and "elsewhere, fp32" in text
    assert "replaced" in text and "yes" in text


def test_a_claim_that_cannot_stand_after_the_correction_says_so(tmp_path):
    few = synthetic.write(tmp_path / "ucsd", n_sequences=4)
    judged = study.judged(few)
    held = next(j for j in judged if j.verdict == verdicts.HOLDS)
    assert held.stands is False
    assert "With 4 sequences the corrected p of " in conclusions._floor(held)
    assert "is no evidence against it" in conclusions._floor(held)
    open_one = dataclasses.replace(held, verdict=verdicts.UNDECIDED)
    assert conclusions._floor(open_one) == ""


def test_claims_stand_on_the_called_clips_too(pages, found):
    assert "there is nothing to set apart" in text(pages, "called_claims")
    scored = found.model_centric
    low = scored["metric"].eq("p_clip") & scored["clip_id"].isin(found.clips["clip_id"][:6])
    missed = dataclasses.replace(
        found, model_centric=scored.assign(value=scored["value"].mask(low, 0.2))
    )
    words = conclusions.called_claims(missed, None)
    assert words.startswith(
        "On the 14 clips of 7 sequences that the networks call anomalous, 14 of"
    )
    assert "14 of the 14 claims keep their verdict." in takeaways.explained(missed)

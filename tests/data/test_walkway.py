"""The synthetic tree: whole or not there, masks and labels true, pixels those of a version."""

import contextlib
import hashlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from vad_helpers.data import ucsd, walkway
from vad_helpers.data.walkway import crowd
from vad_helpers.errors import InputError

SMALL = {"ped1_size": (64, 96), "ped2_size": (72, 108), "n_train": 1, "n_test": 4, "n_frames": 40}
SPEC = walkway.WalkwaySpec(**SMALL)
MEANS = [92.903, 99.902, 99.716, 104.089, 104.244, 115.384, 117.221, 112.058]
AREAS = [4146, 829, 6500, 1387, 8625, 2010, 5528, 640]
FEW = SMALL | {"n_train": 0, "n_test": 1, "n_frames": 32}


@pytest.fixture(scope="module")
def scenes():
    return {name: walkway.open_scene(SPEC, name) for name in walkway.SCENES}


@pytest.fixture(scope="module")
def footage(scenes):
    """All test sequences of the small dataset, by (scene, number)."""
    return {
        (name, number): walkway.film(SPEC, scene, "test", number)
        for name, scene in scenes.items()
        for number in range(1, SPEC.n_test + 1)
    }


def test_the_reader_of_real_data_reads_the_tree_and_its_list_holds_every_range(tmp_path, footage):
    tree = walkway.write(tmp_path / "tree", **SMALL)
    report = ucsd.check(tree)
    assert report.usable and not report.warnings and not report.unreadable and not report.stray
    assert set(report.table["frames"]) == {40}
    assert report.table["size"].value_counts().to_dict() == {"64x96": 5, "72x108": 5}
    for sequence in ucsd.index(tree):
        assert sequence.anomalous.any() == (sequence.kind == "test")
    for name in walkway.SCENES:  # read with as little cleverness as possible
        lines = (tree / f"UCSD{name}/Test/UCSD{name}.m").read_text().splitlines()
        assert lines[0] == "TestVideoFile = {};" and len(lines) == 5
        for number, line in enumerate(lines[1:], start=1):
            found = re.findall(r"(\d+):(\d+)", line)
            listed = {t for first, last in found for t in range(int(first), int(last) + 1)}
            masks = footage[name, number].masks
            assert listed == {t + 1 for t in range(SPEC.n_frames) if masks[t].any()} != set()


def test_the_seed_decides_every_byte_and_a_tree_that_is_there_is_left(tmp_path):
    def digest(root):
        files = sorted(p for p in root.rglob("*") if p.is_file())
        return {p.relative_to(root): hashlib.sha256(p.read_bytes()).digest() for p in files}

    (tmp_path / "a").mkdir()  # an empty folder is taken
    root = walkway.write(tmp_path / "a", seed=1, **FEW)
    first, dates = digest(root), {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert walkway.write(root, seed=1, **FEW) == root
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == dates
    assert digest(walkway.write(tmp_path / "again", seed=1, **FEW)) == first
    second = digest(walkway.write(tmp_path / "b", seed=2, **FEW))
    frames = [name for name in first if name.suffix == ".tif"]
    assert len(frames) == 64 and all(first[name] != second[name] for name in frames)


@pytest.mark.parametrize("manifest", ["not json", "[]", '{"key": "another"}'])
def test_what_is_in_the_way_is_refused_and_kept(tmp_path, manifest):
    mine = tmp_path / walkway.MANIFEST
    mine.write_text(manifest)
    for dest in (tmp_path, mine):
        with pytest.raises(InputError, match="give another folder"):
            walkway.write(dest, **SMALL)
    assert mine.read_text() == manifest


@pytest.mark.parametrize("winner", [None, "same", "other"])
def test_an_interruption_leaves_nothing_and_a_race_one_whole_tree(tmp_path, monkeypatch, winner):
    dest, film, calls = tmp_path / "tree", walkway.film, []

    def meanwhile(*args, **options):
        calls.append(args)
        if len(calls) == 2 and winner is None:
            raise KeyboardInterrupt
        if len(calls) == 2 and winner == "same":
            walkway.write(dest, **FEW)
        if len(calls) == 2 and winner == "other":
            (dest / "theirs").mkdir(parents=True)
        return film(*args, **options)

    monkeypatch.setattr(walkway, "film", meanwhile)
    with contextlib.ExitStack() as stack:
        if winner != "same":
            stack.enter_context(pytest.raises(OSError if winner else KeyboardInterrupt))
        walkway.write(dest, **FEW)
    assert [p.name for p in tmp_path.iterdir()] == (["tree"] if winner else [])
    assert winner != "same" or ucsd.check(dest).usable
    assert winner != "other" or [p.name for p in dest.iterdir()] == ["theirs"]


@pytest.mark.parametrize(
    "options",
    [
        *({"ped1_size": size} for size in ((47, 96), (100, 201), 120, (120, 180, 3))),
        *({"n_train": -1}, {"n_test": 1000}, {"n_frames": 64.0}, {"seed": -1}),
    ],
)
def test_bad_options_are_named(tmp_path, options):
    with pytest.raises(InputError, match=next(iter(options))):
        walkway.write(tmp_path / "tree", **options)
    assert not (tmp_path / "tree").exists()


def test_key_depends_on_all_that_the_pixels_depend_on(monkeypatch):
    specs = [walkway.WalkwaySpec(**{name: value}) for name, value in SMALL.items()]
    specs.append(walkway.WalkwaySpec())
    keys = {walkway.key(seed, spec) for seed in (0, 1) for spec in specs}
    monkeypatch.setattr(walkway, "VERSION", walkway.VERSION + 1)
    assert len(keys | {walkway.key(0, spec) for spec in specs}) == 3 * len(specs)
    as_in_yaml = walkway.WalkwaySpec(**SMALL | {"ped1_size": [64, 96]})
    assert walkway.key(0, as_in_yaml) == walkway.key(0, SPEC)


def test_the_pixels_are_those_of_this_version_however_many_sequences_there_are(footage, scenes):
    """Whoever changes them raises VERSION; not to the bit, for libraries round differently."""
    found = [shot.frames.mean() for shot in footage.values()]
    assert found == pytest.approx(MEANS, abs=0.02)
    found = [int(shot.masks.sum()) for shot in footage.values()]
    assert found == pytest.approx(AREAS, abs=5)
    kinds = [next(a.kind for a in shot.cast if a.anomalous) for shot in footage.values()]
    assert sorted(kinds) == sorted(crowd.ANOMALIES * 2)
    assert len({walkway.role(number) for number in range(1, 17)}) == 16  # each kind and pattern
    more = walkway.WalkwaySpec(**SMALL | {"n_test": 30, "n_train": 5})
    again = walkway.film(more, scenes["ped1"], "test", 3)
    np.testing.assert_array_equal(again.frames, footage["ped1", 3].frames)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 16), st.integers(0, 3), st.sampled_from(walkway.SCENES))
def test_anomalies_come_and_go_on_the_grid_and_are_seen_for_long(scenes, number, seed, name):
    kind, pattern = walkway.role(number)
    rng = np.random.default_rng([number, seed])
    cast = crowd.anomalies(scenes[name], 64, rng, kind=kind, pattern=pattern)
    area = np.array([walkway.draw_frame(scenes[name], cast, t)[1].sum() for t in range(64)])
    # Up to two frames of a few pixels may show early or late, between leaves or at a corner.
    frames = np.flatnonzero(area > 6)
    first, last = frames[0], frames[-1] + 1
    assert first % crowd.GRID <= 12 and -last % crowd.GRID <= 12
    assert last - first >= 6
    assert first == 0 or pattern not in ("throughout", "leaves")
    assert last == 64 or pattern not in ("throughout", "enters")
    assert len(frames) > 50 or pattern != "throughout"


@pytest.mark.parametrize("name", walkway.SCENES)
def test_masks_hold_what_an_anomaly_changes_without_shadow_and_hidden_parts(footage, scenes, name):
    scene, hidden, darkened = scenes[name], 0, 0
    for number in range(1, SPEC.n_test + 1):
        shot = footage[name, number]
        t, cast = int(shot.masks.sum(axis=(1, 2)).argmax()), list(shot.cast)
        with_it, mask = walkway.draw_frame(scene, cast, t)
        without, empty = walkway.draw_frame(scene, [a for a in cast if not a.anomalous], t)
        change = with_it - without
        assert not empty.any()
        # Outside and off its rim nothing changes, except that its shadow darkens the ground.
        outside = ~ndimage.binary_dilation(mask, iterations=2)
        assert change[outside].max() < 1
        assert change[outside].min() > -walkway.SHADOW_DEPTH * 200
        darkened += int((change[outside] < -10).sum())
        # Inside, nearly every pixel differs from what was there.
        assert np.mean(np.abs(change[mask]) > 1) > 0.9
        for t in range(0, SPEC.n_frames, 4):
            alone = walkway.draw_frame(scene, [a for a in cast if a.anomalous], t)[1]
            among = walkway.draw_frame(scene, cast, t)[1]
            assert not (among & ~alone).any()
            hidden += int((alone & ~among).sum())
    assert hidden > 0 and darkened > 20


@pytest.mark.parametrize("size", [(48, 64), (100, 130)])
@pytest.mark.parametrize("name", walkway.SCENES)
def test_every_allowed_shape_and_length_has_room_for_all_kinds(name, size):
    scene = walkway.open_scene(walkway.WalkwaySpec(**{f"{name}_size": size}), name)
    for kind in crowd.ANOMALIES:
        for pattern, n_frames in zip(crowd.PATTERNS, (47, 33, 70, 32), strict=True):
            rng = np.random.default_rng(3)
            cast = crowd.anomalies(scene, n_frames, rng, kind=kind, pattern=pattern)
            seen = [walkway.draw_frame(scene, cast, t)[1].any() for t in range(n_frames)]
            assert any(seen), (kind, pattern)

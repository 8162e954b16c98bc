import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from vad_helpers.data import ucsd, walkway
from vad_helpers.data.walkway import crowd, scenery
from vad_helpers.errors import InputError

SMALL = {"ped1_size": (64, 96), "ped2_size": (72, 108), "n_train": 1, "n_test": 4, "n_frames": 40}
SPEC = walkway.WalkwaySpec(**SMALL)
FEW = SMALL | {"n_train": 0, "n_test": 1, "n_frames": 32}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return walkway.write(tmp_path_factory.mktemp("walkway") / "tree", **SMALL)


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


def digest(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# The tree


def test_the_reader_of_real_data_reads_the_tree(tree):
    report = ucsd.check(tree)
    assert report.usable and not report.warnings and not report.unreadable and not report.stray
    assert len(report.table) == 2 * (SPEC.n_train + SPEC.n_test)
    assert set(report.table["frames"]) == {40}
    assert report.table["size"].value_counts().to_dict() == {"64x96": 5, "72x108": 5}
    for sequence in ucsd.index(tree):
        assert sequence.anomalous.any() == (sequence.kind == "test")
    with Image.open(tree / "UCSDped1/Train/Train001/040.tif") as image:
        assert image.mode == "L" and image.format == "TIFF"


def test_the_list_holds_every_range_of_anomalous_frames(tree, footage):
    """Read with as little cleverness as possible."""
    for name in walkway.SCENES:
        lines = (tree / f"UCSD{name}/Test/UCSD{name}.m").read_text().splitlines()
        assert lines[0] == "TestVideoFile = {};"
        assert len(lines) == 1 + SPEC.n_test
        for number, line in enumerate(lines[1:], start=1):
            found = re.findall(r"(\d+):(\d+)", line)
            listed = {t for first, last in found for t in range(int(first), int(last) + 1)}
            masks = footage[name, number].masks
            assert listed == {t + 1 for t in range(SPEC.n_frames) if masks[t].any()} != set()


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tree, tmp_path):
    assert digest(walkway.write(tmp_path / "again", **SMALL)) == digest(tree)
    first = digest(walkway.write(tmp_path / "a", seed=1, **FEW))
    second = digest(walkway.write(tmp_path / "b", seed=2, **FEW))
    frames = [name for name in first if name.endswith(".tif")]
    assert frames and all(first[name] != second[name] for name in frames)


def test_writing_again_leaves_the_tree_and_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "tree").mkdir()
    tree = walkway.write(tmp_path / "tree", **FEW)
    before = {p: p.stat().st_mtime_ns for p in tree.rglob("*")}
    assert len(before) > 32
    assert walkway.write(tree, **FEW) == tree
    assert {p: p.stat().st_mtime_ns for p in tree.rglob("*")} == before
    manifest = json.loads((tree / walkway.MANIFEST).read_text())
    assert manifest["key"] == walkway.key(0, walkway.WalkwaySpec(**FEW))


@pytest.mark.parametrize("manifest", [None, "not json", "[]", '{"key": "another"}'])
def test_what_is_in_the_way_is_refused_and_kept(tmp_path, manifest):
    mine = tmp_path / "mine.txt"
    mine.write_text("keep")
    if manifest is not None:
        (tmp_path / walkway.MANIFEST).write_text(manifest)
    for dest in (tmp_path, mine):
        with pytest.raises(InputError, match="choose another folder"):
            walkway.write(dest, **SMALL)
    assert mine.read_text() == "keep"


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
            dest.mkdir()
            (dest / "theirs").write_text("keep")
        return film(*args, **options)

    monkeypatch.setattr(walkway, "film", meanwhile)
    if winner == "same":
        walkway.write(dest, **FEW)
        assert ucsd.check(dest).usable
    else:
        with pytest.raises(KeyboardInterrupt if winner is None else OSError):
            walkway.write(dest, **FEW)
    kept = {None: [], "same": ["tree"], "other": ["tree"]}[winner]
    assert [p.name for p in tmp_path.iterdir()] == kept
    assert winner != "other" or (dest / "theirs").read_text() == "keep"


# Spec and key


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ped1_size", (47, 96)),
        ("ped2_size", (96, 63)),
        ("ped1_size", (100, 100)),
        ("ped2_size", (100, 201)),
        ("ped1_size", 120),
        ("ped1_size", (120, 180, 3)),
        ("n_train", -1),
        ("n_test", 0),
        ("n_test", 1000),
        ("n_frames", 31),
        ("n_frames", 64.0),
        ("colour", True),
        ("seed", -1),
        ("seed", None),
    ],
)
def test_bad_options_are_named(tmp_path, option, value):
    with pytest.raises(InputError, match=option):
        walkway.write(tmp_path / "tree", **{option: value})
    assert not (tmp_path / "tree").exists()


def test_key_depends_on_all_that_the_pixels_depend_on(monkeypatch):
    default = walkway.WalkwaySpec()
    keys = {walkway.key(0, default), walkway.key(1, default)}
    for field, value in SMALL.items():
        keys.add(walkway.key(0, walkway.WalkwaySpec(**{field: value})))
    as_in_yaml = walkway.WalkwaySpec(**SMALL | {"ped1_size": [64, 96]})
    assert walkway.key(0, as_in_yaml) == walkway.key(0, SPEC)
    monkeypatch.setattr(walkway, "VERSION", walkway.VERSION + 1)
    keys.add(walkway.key(0, default))
    assert len(keys) == 3 + len(SMALL)


# The footage


def test_the_pixels_are_those_of_this_version(footage):
    """Whoever changes them raises VERSION; not to the bit, for libraries round differently."""
    found = [footage[name, 1].frames.mean() for name in walkway.SCENES]
    assert found == pytest.approx([92.903, 104.244], abs=0.02)
    found = [int(footage[name, 1].masks.sum()) for name in walkway.SCENES]
    assert found == pytest.approx([4146, 8625], abs=5)


def test_sequences_do_not_depend_on_how_many_there_are(footage, scenes):
    more = walkway.WalkwaySpec(**SMALL | {"n_test": 30, "n_train": 5})
    again = walkway.film(more, scenes["ped1"], "test", 3)
    np.testing.assert_array_equal(again.frames, footage["ped1", 3].frames)


def test_every_kind_of_anomaly_and_every_pattern_occurs(footage):
    for name in walkway.SCENES:
        first = [next(a for a in footage[name, n].cast if a.anomalous).kind for n in range(1, 5)]
        assert sorted(first) == sorted(crowd.ANOMALIES)
    roles = {walkway.role(number) for number in range(1, 17)}
    assert len(roles) == 16


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
    assert first % crowd.GRID <= 12
    assert -last % crowd.GRID <= 12
    assert last - first >= 6
    if pattern in ("throughout", "leaves"):
        assert first == 0
    if pattern in ("throughout", "enters"):
        assert last == 64
    if pattern == "throughout":
        assert len(frames) > 50


def busiest(footage, name):
    """(shot, frame) with the largest mask of each test sequence of a scene."""
    for number in range(1, SPEC.n_test + 1):
        shot = footage[name, number]
        yield shot, int(shot.masks.sum(axis=(1, 2)).argmax())


@pytest.mark.parametrize("name", walkway.SCENES)
def test_masks_hold_exactly_what_an_anomaly_changes(footage, scenes, name):
    scene = scenes[name]
    for shot, t in busiest(footage, name):
        cast = list(shot.cast)
        with_it, mask = walkway.draw_frame(scene, cast, t)
        without, empty = walkway.draw_frame(scene, [a for a in cast if not a.anomalous], t)
        change = with_it - without
        assert not empty.any()
        # Outside and off its rim nothing changes, except that its shadow darkens the ground.
        outside = ~ndimage.binary_dilation(mask, iterations=2)
        assert change[outside].max() < 1
        assert change[outside].min() > -walkway.SHADOW_DEPTH * 200
        # Inside, nearly every pixel differs from what was there.
        assert np.mean(np.abs(change[mask]) > 1) > 0.9


@pytest.mark.parametrize("name", walkway.SCENES)
def test_what_stands_in_front_is_cut_out_of_the_mask(footage, scenes, name):
    hidden = 0
    for shot, _ in busiest(footage, name):
        anomalous = [a for a in shot.cast if a.anomalous]
        for t in range(0, SPEC.n_frames, 4):
            alone = walkway.draw_frame(scenes[name], anomalous, t)[1]
            among = walkway.draw_frame(scenes[name], list(shot.cast), t)[1]
            assert not (among & ~alone).any()
            hidden += int((alone & ~among).sum())
    assert hidden > 0


def test_shadows_are_no_part_of_the_mask(scenes):
    rng = np.random.default_rng(0)
    cast = crowd.anomalies(scenes["ped2"], 40, rng, kind="cart", pattern="throughout")
    grey, mask = walkway.draw_frame(scenes["ped2"], cast, 0)
    bare, _ = walkway.draw_frame(scenes["ped2"], [], 0)
    darkened = (grey - bare < -10) & ~ndimage.binary_dilation(mask, iterations=2)
    assert darkened.sum() > 20


@pytest.mark.parametrize("name", walkway.SCENES)
def test_some_normal_people_are_as_fast_as_wheels(scenes, name):
    rng, speeds = np.random.default_rng(0), {}
    for kind in (*crowd.ANOMALIES, *[None] * 6):  # in heights a frame
        if kind:
            cast = crowd.anomalies(scenes[name], 160, rng, kind=kind, pattern="throughout")
        else:
            cast = crowd.normal_crowd(scenes[name], 80, rng)
        for actor in cast:
            speeds.setdefault(actor.kind, []).append(np.diff(actor.track.travelled).mean())
    for kind in ("bike", "skater", "cart"):
        assert max(speeds["jogger"]) > np.median(speeds[kind])
        assert max(speeds["walker"]) < min(speeds[kind])
    assert max(speeds["grass"]) < min(speeds["jogger"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(walkway.SCENES))
def test_only_the_grass_kind_leaves_the_paths(scenes, seed, name):
    scene = scenes[name]
    lawn = crowd.find_route(scene, "grass", np.random.default_rng(seed))
    paved = crowd.find_route(scene, "bike", np.random.default_rng(seed))
    for route, on_lawn in ((lawn, True), (paved, False)):
        ends = np.linspace(0, route.lengths[-1], 30)
        track = crowd.make_track(scene, route, ends)
        shown = (track.x > 0) & (track.x < scene.width) & (track.y < scene.height)
        if name == "ped2":
            off = track.y < scenery.PED2_EDGES[0] * scene.height
        else:
            across, _ = scene.camera.to_ground(track.x, track.y)
            off = across > scenery.PED1_LANES[1] + 0.1
        assert shown.any()
        assert (off[shown] == on_lawn).all()


@pytest.mark.parametrize("size", [(48, 64), (48, 96), (100, 130)])
@pytest.mark.parametrize("name", walkway.SCENES)
def test_every_allowed_shape_of_frame_has_room_for_all_kinds(name, size):
    scene = walkway.open_scene(walkway.WalkwaySpec(**{f"{name}_size": size}), name)
    for kind in crowd.ANOMALIES:
        for seed in range(3):
            route = crowd.find_route(scene, kind, np.random.default_rng(seed))
            first, last = crowd.seen_span(scene, kind, route)
            assert last - first > 1


@pytest.mark.parametrize("n_frames", [32, 33, 47, 70])
@pytest.mark.parametrize("pattern", crowd.PATTERNS)
def test_short_sequences_hold_anomalies_too(scenes, pattern, n_frames):
    for name, scene in scenes.items():
        for kind in crowd.ANOMALIES:
            rng = np.random.default_rng(3)
            cast = crowd.anomalies(scene, n_frames, rng, kind=kind, pattern=pattern)
            seen = [walkway.draw_frame(scene, cast, t)[1].any() for t in range(n_frames)]
            assert any(seen), (name, kind)

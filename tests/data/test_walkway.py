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

from vad_helpers.data import walkway
from vad_helpers.data.walkway import crowd, scenery
from vad_helpers.data.walkway.drawing import SUPERSAMPLE
from vad_helpers.errors import InputError

SMALL = {
    "ped1_size": (64, 96),
    "ped2_size": (72, 108),
    "n_train": 1,
    "n_test": 4,
    "n_frames": 40,
}
SPEC = walkway.WalkwaySpec(**SMALL)


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


def ranges_of(line: str) -> set[int]:
    """Frames named by a line of a .m list, read with as little cleverness as possible."""
    inside = line[line.index("[") + 1 : line.index("]")]
    frames: set[int] = set()
    for first, last in re.findall(r"(\d+):(\d+)", inside):
        frames |= set(range(int(first), int(last) + 1))
    return frames


# The tree


def test_layout_is_that_of_ucsd(tree):
    for name in walkway.SCENES:
        scene = tree / f"UCSD{name}"
        size = SMALL[f"{name}_size"]
        assert sorted(p.name for p in (scene / "Train").iterdir()) == ["Train001"]
        wanted = [f"Test{n:03d}{end}" for n in range(1, 5) for end in ("", "_gt")]
        assert sorted(p.name for p in (scene / "Test").iterdir()) == [*wanted, f"UCSD{name}.m"]
        for folder, suffix in (("Train/Train001", "tif"), ("Test/Test003", "tif")):
            files = sorted((scene / folder).iterdir())
            assert [p.name for p in files] == [f"{n:03d}.{suffix}" for n in range(1, 41)]
            with Image.open(files[0]) as image:
                assert image.mode == "L" and image.size == size[::-1] and image.format == "TIFF"


def test_the_reader_of_real_data_accepts_the_tree(tree):
    ucsd = pytest.importorskip("vad_helpers.data.ucsd")
    sequences = ucsd.index(tree)
    assert [s.id for s in sequences][:2] == ["ped1/Train001", "ped1/Test001"]
    assert len(sequences) == 2 * (SMALL["n_train"] + SMALL["n_test"])
    for sequence in sequences:
        if sequence.kind == "train":
            assert not sequence.anomalous.any()
        else:
            masks = ucsd.read_masks(sequence)
            np.testing.assert_array_equal(masks.any(axis=(1, 2)), sequence.anomalous)


def test_masks_on_disk_agree_with_the_list_frame_by_frame(tree):
    for name in walkway.SCENES:
        lines = (tree / f"UCSD{name}/Test/UCSD{name}.m").read_text().splitlines()
        assert lines[0] == "TestVideoFile = {};"
        assert len(lines) == 1 + SPEC.n_test
        for number, line in enumerate(lines[1:], start=1):
            folder = tree / f"UCSD{name}/Test/Test{number:03d}_gt"
            with_mask = {int(p.stem) for p in folder.iterdir() if np.asarray(Image.open(p)).any()}
            assert with_mask and with_mask == ranges_of(line)


def test_files_hold_what_is_rendered_in_memory(tree, footage):
    folder = tree / "UCSDped2/Test/Test002"
    for t in (0, 17, 39):
        frame = np.asarray(Image.open(folder / f"{t + 1:03d}.tif"))
        mask = np.asarray(Image.open(f"{folder}_gt/{t + 1:03d}.bmp"))
        np.testing.assert_array_equal(frame, footage["ped2", 2].frames[t])
        np.testing.assert_array_equal(mask > 0, footage["ped2", 2].masks[t])


def test_two_runs_write_the_same_bytes(tree, tmp_path):
    again = walkway.write(tmp_path / "again", **SMALL)
    assert digest(again) == digest(tree)


def test_another_seed_gives_another_dataset(tree, tmp_path):
    few = SMALL | {"n_test": 1, "n_frames": 32}
    first = digest(walkway.write(tmp_path / "a", seed=1, **few))
    second = digest(walkway.write(tmp_path / "b", seed=2, **few))
    frames = [name for name in first if name.endswith(".tif")]
    assert frames and all(first[name] != second[name] for name in frames)


def test_writing_again_leaves_the_tree_as_it_is(tree):
    before = {p: p.stat().st_mtime_ns for p in tree.rglob("*")}
    assert walkway.write(tree, **SMALL) == tree
    assert {p: p.stat().st_mtime_ns for p in tree.rglob("*")} == before


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "here").mkdir()
    few = SMALL | {"n_train": 0, "n_test": 1, "n_frames": 32}
    walkway.write(tmp_path / "here", **few)
    assert (tmp_path / "here/UCSDped1/Test/Test001/032.tif").exists()


@pytest.mark.parametrize("manifest", [None, "not json", "[]", '{"key": "another"}'])
def test_a_folder_with_something_else_is_refused_and_kept(tmp_path, manifest):
    (tmp_path / "mine.txt").write_text("keep")
    if manifest is not None:
        (tmp_path / walkway.MANIFEST).write_text(manifest)
    with pytest.raises(InputError, match="choose another folder"):
        walkway.write(tmp_path, **SMALL)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "tree").write_text("")
    with pytest.raises(InputError, match="exists"):
        walkway.write(tmp_path / "tree", **SMALL)


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    film = walkway.film

    def interrupted(spec, scene, kind, number, *, seed=0):
        if number == 2:
            raise KeyboardInterrupt
        return film(spec, scene, kind, number, seed=seed)

    monkeypatch.setattr(walkway, "film", interrupted)
    with pytest.raises(KeyboardInterrupt):
        walkway.write(tmp_path / "tree", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_losing_a_race_against_another_writer_is_fine(tmp_path, monkeypatch):
    few = SMALL | {"n_train": 0, "n_test": 1, "n_frames": 32}
    write_scene = walkway._write_scene
    racing = []

    def slow(folder, spec, name, seed):
        if not racing:
            racing.append(name)
            walkway.write(tmp_path / "tree", **few)
        write_scene(folder, spec, name, seed)

    monkeypatch.setattr(walkway, "_write_scene", slow)
    walkway.write(tmp_path / "tree", **few)
    assert [p.name for p in tmp_path.iterdir()] == ["tree"]


def test_a_tree_that_appears_meanwhile_and_differs_is_kept(tmp_path, monkeypatch):
    def intruder(folder, spec, name, seed):
        folder.mkdir()
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / "tree/theirs").write_text("keep")

    monkeypatch.setattr(walkway, "_write_scene", intruder)
    with pytest.raises(OSError):
        walkway.write(tmp_path / "tree", **SMALL)
    assert (tmp_path / "tree/theirs").read_text() == "keep"


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
    ],
)
def test_bad_options_are_named_in_one_line(tmp_path, option, value):
    with pytest.raises(InputError, match=option) as caught:
        walkway.write(tmp_path / "tree", **{option: value})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("seed", [-1, 0.5, None])
def test_a_bad_seed_is_refused(tmp_path, seed):
    with pytest.raises(InputError, match="seed"):
        walkway.write(tmp_path / "tree", seed=seed)


def test_sizes_from_yaml_lists_are_the_same_spec():
    assert walkway.WalkwaySpec(ped1_size=[64, 96]) == walkway.WalkwaySpec(ped1_size=(64, 96))


def test_key_depends_on_all_that_the_pixels_depend_on(monkeypatch):
    spec = walkway.WalkwaySpec()
    keys = {walkway.key(0, spec), walkway.key(1, spec)}
    for field, value in SMALL.items():
        keys.add(walkway.key(0, walkway.WalkwaySpec(**{field: value})))
    assert walkway.key(0, walkway.WalkwaySpec()) in keys
    monkeypatch.setattr(walkway, "VERSION", walkway.VERSION + 1)
    keys.add(walkway.key(0, spec))
    assert len(keys) == 3 + len(SMALL)


def test_manifest_names_the_key(tree):
    manifest = json.loads((tree / walkway.MANIFEST).read_text())
    assert manifest["key"] == walkway.key(0, SPEC)
    assert manifest["spec"]["n_frames"] == SPEC.n_frames


def test_ground_truth_lists_every_range():
    flags = np.array([1, 0, 1, 1, 0, 0, 1], bool)
    text = walkway.ground_truth([flags, ~flags, np.ones(5, bool)])
    assert text.splitlines() == [
        "TestVideoFile = {};",
        "TestVideoFile{end+1}.gt_frame = [1:1, 3:4, 7:7];",
        "TestVideoFile{end+1}.gt_frame = [2:2, 5:6];",
        "TestVideoFile{end+1}.gt_frame = [1:5];",
    ]


# The footage


def test_sequences_do_not_depend_on_how_many_there_are(footage, scenes):
    more = walkway.WalkwaySpec(**SMALL | {"n_test": 30, "n_train": 5})
    again = walkway.film(more, scenes["ped1"], "test", 3)
    np.testing.assert_array_equal(again.frames, footage["ped1", 3].frames)


def test_training_sequences_are_normal(scenes):
    for scene in scenes.values():
        footage = walkway.film(SPEC, scene, "train", 1)
        assert not footage.masks.any()
        assert footage.cast and not any(actor.anomalous for actor in footage.cast)


def test_every_kind_of_anomaly_and_every_pattern_occurs(footage):
    for name in walkway.SCENES:
        first = [next(a for a in footage[name, n].cast if a.anomalous).kind for n in range(1, 5)]
        assert sorted(first) == sorted(crowd.ANOMALIES)
    roles = {walkway._role(number) for number in range(1, 17)}
    assert len(roles) == 16


def test_frames_use_the_range_of_grey_and_are_noisy(footage):
    for shot in footage.values():
        assert shot.frames.dtype == np.uint8
        assert shot.frames.min() < 50 and shot.frames.max() > 180
        noise = np.diff(shot.frames[:, :4, -8:].astype(float), axis=0)
        assert 1 < noise.std() < 12


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 16), st.integers(0, 3), st.sampled_from(walkway.SCENES))
def test_anomalies_come_and_go_on_the_grid_and_are_seen_for_long(scenes, number, seed, name):
    kind, pattern = walkway._role(number)
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


@pytest.mark.parametrize("size", [(48, 64), (48, 96), (100, 130)])
@pytest.mark.parametrize("name", walkway.SCENES)
def test_every_allowed_shape_of_frame_has_room_for_all_kinds(name, size):
    scene = walkway.open_scene(walkway.WalkwaySpec(**{f"{name}_size": size}), name)
    for kind in crowd.ANOMALIES:
        for seed in range(5):
            rng = np.random.default_rng(seed)
            first, last = crowd.seen_span(scene, kind, crowd.find_route(scene, kind, rng))
            assert last - first > 1


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
    scene = scenes[name]
    hidden = 0
    for shot, _ in busiest(footage, name):
        anomalous = [a for a in shot.cast if a.anomalous]
        for t in range(0, SPEC.n_frames, 4):
            alone = walkway.draw_frame(scene, anomalous, t)[1]
            among = walkway.draw_frame(scene, list(shot.cast), t)[1]
            assert not (among & ~alone).any()
            hidden += int((alone & ~among).sum())
    assert hidden > 0


def test_the_lamp_post_in_front_hides_all_anomalies(footage, scenes):
    scene = scenes["ped2"]
    post = max((s for s in scene.sprites if s.base < scene.height), key=lambda s: s.base)
    alpha = np.zeros((scene.height * SUPERSAMPLE, scene.width * SUPERSAMPLE), np.uint8)
    opaque = np.asarray(post.alpha)
    alpha[post.top : post.top + len(opaque), post.left : post.left + opaque.shape[1]] = opaque
    solid = np.asarray(Image.fromarray(alpha).reduce(SUPERSAMPLE)) > 250
    crossed = 0
    for number in range(1, SPEC.n_test + 1):
        masks = footage["ped2", number].masks
        assert not (masks & solid).any()
        crossed += int((masks & ndimage.binary_dilation(solid, iterations=2)).sum())
    assert solid.any() and crossed > 0


def test_shadows_are_no_part_of_the_mask(scenes):
    rng = np.random.default_rng(0)
    cast = crowd.anomalies(scenes["ped2"], 40, rng, kind="cart", pattern="throughout")
    grey, mask = walkway.draw_frame(scenes["ped2"], cast, 0)
    bare, _ = walkway.draw_frame(scenes["ped2"], [], 0)
    darkened = (grey - bare < -10) & ~ndimage.binary_dilation(mask, iterations=2)
    assert darkened.sum() > 20


def speeds(scene, kind, n=12):
    """Mean speed on the ground of several actors of a kind, in heights a frame."""
    rng = np.random.default_rng(0)
    found = []
    while len(found) < n:
        if kind in crowd.ANOMALIES:
            cast = crowd.anomalies(scene, 80, rng, kind=kind, pattern="throughout")
        else:
            cast = crowd.normal_crowd(scene, 80, rng)
        found += [np.diff(a.track.travelled).mean() for a in cast if a.kind == kind]
    return np.array(found)


@pytest.mark.parametrize("name", walkway.SCENES)
def test_some_normal_people_are_as_fast_as_wheels(scenes, name):
    joggers, walkers = speeds(scenes[name], "jogger"), speeds(scenes[name], "walker")
    for kind in ("bike", "skater", "cart"):
        wheels = speeds(scenes[name], kind)
        assert joggers.max() > np.median(wheels)
        assert walkers.max() < wheels.min()
    assert speeds(scenes[name], "grass").max() < joggers.min()


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


def test_actors_are_out_of_sight_beyond_the_span_in_which_they_are_seen(scenes):
    for name, scene in scenes.items():
        for kind in crowd.ANOMALIES:
            for seed in range(4):
                rng = np.random.default_rng(seed)
                route = crowd.find_route(scene, kind, rng)
                first, last = crowd.seen_span(scene, kind, route)
                places = np.array([first - 0.2, (first + last) / 2, last + 0.2])
                actor = crowd.place(scene, kind, route, places, rng)
                before, between, after = (
                    walkway.draw_frame(scene, [actor], t)[1].sum() for t in range(3)
                )
                assert between > 20, (name, kind, seed)
                assert max(before, after) < 0.1 * between, (name, kind, seed)


def test_people_ahead_are_smaller(scenes):
    camera = scenes["ped1"].camera
    assert camera.to_image(0.0, 8.0)[2] < camera.to_image(0.0, 4.0)[2]
    across, away = camera.to_ground(*camera.to_image(-1.5, 5.0)[:2])
    assert (across, away) == pytest.approx((-1.5, 5.0))
    assert camera.away_at(camera.to_image(0.0, 5.0)[1]) == pytest.approx(5.0)


def test_a_route_goes_on_straight_beyond_its_ends():
    route = crowd.Route(np.array([[0.0, 1.0], [0.0, 3.0], [4.0, 3.0]]))
    places = route.at(np.array([-1.0, 0.0, 1.0, 2.0, 4.0, 7.0]))
    np.testing.assert_allclose(places, [[0, 0], [0, 1], [0, 2], [0, 3], [2, 3], [5, 3]])
    np.testing.assert_allclose(route.reversed().at(np.array([0.0])), [[4, 3]])


@pytest.mark.parametrize("n_frames", [32, 33, 47, 70])
@pytest.mark.parametrize("pattern", crowd.PATTERNS)
def test_short_sequences_hold_anomalies_too(scenes, pattern, n_frames):
    for name, scene in scenes.items():
        for kind in crowd.ANOMALIES:
            rng = np.random.default_rng(3)
            cast = crowd.anomalies(scene, n_frames, rng, kind=kind, pattern=pattern)
            seen = [walkway.draw_frame(scene, cast, t)[1].any() for t in range(n_frames)]
            assert any(seen), (name, kind)

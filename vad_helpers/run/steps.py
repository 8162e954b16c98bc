"""The steps of a run: clips, network, maps, scores, convergence; what is there is not redone.

Every (clip, row) is explained and scored once, with its map in memory, and its lines are appended
to all tables together: a process that is killed loses the pair that it was working on. Several
processes on one folder share its clips. Those, and the network, are those of `experiment`, and can
be asked for here too.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes
from tqdm.auto import tqdm

from vad_helpers.attribution import METHODS, MethodSpec, attribute, occlusion, superpixels
from vad_helpers.data import datasets
from vad_helpers.errors import InputError
from vad_helpers.files import write_whole
from vad_helpers.inference.prepared import Prepared, out_of_memory, side_by_side
from vad_helpers.metrics import evaluate, human_centric, model_centric, references, robustness
from vad_helpers.metrics.catalog import METRICS, described
from vad_helpers.run import cache, params, plugins
from vad_helpers.run.cache import Pair, Run, key_of, once
from vad_helpers.run.experiment import (  # noqa: F401 (asked for here)
    ENGINE,
    baseline,
    check,
    check_writable,
    clip,
    clip_seed,
    clips,
    data_key,
    data_report,
    data_root,
    dataset,
    evaluation,
    example,
    frames,
    fresh_network,
    history,
    is_trained,
    line_of,
    mask,
    network,
    own_model,
    precision_of,
    predictions,
    predictor,
    prepared,
    processor,
    torch_device,
    weights_sha256,
)
from vad_helpers.run.rows import SLOW_CALLS, TIME_AVERAGE, Row, describe, rows_of
from vad_helpers.tables import schema
from vad_helpers.tables.schema import Study

PACKAGES = ("vad-helpers", "torch", "captum", "numpy", "scikit-image", "scikit-learn")
SAMPLED = ("kernel_shap", "lime")
AGREEMENT = 0.95
"""Correlation of two maps, over voxels, from which they count as the same."""


def rows(run: Run) -> dict[str, Row]:
    """All rows of the run's tables by key, in their order, but for those that are `left_out`."""
    unfit = left_out(run)
    return {key: row for key, row in rows_of(run.params).items() if key not in unfit}


def left_out(run: Run) -> dict[str, str]:
    """Rows that cannot serve a network of one's own, and why; none of the I3D.

    Each is tried on the first clip, once the network is trained. The map is kept, and so is what is
    found. A gradient method whose map is zero everywhere counts as one that cannot.
    """
    if run.params.model is None or not (run.readonly or is_trained(run)):
        return {}
    known = cache.manifest_in(run.dir).get("left_out", {})
    return {name: told for name, (_, told) in known.items()} if run.readonly else _unfit(run)


@once
def _unfit(run: Run) -> dict[str, str]:
    found, known = {}, cache.manifest_in(run.dir).get("left_out", {})
    listed, clip_id = rows_of(run.params), evaluation(run)["clip_id"].iloc[0]
    for name, row in listed.items():
        if row.method is None or name == TIME_AVERAGE:
            continue
        key, told = map_key(run, row), ""
        if known.get(name, ("",))[0] == key:
            found[name] = known[name][1]
            continue
        try:
            values = _explained(run, clip_id, row)[0]
            if METHODS[row.method].family == "gradient" and not values.any():
                told = "its map is zero everywhere: no gradient reaches the clip"
        except (ValueError, RuntimeError, AssertionError) as error:
            if out_of_memory(error):
                raise
            told = (str(error).splitlines() or [type(error).__name__])[0]
        if told:
            found[name] = told
            cache.update(run, left_out={name: [key, told]})
    if not any(row.kind == "method" and name not in found for name, row in listed.items()):
        raise InputError(f"no method can serve {run.params.model}: {next(iter(found.values()))}")
    if "ig" in found and TIME_AVERAGE in listed:
        found[TIME_AVERAGE] = found["ig"]
    return found


def _row(run: Run, key: str) -> Row:
    listed = rows_of(run.params)
    if key in listed:
        return listed[key]
    raise InputError(f"no row '{key}' in this run; there are {', '.join(listed)}")


def clips_of(run: Run, row: Row) -> list[str]:
    """Clips of the evaluation set that a row is on: fewer if it is slow, or a variant says so."""
    p = run.params
    slow = p.n_clips_slow if row.model_calls(p) > SLOW_CALLS else None
    n_clips = min(n for n in (p.n_clips, row.n_clips, slow) if n is not None)
    return evaluation(run, n_clips=n_clips)["clip_id"].tolist()


def _precision(run: Run, row: Row) -> str:
    """Precision of a row's maps; a row without a method has none."""
    usual = row.precision or METHODS[row.method].precision
    return precision_of(run, "map", usual=usual, work=work_of(METHODS[row.method]))


def work_of(spec: MethodSpec) -> str:
    """What the maps of a method mostly cost, of `experiment.measured`."""
    windows = spec.attribute is occlusion.occlusion
    return "gradient" if spec.family == "gradient" else "occlusion" if windows else "forward"


@once
def map_key(run: Run, row: Row) -> str:
    """Key of all that the maps of a row depend on, apart from the clip."""
    p = run.params
    # The data too: a network with random weights brings no key of them along.
    parts = {"data": data_key(run), "seed": p.seed if row.seed is None else row.seed}
    if row.method is None:
        return key_of(run, "map", row=row.key, **parts)
    drawn = p.training_seed if row.seed is None else row.seed
    part = p.model_width if row.weights == "random" else weights_sha256(run)
    parts["network"] = part if row.weights == "trained" else [part, drawn]
    parts |= {} if row.weights in ("trained", "random") else {"from": row.weights}
    parts |= {} if row.target is None else {"target": row.target}
    parts |= own_model(run)  # whose code may change under the same weights
    off = ("agreement", 0), ("relative", False)  # the key of maps that were made before them
    settings = {name: value for name, value in row.all_settings.items() if (name, value) not in off}
    parts["method"] = [row.method, METHODS[row.method].version, settings]
    parts |= {"baseline": row.baseline, "precision": _precision(run, row)}
    if row.method in p.sources:  # edited code is another method, whatever its version says
        parts["code"] = plugins.digest(p.sources[row.method], root=run.root)
    return key_of(run, "map", **parts)


@once
def score_key(run: Run, row: Row) -> str:
    """Key of all that the scores of a row depend on, apart from the clip."""
    parts = {"row": row.key, "map": map_key(run, row), "network": weights_sha256(run)}
    p = run.params
    if p.metrics:
        parts["metrics"] = [(k, plugins.digest(p.sources[k], root=run.root)) for k in p.metrics]
    return key_of(run, "scores", precision=precision_of(run), **parts, **own_model(run))


def map_path(run: Run, clip_id: str, row: Row) -> Path:
    """File of one map; the folder may be deleted."""
    folder = f"{row.key}-{map_key(run, row)[:8]}"
    return run.path("attributions") / folder / f"{clip_id}.safetensors"


def attribution(
    run: Run, clip_id: str, row: str | Row, *, progress: bool | Callable[..., object] = False
) -> np.ndarray:
    """Map of one clip and row: signed float32 (T, H, W); explained now if need be.

    `row` is the key of one of the run's rows, or a row with a key of its own; `progress` shows a
    bar while the method runs, or tells that, as in `attribution.explain`.
    """
    row = row if isinstance(row, Row) else _row(run, row)
    return _explained(run, clip_id, row, progress=progress)[0]


def _explained(
    run: Run,
    clip_id: str,
    row: Row,
    *,
    progress: bool | Callable[..., object] = False,
    keep: bool = True,
) -> tuple[np.ndarray, dict[str, Any]]:
    """A map, and the record of how it came about (empty without a network)."""
    p, shape = run.params, (run.params.n_frames, *run.params.frame_size)
    line_of(run, clip_id)  # refuses other clips
    if row.key == TIME_AVERAGE:
        return robustness.time_average(attribution(run, clip_id, "ig", progress=progress)), {}
    if row.method is None:
        make = {
            # Its own stream a clip: one map for all clips would make their scores dependent.
            "random": lambda: references.random_map(shape, seed=clip_seed(run, clip_id)),
            "centre": lambda: references.centre_prior(shape),
            "motion": lambda: references.frame_difference(clip(run, clip_id)),
            "constant": lambda: references.constant_map(shape),
        }
        return make[row.key](), {}
    path = map_path(run, clip_id, row)
    with cache.lock(run.dir, f"map-{path.parent.name}-{clip_id}"):
        if path.is_file():
            try:
                with safe_open(path, framework="numpy") as stream:
                    return stream.get_tensor("attribution"), json.loads(stream.metadata()["record"])
            except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
                warnings.warn(f"{path} is damaged ({error}); explained again", stacklevel=3)
        finding, seed = 0.0, p.seed if row.seed is None else row.seed
        options = _options(run, row) | {"seed": seed, "progress": progress}
        if METHODS[row.method].superpixels:
            options["segments"], finding = _superpixels(run, clip_id, row)
        ready = _ready(run, row, options["precision"])
        about = dataclasses.asdict(attribute(ready, clip(run, clip_id), row.method, **options))
        values = np.ascontiguousarray(about.pop("map"), dtype=np.float32)
        # The seconds are those of an explanation that finds its own superpixels.
        about["seconds"] += finding
        about["superpixel_seconds"] += finding
        about |= {"precision": options["precision"], "batch_size": p.eval_batch_size}
        engine = ready.engine if work_of(METHODS[row.method]) == "forward" else ENGINE
        about |= {"engine": engine, "processor": processor(run)}
        if not keep:
            return values, about
        content = to_bytes({"attribution": values}, {"record": json.dumps(about, default=list)})
        write_whole(path, content)
        return values, about


def _ready(run: Run, row: Row, precision: str) -> Prepared:
    """The network that a row explains; what is random in it is of the row's seed."""
    seed = {} if row.weights == "trained" or row.seed is None else {"seed": row.seed}
    return prepared(run, row.weights, precision, **seed)


def _options(run: Run, row: Row) -> dict[str, Any]:
    """Options that all explanations by a row share."""
    p = run.params
    options = {"baseline": row.baseline, "precision": _precision(run, row), "black": p.black}
    options |= {} if row.target is None else {"target": row.target}
    return options | {"batch_size": p.eval_batch_size} | dict(row.settings)


def _superpixels(run: Run, clip_id: str, row: Row) -> tuple[np.ndarray, float]:
    """Superpixels that the rows of a clip share, and the seconds that they took."""
    options = {name: row.all_settings[name] for name in ("n_segments", "compactness")}
    if run.memo.get("superpixels", ("",))[0] != (clip_id, options):
        started = time.perf_counter()
        segments = superpixels.slic(clip(run, clip_id), **options)
        seconds = time.perf_counter() - started
        run.memo["superpixels"] = ((clip_id, options), segments, seconds)
    return run.memo["superpixels"][1:]


def units(run: Run) -> dict[Pair, tuple[str, ...]]:
    """All (clip, row) in the order of the tables; the tables that each has lines in."""
    steady = ("robustness", "frame_auc", "explanations")
    of_row = {row.key: set(clips_of(run, row)) for row in rows(run).values()}
    return {
        (clip_id, row): steady if row == TIME_AVERAGE else cache.APPENDED
        for clip_id in evaluation(run)["clip_id"]
        for row in of_row
        if clip_id in of_row[row]
    }


def measure(
    run: Run,
    *,
    rows: Collection[str] | None = None,
    part: tuple[int, int] = (1, 1),
    progress: bool = False,
) -> Study:
    """Train, then explain and score every (clip, row) that the tables lack.

    Processes that call this on one folder share its clips: each takes one that no other works on,
    and in the end waits for those that others took. A read-only run is read as it is. `rows` are
    keys of the rows to measure (all by default); `part` (k, n) is the k-th of n parts of the clips;
    `progress` shows bars.
    """
    share = _share(part)
    wanted = {_row(run, key).key for key in (rows_of(run.params) if rows is None else rows)}
    if run.readonly:
        return schema.load(run.dir)
    keys, pairs, finished = begin(run, progress=progress)
    # Clips with the most rows first, so that tables that grow have all of their rows early.
    n_rows = Counter(clip_id for clip_id, _ in pairs)
    mine = [clip_id for clip_id, _ in n_rows.most_common()][share]
    left = {p for p in pairs if p[0] in mine and p[1] in wanted and p not in finished}
    todo = [clip_id for clip_id in mine if any(clip_id == p[0] for p in left)]
    with tqdm(total=len(left), desc="measure", unit="map", disable=not progress) as bar:
        for wait in (False, True):
            for clip_id in list(todo):
                try:
                    claim = cache.lock(run.dir, f"clip-{clip_id}").acquire(blocking=wait)
                except Timeout:
                    continue
                with claim:
                    others = cache.done(run, keys)
                    now = [p[1] for p in pairs if p[0] == clip_id and p in left and p not in others]
                    for together in joined(now):
                        bar.set_postfix_str(f"{clip_id} {together[0]}")
                        cache.append(run, score(run, clip_id, together, keys))
                        bar.update(len(together))
                todo.remove(clip_id)
    return finish(run, keys, pairs) if left else schema.load(run.dir)


def begin(
    run: Run, *, progress: bool = False
) -> tuple[dict[str, str], dict[Pair, tuple[str, ...]], set[Pair]]:
    """Train if need be, and put the tables in order: keys of rows, `units`, those that are done."""
    predictions(run, progress=progress)
    history(run)
    keys, pairs = {key: score_key(run, row) for key, row in rows(run).items()}, units(run)
    _introduce(run)
    return keys, pairs, cache.arrange(run, keys, pairs)


def finish(run: Run, keys: dict[str, str], pairs: dict[Pair, tuple[str, ...]]) -> Study:
    """Put the tables in order again, once lines were appended, and read them."""
    cache.arrange(run, keys, pairs)
    study = schema.load(run.dir)
    spent = float(study.explanations["seconds"].sum())
    cache.update(run, seconds={"explanations": round(spent, 2)})
    return study


def _share(part: tuple[int, int]) -> slice:
    number, n_parts = part
    if not 1 <= number <= n_parts:
        raise InputError(f"there is no part {number} of {n_parts}; give 1/{n_parts} or later ones")
    return slice(number - 1, None, n_parts)


def _introduce(run: Run) -> None:
    """Write what the manifest says of a run, `rows.csv`, and of doubled samples what has ended."""
    p, known = run.params, cache.manifest_in(run.dir)
    alternative = known.get("alternative")
    if p.alternative and not run.supplied:
        usual, own = params.load(p.profile, root=run.root).dump(), p.dump()
        apart = {*cache.FREE, *cache.MORE, "fold", "alternative"}
        changes = {n: own[n] for n in own if own[n] != usual[n] and n not in apart}
        alternative = {"name": p.alternative, "of": f"fold-{p.fold}", "changes": changes}
    with cache.lock(run.dir, "tables"):
        lines, pairs = describe(rows(run)), _doubled(run)
        cache.write_lines(run, "rows", lines)
        ended = _converged(run, pairs)
        doubled = [line for pair in pairs for line in ended.get(pair, [])]
        cache.write_lines(run, "convergence", doubled)
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in PACKAGES}
    about = {"data": data_key(run), "evaluation": evaluation(run)["clip_id"].tolist()}
    about["alternative"] = alternative
    if p.metrics:
        about["own_metrics"] = {key: described(METRICS[key]) for key in p.metrics}
    about["counts"] = {"rows": len(lines), "convergence": len(doubled)}
    about["versions"] = known.get("versions", versions)
    about["processor"] = known.get("processor", processor(run))
    cache.update(run, **about)


def joined(keys: Sequence[str]) -> list[tuple[str, ...]]:
    """Rows of a clip as they are scored: the time average while the map that it is of is there."""
    both = {"ig", TIME_AVERAGE} <= set(keys)
    found = [("ig", TIME_AVERAGE) if both and key == "ig" else (key,) for key in keys]
    return [one for one in found if not both or one != (TIME_AVERAGE,)]


def score(
    run: Run, clip_id: str, together: Sequence[str], keys: Mapping[str, str], *, keep: bool = True
) -> dict[str, list[tuple]]:
    """Explain and score rows of a clip, one of `joined`: lines of the tables, not written yet.

    `keys` are the rows' keys; without `keep`, maps are not written either. What all rows of a clip
    share stays in the run's memo until another clip comes.
    """
    if run.memo.get("scene", ("",))[0] != clip_id:
        run.memo["scene"] = clip_id, _scene(run, clip_id)
    scene, sequence = run.memo["scene"][1], line_of(run, clip_id)["sequence"]
    values, about = _explained(run, clip_id, _row(run, together[0]), keep=keep)
    scored = {together[0]: (values, about)}
    for row in together[1:]:
        scored[row] = robustness.time_average(values), {}
    lines: dict[str, list[tuple]] = {name: [] for name in cache.APPENDED}
    for row, (values, about) in scored.items():
        if row == TIME_AVERAGE:
            found = evaluate.over_time(values, scene["mask"])
        else:
            scene["predict"] = predict = predictor(run)
            if "ends" not in scene:  # asked once for all maps of the clip
                both = torch.stack([scene["clip"], scene["baseline"]])
                asked = [predict(part) for part in both.split(run.params.eval_batch_size)]
                scene["ends"] = np.concatenate(asked)
            found = evaluate.evaluate(values, **scene)
        for table, own in found.items():
            place = (clip_id, sequence, row) if table in schema.SCORED else (clip_id, row)
            lines[table] += [(*place, *line, keys[row]) for line in own]
        seconds = ("seconds", "baseline_seconds", "superpixel_seconds", "model_calls")
        spent = [about.get(name, 0) for name in seconds]
        spent += [about.get("info", {}).get(name) for name in ("n_segments", "n_nonzero")]
        how = [about.get(name) for name in ("precision", "engine", "processor", "batch_size")]
        line = (clip_id, row, *spent, not values.any(), *how, keys[row])
        lines["explanations"].append(line)
    return lines


def _scene(run: Run, clip_id: str) -> dict[str, Any]:
    """What `evaluate.evaluate` needs of a clip, whatever the map."""
    video, p = clip(run, clip_id), run.params
    return {
        "mask": mask(run, clip_id),
        "changing": human_centric.moving_voxels(video),
        "moving": human_centric.moving_voxels(video, step=1 / 255 / p.std),
        "clip": video,
        "baseline": baseline(run, clip_id),
        "n_thresholds": p.n_thresholds,
        "n_steps": p.area_steps,
        "batch_size": p.eval_batch_size,
        "own": [METRICS[key] for key in p.metrics],
        # Its own draw a clip: ties broken alike in all clips would make their scores dependent.
        "seed": clip_seed(run, clip_id),
    }


def converge(run: Run, *, part: tuple[int, int] = (1, 1), progress: bool = False) -> pd.DataFrame:
    """Double the samples of LIME and KernelSHAP on a clip of each scene until two draws agree.

    The doubling ends at the largest number of samples that a row of the method has in this run: it
    tells whether that row is converged, and costs at most twice that row's map. Options are those
    of `measure`. The table has clip_id, row, n_samples, correlation (of the maps of two draws of so
    many), converged, key; one line a number tried, none if the run has neither method.
    """
    if run.readonly:
        return schema.read(run.dir, "convergence")
    pairs = _doubled(run)
    mine = list(pairs.items())[_share(part)]
    for (clip_id, _), (row, key) in tqdm(mine, desc="doubling samples", disable=not progress):
        with cache.lock(run.dir, f"converge-{row.key}-{clip_id}"):
            if (clip_id, row.key) in _converged(run, pairs):
                continue
            cache.append(run, double(run, clip_id, row.key, key))
    _introduce(run)
    return schema.read(run.dir, "convergence")


def double(run: Run, clip_id: str, row: str, key: str) -> dict[str, list[tuple]]:
    """Double the samples of one row on one clip: lines of `convergence`, not written yet."""
    row = _row(run, row)
    options = _options(run, row) | {"seed": run.params.seed, "agreement": AGREEMENT}
    options["n_samples"] = 2 * row.all_settings["n_samples"]
    ready = _ready(run, row, options["precision"])
    found = attribute(ready, clip(run, clip_id), row.method, **options)
    tried = [(n // 2, r, r >= AGREEMENT) for n, r in found.info["agreements"]]
    return {"convergence": [(clip_id, row.key, *t, key) for t in tried]}


def undoubled(run: Run) -> dict[Pair, str]:
    """(clip, row) whose samples are still to be doubled, and the keys of their lines."""
    pairs = _doubled(run)
    ended = _converged(run, pairs)
    return {pair: key for pair, (_, key) in pairs.items() if pair not in ended}


def _doubled(run: Run) -> dict[Pair, tuple[Row, str]]:
    """(clip, row) whose samples are doubled, the row, and its key: of each sampled method its row
    of most samples, on the first of its clips of each scene."""
    found, table = {}, evaluation(run)
    for method in SAMPLED:
        own = [row for row in rows(run).values() if row.method == method]
        for row in sorted(own, key=lambda row: -row.all_settings["n_samples"])[:1]:
            its = table[table["clip_id"].isin(clips_of(run, row))]
            key = key_of(run, "convergence", map=map_key(run, row))
            found |= {(c, row.key): (row, key) for c in its.groupby("scene")["clip_id"].first()}
    return found


def _converged(run: Run, pairs: dict[Pair, tuple[Row, str]]) -> dict[Pair, list[list[str]]]:
    """Lines of those pairs whose doubling has ended."""
    found: dict[Pair, dict[int, list[str]]] = defaultdict(dict)
    for line in cache.read_lines(run, "convergence"):
        if pairs.get((line[0], line[1]), ("", ""))[1] == line[-1]:
            found[line[0], line[1]][int(line[2])] = line
    ended = {}
    for pair, tried in found.items():
        most, wanted = max(tried), pairs[pair][0].all_settings["n_samples"]
        if tried[most][4] == "True" or 2 * most > wanted:
            ended[pair] = [tried[n] for n in sorted(tried)]
    return ended


def plan(run: Run) -> pd.DataFrame:
    """List the steps of a run, and estimate what is left of them; nothing is trained or explained.

    One clip is timed through the untrained network, forward and backward, on the device that the
    run would use, and multiplied by the counted model calls; occlusion by its windows, which
    recompute only what they reach. Training with frozen stages or in bf16 takes less. Reading data,
    drawing figures and starting kernels are left out.

    The table has step, state ("done", "to do", "n of m done", "read-only"), model_calls (to do),
    minutes (an estimate); the last line is the total.
    """
    p, device = run.params, torch_device(run)  # refuses one that is not here, whatever is left
    tree = datasets.walkway_folder(run.root / p.data_dir, seed=p.seed, options=p.walkway)
    lines: list[tuple[str, str, int, float]] = []

    def enter(step: str, calls: int, seconds: float) -> None:
        lines.append((step, "to do" if calls else "done", calls, calls * seconds))

    if run.readonly:
        lines.append(("everything", "read-only", 0, 0.0))
    elif p.dataset == "walkway" and not tree.is_dir():
        lines.append(("data", "to do", 0, 40.0))  # what the rest costs is told once they are there
    else:
        video = torch.zeros((3, p.n_frames, *p.frame_size), device=device)
        model, batch = fresh_network(run).eval().to(device), video[None].requires_grad_()
        ways = {"forward": lambda: model(batch)}
        ways["backward"] = lambda: torch.autograd.grad(model(batch).sum(), batch)
        forward, backward = side_by_side(ways, device=video.device).values()
        split, trained = clips(run)["split"].value_counts(), is_trained(run)
        drawn = p.epoch_clips or len(dataset(run, "train", augmented=True))
        enter("training", 0 if trained else p.epochs * drawn, backward)
        enter("validation", 0 if trained else p.epochs * int(split.get("val", 0)), forward)
        predicted = trained and run.path("predictions.csv").is_file()
        enter("predictions", 0 if predicted else int(split.drop("train").sum()), forward)
        keys = {key: score_key(run, row) for key, row in rows(run).items()} if trained else {}
        finished, pairs = cache.done(run, keys), units(run)
        for key, row in rows(run).items():
            mine = [pair for pair in pairs if pair[1] == key]
            left = [pair for pair in mine if pair not in finished]
            made = [c for c, _ in left if keys and row.method and map_path(run, c, row).is_file()]
            calls = (len(left) - len(made)) * row.model_calls(p)
            # Two curves on each axis; equal sets are asked once, so this is the most there can be.
            sizes = [*model_centric.MATCHED_AREAS, *model_centric.BLOCK_AREAS]
            curves = 2 * (p.n_thresholds + p.area_steps + len(sizes)) * (key != TIME_AVERAGE)
            scored, state = len(left) * curves, f"{len(mine) - len(left)} of {len(mine)} done"
            gradients = row.method and METHODS[row.method].family == "gradient"
            per_call = backward if gradients else forward
            if calls and {"window", "stride"} <= row.all_settings.keys():
                windows = (tuple(row.all_settings[name]) for name in ("window", "stride"))
                ready = prepared(run, "random", "fp32")
                per_call = min(per_call, occlusion.seconds_per_window(ready, video, *windows))
            seconds = calls * per_call + scored * forward
            lines.append((key, state, calls + scored, seconds + 0.3 * len(left)))
        doubled = _doubled(run) if trained else {}
        left = [doubled[pair][0] for pair in doubled.keys() - _converged(run, doubled).keys()]
        # Two draws; of smaller numbers of samples, all are part of the largest.
        enter("doubling", sum(2 * row.all_settings["n_samples"] for row in left), forward)
    table = pd.DataFrame(lines, columns=["step", "state", "model_calls", "minutes"])
    table["minutes"] = (table["minutes"] / 60).round(1)
    table.loc[len(table)] = ("total", "", table["model_calls"].sum(), table["minutes"].sum())
    return table

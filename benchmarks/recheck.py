"""Does the published network give the published probabilities? Computed again by other code.

`python -m benchmarks.recheck` takes `InceptionI3d` alone from this package. Frames, labels, sizes
and scores come from Pillow, PyTorch and scikit-learn: an error in the package's own code for them
shows here as a difference. Of damaged frames it replaces those alone that cannot be decoded, so
that clips with another one differ a little. It exits with status 1 if something differs; so may
other videos than those that the study was made from."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from safetensors import safe_open
from sklearn.metrics import accuracy_score, roc_auc_score

from vad_helpers.model.i3d import InceptionI3d

LIMIT = 0.01
"""Of the median difference: published probabilities may come from bf16, these are in float32."""
TREE, RESULTS = Path("data/UCSD_Anomaly_Dataset.v1p2"), Path("results/ucsd/fold-0")
WEIGHTS = Path("results/ucsd/model-fold0.safetensors")
FOLDERS = {"ped1": "UCSDped1", "ped2": "UCSDped2"}


def main(
    tree: Annotated[Path, typer.Option(exists=True, help="Folder of UCSDped1, UCSDped2.")] = TREE,
    results: Annotated[Path, typer.Option(exists=True, help="Published run folder.")] = RESULTS,
    weights: Annotated[Path, typer.Option(exists=True, help="Its network.")] = WEIGHTS,
) -> None:
    """Compute labels, probabilities and scores of the test part again, and compare."""
    clips, predicted = (_lines(results / f"{name}.csv") for name in ("clips", "predictions"))
    ranges = anomalous_ranges(tree)
    labels = {clip["clip_id"]: label_of(clip, ranges) for clip in clips}
    differs = []
    for name, lines in {"clips.csv": clips, "predictions.csv": predicted}.items():
        wrong = [c["clip_id"] for c in lines if int(c["label"]) != labels.get(c["clip_id"])]
        if wrong:
            listed = ", ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else "")
            differs.append(f"{len(wrong)} labels of {name} are not those of the .m files: {listed}")

    tested = [clip for clip in clips if clip["split"] == "test"]
    published = {c["clip_id"]: float(c["p"]) for c in predicted if c["split"] == "test"}
    if not tested or set(published) != {clip["clip_id"] for clip in tested}:
        n = f"{len(tested)} test clips in clips.csv, {len(published)} in predictions.csv"
        raise SystemExit(f"{results}: {n}; expected the same, at least one")
    manifest = json.loads((results / "manifest.json").read_text(encoding="utf-8"))
    size = tuple(manifest["parameters"]["frame_size"])
    found = probabilities(weights, tree, tested, size)

    names, truth = list(found), [labels[name] or 0 for name in found]
    here, there = (np.array([values[name] for name in names]) for values in (found, published))
    apart = np.abs(here - there)
    median, largest, at = np.median(apart), apart.max(), names[apart.argmax()]
    print(f"{len(names)} test clips, |p here - p published|: ", end="")
    print(f"median {median:.6f}, largest {largest:.6f} ({at})")
    right = [int(accuracy_score(truth, p >= 0.5, normalize=False)) for p in (here, there)]
    for whose, p, n in (("here", here, right[0]), ("published", there, right[1])):
        print(f"{whose:9} accuracy {n / len(truth):.4f} ({n} right),", end=" ")
        print(f"AUC {roc_auc_score(truth, p):.4f}")
    if not median <= LIMIT:  # NaN as well
        differs.append(f"the median difference is {median:.4f}, over {LIMIT}")
    if abs(right[0] - right[1]) > 1:
        differs.append(f"{right[0]} clips are right here, {right[1]} as published")
    for line in differs:
        print(f"differs: {line}")
    if differs:
        raise typer.Exit(1)
    print("agrees")


def anomalous_ranges(tree: Path) -> dict[str, list[tuple[int, int]]]:
    """Ranges of anomalous frames by sequence, counted from 1, both ends included."""
    found = {}
    for scene, folder in FOLDERS.items():
        path = tree / folder / "Test" / f"{folder}.m"
        text = path.read_text(encoding="ascii") if path.is_file() else ""
        for number, entry in enumerate(re.findall(r"gt_frame\s*=\s*\[(.*?)\]", text), start=1):
            ends = [part.split(":") for part in re.findall(r"[^,\s]+", entry)]
            found[f"{scene}/Test{number:03d}"] = [(int(first), int(last)) for first, last in ends]
    return found


def label_of(clip: dict[str, str], ranges: dict[str, list[tuple[int, int]]]) -> int | None:
    """1 if one of a clip's frames is anomalous, 0 if none is, None if no list names its video."""
    first = int(clip["start"]) + 1
    last = first + int(clip["n_frames"]) - 1
    if "/Train" in clip["sequence"]:
        return 0
    found = ranges.get(clip["sequence"])
    return None if found is None else int(any(a <= last and b >= first for a, b in found))


def probabilities(
    weights: Path, tree: Path, clips: list[dict[str, str]], size: tuple[int, int]
) -> dict[str, float]:
    """Probability "anomalous" by clip_id, in float32, of frames in `size` (height, width)."""
    with safe_open(weights, framework="pt") as file:
        about = {name: json.loads(file.metadata()[name]) for name in ("mean", "std", "classes")}
        width = json.loads(file.metadata().get("width", "1.0"))
        state = {name: file.get_tensor(name).float() for name in file.keys()}
    network = InceptionI3d(len(about["classes"]), width).eval()
    network.load_state_dict(state, strict=True)
    found, anomalous = {}, about["classes"].index("anomalous")
    with torch.no_grad(), typer.progressbar(clips, label="recheck") as bar:
        for clip in bar:
            grey = (read_grey(tree, clip, size) / 255 - about["mean"]) / about["std"]
            logits = network(torch.stack([grey] * 3)[None])
            found[clip["clip_id"]] = logits.softmax(dim=1)[0, anomalous].item()
    return found


def read_grey(tree: Path, clip: dict[str, str], size: tuple[int, int]) -> torch.Tensor:
    """A clip's frames in `size`: float32 (T, height, width), whole grey levels from 0 to 255."""
    side = re.sub(r"\d+", "", clip["sequence"].split("/")[1])
    folder = tree / FOLDERS[clip["scene"]] / side / clip["sequence"].split("/")[1]
    first = int(clip["start"]) + 1
    frames = np.stack([_frame(folder, first + i) for i in range(int(clip["n_frames"]))])
    grey = torch.from_numpy(frames).float()[None]
    options = {"mode": "bilinear", "align_corners": False, "antialias": True}
    for shape in ((grey.shape[2], size[1]), size):  # pictures are whole levels after each axis
        grey = (torch.nn.functional.interpolate(grey, shape, **options) + 0.5).floor()
    return grey[0]


def _frame(folder: Path, number: int) -> np.ndarray:
    """A frame, counted from 1, or the nearest one that can be decoded (of two, the earlier)."""
    for distance in range(10):
        for i in (number - distance, number + distance):
            try:
                with Image.open(folder / f"{i:03d}.tif") as picture:
                    return np.asarray(picture.convert("L"))
            except OSError:  # Pillow's error for what it cannot decode, too
                continue
    raise SystemExit(f"{folder} has no frame {number:03d}.tif that can be decoded, nor any near it")


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    typer.run(main)

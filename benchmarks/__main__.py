"""The command line of the benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tqdm.auto import tqdm

from benchmarks import bench, exactness, growth, machine, plain_captum, table
from vad_helpers.data import clips, walkway
from vad_helpers.files import atomic_write
from vad_helpers.inference.prepared import resolve_device
from vad_helpers.metrics import runtime
from vad_helpers.model.i3d import InceptionI3d
from vad_helpers.run import open_run, params, steps

FRAMES, SIZE = 20, (158, 237)
SMALLER = (20, 64, 96)
"""Clip on which exactness is measured: float64 has no fast kernels."""


def main(
    profile: Annotated[str, typer.Option(help="Take network and clip from a run.")] = "",
    param: Annotated[list[str], typer.Option("-p", "--param", help="Of that run.")] = [],  # noqa: B006
    methods: Annotated[str, typer.Option(help="Separated by commas.")] = ",".join(
        plain_captum.METHODS
    ),
    repeats: Annotated[int, typer.Option(help="Timed runs; medians are reported.")] = 3,
    slow_repeats: Annotated[int, typer.Option(help="The same for the slow methods.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("benchmarks/results"),
) -> None:
    """Explain one clip by every method, by plain Captum and by this project, in one run."""
    place = resolve_device(device)
    subject, words = _subject(profile, param, place)
    smaller = torch.nn.functional.interpolate(subject.clip[None], size=SMALLER, mode="trilinear")[0]
    keys = [key.strip() for key in methods.split(",")]
    peaks = bench.peak_gflops(place)
    facts = runtime.machine()
    result: dict[str, Any] = {
        "device": machine.name(place),
        "processor": facts.pop("processor"),
        "amx": "AMX" in facts["instructions"],
        "machine": facts,
        "subject": words,
        "peak_gflops": peaks,
        "unit_seconds": bench.unit_seconds(subject),
        "forward_fp32_s": bench.forward_seconds(subject),
        "rows": [],
    }
    path = out / f"{result['device']}.json"

    def keep() -> None:  # row by row: a break loses what it interrupts alone
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    measured = bench.rows(subject, keys, peaks=peaks, repeats=repeats, slow_repeats=slow_repeats)
    # Captum's calls: about how long a row takes, so that the bar can tell the time left.
    calls = [bench.captum_calls(subject, key) for key in keys]
    with tqdm(desc="bench", total=sum(calls) + 2, unit="call") as bar:
        for row, n in zip(measured, [*calls, 1, 1], strict=True):
            result["rows"].append(row)
            keep()
            spent = ", ".join(
                f"{k.removesuffix('_s')} {row[k]:.2f} s" for k in bench.seconds_of(row)
            )
            tqdm.write(f"{row['method']}: {spent}")
            bar.update(n)
    for name, more in (
        ("exactness", lambda: exactness.rows(bench.Subject(subject.network, smaller), keys)),
        ("growth", lambda: growth.rows(subject)),
    ):
        print(name, flush=True)
        result[name] = more()
        keep()
    print(table(out).to_string(index=False, float_format="{:.2f}".format))
    print(path)


def _subject(profile: str, param: list[str], device: torch.device) -> tuple[bench.Subject, dict]:
    if not profile:
        network, clip = random_network(), synthetic_clip()
        words = {"network": "full I3D, random weights", "clip": "synthetic"}
    else:
        run = open_run(profile, **dict(params.parse_override(text) for text in param))
        network, clip_id = steps.network(run), steps.evaluation(run)["clip_id"].iloc[0]
        clip = steps.clip(run, clip_id)
        words = {"network": f"I3D of a run, width {run.params.model_width}", "clip": clip_id}
    words |= {"shape": list(clip.shape)}
    return bench.Subject(network.eval().to(device), clip.to(device)), words


def random_network() -> InceptionI3d:
    """A full-size network with seeded weights whose logits are not all alike."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = InceptionI3d()
        torch.nn.init.normal_(network.logits.conv3d.weight, std=0.05)
    return network.eval()


def synthetic_clip() -> torch.Tensor:
    """A clip of the synthetic dataset at the paper's size: float32 (3, T, H, W)."""
    spec = walkway.WalkwaySpec(ped1_size=SIZE)
    footage = walkway.film(spec, walkway.open_scene(spec, "ped1"), "test", 1)
    first = int(footage.masks.any(axis=(1, 2)).argmax())
    first = min(first, len(footage.frames) - FRAMES)
    return clips.normalise(footage.frames[first : first + FRAMES], mean=0.5, std=0.5)


if __name__ == "__main__":
    typer.run(main)

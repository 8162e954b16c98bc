"""Explain one decision and measure the explanation, with the installed package alone."""

import torch

from vad_helpers import viz
from vad_helpers.attribution import baselines, explain
from vad_helpers.data.datasets import example_clip
from vad_helpers.metrics import human_centric, model_centric


def model(clips):  # your network: clips (N, 3, T, H, W) to logits (N, 2); this one sees speed
    speed = torch.nn.functional.avg_pool3d(clips.diff(dim=2).abs(), (1, 8, 8))
    fast = (speed - 0.2).relu().sum(dim=(1, 2, 3, 4)) / 20 - 3
    return torch.stack([-fast, fast], dim=1)


name, frames, mask = example_clip()  # a drawn walkway: uint8 (T, H, W), bool (T, H, W)
clip = torch.from_numpy(frames).expand(3, *frames.shape) / 127.5 - 1
still = baselines.make("spacetime_blur", clip)  # what fills removed voxels: no motion
heatmap = explain(model, clip, "lime", baseline=still, n_samples=200)  # signed (T, H, W)
scores = human_centric.localization(heatmap, mask)
scores |= model_centric.deletion_insertion(
    lambda clips: model(clips).softmax(dim=1)[:, 1], clip, still, heatmap
)
print({key: round(scores[key], 2) for key in ("auc", "iou", "deletion", "insertion")})
figure, axes = viz.subplots(1, 2)
viz.heatmap_grid(axes, frames / 255, mask, {"LIME": heatmap}, t=viz.best_frame(mask))
figure.savefig(f"{name}.png")

"""A method of one's own in a file: the gradient of p, times how fast the clip changes."""

import torch

from vad_helpers.attribution import MethodSpec


def moving_gradient(probability, clip, baseline):
    clips = clip[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(probability(clips).sum(), clips)
    speed = torch.diff(clip, dim=1, prepend=clip[:, :1]).abs()
    return (gradient[0] * speed).sum(dim=0)


SPEC = MethodSpec(
    key="moving_gradient", name="Gradient x motion", family="gradient", uses_baseline=False,
    attribute=moving_gradient, model_calls=lambda settings, shape, n_segments: 1,
)  # fmt: skip

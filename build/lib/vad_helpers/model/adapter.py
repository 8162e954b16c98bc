"""A network of one's own as the package asks for it: two logits, "normal" and "anomalous"."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vad_helpers.errors import InputError


def two_logits(model: nn.Module, *, target: int = 1) -> nn.Module:
    """Make a network give two logits; names of its layers and weights stay.

    One logit z is that of "anomalous" by a sigmoid: (0, z). Of more than two, the class `target`
    stands against all others together, and its softmax probability is what it was.

    Parameters
    ----------
    model : nn.Module
        (N, 3, T, H, W) -> (N,), (N, 1) or (N, classes) logits; it is changed, and given back.
    target : int, default 1
        The class "anomalous"; of a single logit it is not asked.

    Raises
    ------
    InputError
        If it is no module; in a call, if its logits are of another shape, or it describes itself
        as a chain and they are not two.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}; give a torch.nn.Module")

    def convert(module: nn.Module, clips: tuple[Tensor, ...], logits: Tensor) -> Tensor | None:
        n, classes = len(clips[0]), n_classes(logits, len(clips[0]), target=target)
        if classes == 2 and target == 1:
            return None
        if hasattr(module, "chain"):
            raise InputError("a model with chain() must give two logits, normal and anomalous")
        if classes == 1:
            z = logits.reshape(n, 1)
            return torch.cat([torch.zeros_like(z), z], dim=1)
        if classes == 2:
            return torch.stack([logits[:, 1], logits[:, 0]], dim=1)
        others = [k for k in range(classes) if k != target]
        return torch.stack([logits[:, others].logsumexp(dim=1), logits[:, target]], dim=1)

    model.register_forward_hook(convert)
    return model


def n_classes(logits: object, n: int, *, target: int = 0) -> int:
    """Count the classes of the logits of n clips, 1 for (N,) and (N, 1).

    InputError if they are of another shape, or more than one and `target` not among them.
    """
    found = getattr(logits, "shape", type(logits).__name__)
    if found in ((n,), (n, 1)):
        return 1
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != n:
        shape = tuple(found) if isinstance(logits, Tensor) else found
        told = f"{shape} for {n} clips; expected logits (N,), (N, 1), (N, classes)"
        raise InputError(f"the model gave {told}")
    if target >= logits.shape[1]:
        raise InputError(f"class {target} is not among the model's {logits.shape[1]} classes")
    return logits.shape[1]


@torch.no_grad()
def randomise(model: nn.Module) -> nn.Module:
    """Draw a network's weights anew, in place: a control that keeps nothing of the training.

    Modules draw as they do when they are made (`reset_parameters`). A parameter outside of such
    modules is drawn from a normal distribution with its own mean and standard deviation.
    """
    drawn = set()
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
            drawn.update(id(parameter) for parameter in module.parameters(recurse=False))
    for parameter in model.parameters():
        if id(parameter) not in drawn and parameter.is_floating_point():
            spread = parameter.std() if parameter.numel() > 1 else parameter.abs().mean()
            parameter.copy_(torch.randn_like(parameter) * spread + parameter.mean())
    return model

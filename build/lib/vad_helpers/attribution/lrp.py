"""Layer-wise relevance propagation: the logit, handed back from layer to layer.

`vad_helpers.attribution.registry` says what `probability`, `clip` and the map are.

Relevance is written as value times a modified gradient. While the model runs, its operations are
watched, not its modules, which stay as they are: behind each ReLU that follows a linear layer
stands the same value with another gradient, that of its rule. Everything else keeps its gradient,
which for functions such as pooling or adding shares relevance in proportion. What has no rule is
found in autograd's graph, however it was called, and refused.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError

_LAYERS = {"conv1d", "conv2d", "conv3d", "linear"}
# Of pixels: functions that only move, copy or average them, so that bounds go the same way.
_MOVES = {"pad", "to", "float", "contiguous", "clone", "view", "reshape", "flatten", "permute"} | {
    *("transpose", "squeeze", "unsqueeze", "__getitem__", "mean", "avg_pool3d")
}
# Nodes of autograd's graph, without "Backward0", whose gradient shares out what the output holds.
_SHARE = {
    *("Relu", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "AvgPool2D", "AvgPool3D", "Mean"),
    *("AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "Sum", "Cat", "Stack", "Add", "Sub", "Neg"),
    *("ConstantPadNd", "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Permute"),
    *("Transpose", "T", "Slice", "Select", "Expand", "ToCopy", "Clone", "Alias"),
}


def lrp(
    probability: Probability,
    clip: Tensor,
    baseline: None = None,
    *,
    rule: str = "composite",
    low: float = -1.0,
    high: float = 1.0,
) -> tuple[Tensor, dict[str, float]]:
    """Share out the logit of the class by what each value contributed to the next layer.

    With "composite" a linear layer in front of a ReLU shares relevance by its positive
    contributions alone (z-plus; a batch norm between them is merged into the layer); where it sees
    the clip, contributions count from the bounds of the pixels (z-box). A linear layer without a
    ReLU, such as the classifier, shares it by all contributions, max pooling gives it to the
    winner, averages and sums share it in proportion.

    The map sums to the logit, less what is kept by biases: those of layers without a ReLU,
    constants that the model adds, and units that only their bias turns on. Biases of other layers
    keep nothing. Reported are `logit` and `kept_by_biases`.

    Parameters
    ----------
    rule : {"composite", "zero"}
        "zero": by all contributions everywhere, the limit of the epsilon rule for small epsilon.
        That is the clip times the gradient of the logit.
    low, high : float
        Least and largest value of a pixel after normalisation; widened to the clip's own.

    Raises
    ------
    InputError
        If the model does something that has no rule: other activations than ReLU, products of two
        values that depend on the clip, a batch norm that follows no linear layer, and so on.

    References
    ----------
    Bach et al., On pixel-wise explanations for non-linear classifier decisions by layer-wise
    relevance propagation, PLOS ONE 10 (7), 2015.
    Montavon et al., Explaining nonlinear classification decisions with deep Taylor decomposition,
    Pattern Recognition 65, 2017 (z-plus and z-box).
    """
    low, high = min(low, float(clip.min())), max(high, float(clip.max()))
    parts = [part.requires_grad_() for part in (clip[None], clip[None] - low, clip[None] - high)]
    with _Watched(*parts, composite=rule == "composite") as watched:
        logit = probability.logit(parts[0]).sum()
    watched.refuse(logit.grad_fn)
    gradients = torch.autograd.grad(logit, parts, allow_unused=True)
    relevance = torch.zeros_like(clip[0])
    for part, gradient in zip(parts, gradients, strict=True):
        if gradient is not None:
            relevance += (part.detach() * gradient)[0].sum(dim=0)
    value = float(logit.detach())
    return relevance, {"logit": value, "kept_by_biases": value - float(relevance.sum())}


class _Watched(TorchFunctionMode):
    """Gradients by rules, for what runs inside this context.

    `above` and `below` are a batch of clips less the lower and the upper bound of pixels.
    """

    def __init__(self, clips: Tensor, above: Tensor, below: Tensor, *, composite: bool) -> None:
        super().__init__()
        self.composite = composite
        self.pixels = {id(clips): (clips, above, below)}
        # Node of a linear layer's output -> the layer: function, input, weight, other arguments.
        self.layers: dict[Any, tuple] = {}
        # Node of an output that has a rule -> node of the input.
        self.inputs: dict[Any, Any] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        kwargs, name, x = kwargs or {}, func.__name__, args[0] if args else None
        node = getattr(x, "grad_fn", None)  # before it is changed in place
        layer = self.layers.get(node)
        if name == "relu" and self.composite and layer is not None:
            return self._activate(x, layer, inplace=kwargs.get("inplace", False))
        found = func(*args, **kwargs)
        if not isinstance(found, Tensor) or found.grad_fn is None:
            return found
        if name in _LAYERS and len(args) > 1 and args[1].grad_fn is None:  # its weight is fixed
            weight, _, *rest = [*args[1:], *([kwargs.pop("bias", None)] if len(args) < 3 else [])]
            self.layers[found.grad_fn] = func, x, weight, rest, kwargs
            self.inputs[found.grad_fn] = node
        elif func is F.batch_norm and layer is not None and not kwargs["training"]:
            function, before, weight, *others = layer
            factor = (args[2] + kwargs["eps"]).rsqrt()
            factor = factor if kwargs["weight"] is None else factor * kwargs["weight"]
            merged = weight * factor.view(-1, *[1] * (weight.ndim - 1))
            self.layers[found.grad_fn] = function, before, merged, *others
            self.inputs[found.grad_fn] = before.grad_fn
        elif name in _MOVES and id(x) in self.pixels:
            moved = (func(part, *args[1:], **kwargs) for part in self.pixels[id(x)][1:])
            self.pixels[id(found)] = found, *moved
        return found

    def _activate(self, y: Tensor, layer: tuple, *, inplace: bool) -> Tensor:
        """Give ReLU(y), whose gradient is that of the layer's positive contributions."""
        function, x, weight, rest, options = layer
        out, wide = y.detach().relu(), torch.promote_types(y.dtype, torch.float32)
        positive, negative = x.clamp(min=0), x.clamp(max=0)
        if id(x) in self.pixels:
            _, positive, negative = self.pixels[id(x)]
        weight = weight.detach().to(wide)
        with torch.autocast(y.device.type, enabled=False):
            z = function(positive.to(wide), weight.clamp(min=0), None, *rest, **options)
            if negative.detach().any():
                z = z + function(negative.to(wide), weight.clamp(max=0), None, *rest, **options)
        some = z.detach() > torch.finfo(wide).tiny * 1e8  # else nothing in the input speaks for it
        held = z * torch.where(some, out / z.detach(), 0)
        result = held.to(out.dtype) + (out - held.detach()).to(out.dtype)
        if inplace:
            result = y.copy_(result)
        self.inputs[result.grad_fn] = x.grad_fn
        return result

    def refuse(self, node: Any) -> None:
        """Raise InputError if the graph that ends in a node holds an operation without a rule."""
        waiting, seen = [node], {None}
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            if node in self.inputs:
                waiting.append(self.inputs[node])
                continue
            name, inputs = node.name().split("Backward")[0], [f for f, _ in node.next_functions]
            scales = name in ("Mul", "Div") and sum(one is not None for one in inputs) == 1
            scales = scales and (name == "Mul" or inputs[0] is not None)
            escaped = name == "Relu" and self.composite and inputs[0] in self.layers
            leaf = name.endswith("AccumulateGrad")
            if escaped or not (name in _SHARE or scales or leaf):
                raise InputError(
                    f"lrp has no rule for {name} as this model uses it; its layers may be "
                    "convolutions, linear layers, batch norms behind them, ReLUs (not in place by "
                    "name), pooling, sums and averages"
                )
            waiting += inputs

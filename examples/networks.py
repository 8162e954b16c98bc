"""Two small video networks of our own code, and one of torchvision's, for a run's `model`:

    vad check model examples/networks.py:r2plus1d
    vad measure --profile quick -p model=examples/networks.py:r2plus1d -p run_dir=runs/r2plus1d

Each function makes one, clips (N, 3, T, H, W) -> logits (N, n_logits); its arguments are the run's
`model_args`.
"""

import torch
import torch.nn.functional as F
from torch import nn


def r2plus1d(*, n_logits: int = 2, widths: tuple[int, ...] = (16, 32, 64, 96)) -> nn.Module:
    """Make a (2+1)D residual network: each convolution in space, then in time (Tran et al., 2018).

    Its ReLUs are modules, each used once, and none works in place: Guided Backpropagation and LRP
    serve it. Class activation maps find its last layer by the name "blocks".
    """
    return R2Plus1D(n_logits, list(widths))


class R2Plus1D(nn.Module):
    """A stem, a residual block a width, the mean over time and space, a linear classifier."""

    def __init__(self, n_logits: int, widths: list[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_factorised(3, widths[0], side=5, stride=(2, 2, 2)), nn.ReLU())
        # The second halves the frame alone: a step in time is half of those it has left.
        strides = [(1, 2, 2)] + [(2, 2, 2)] * (len(widths) - 2)
        self.blocks = nn.Sequential(
            *(
                Residual(a, b, stride=s)
                for a, b, s in zip(widths, widths[1:], strides, strict=False)
            )
        )
        self.classifier = nn.Linear(widths[-1], n_logits)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.blocks(self.stem(clips)).mean(dim=(2, 3, 4)))


class Residual(nn.Module):
    """Two factorised convolutions, added to what came in."""

    def __init__(self, inputs: int, outputs: int, *, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_factorised(inputs, outputs, stride=stride),
            nn.ReLU(),
            *_factorised(outputs, outputs),
        )
        self.shortcut = nn.Identity()
        if inputs != outputs or stride != (1, 1, 1):
            straight = nn.Conv3d(inputs, outputs, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(straight, nn.BatchNorm3d(outputs))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.shortcut(x) + self.body(x))


def _factorised(
    inputs: int, outputs: int, *, side: int = 3, stride: tuple[int, int, int] = (1, 1, 1)
) -> list[nn.Module]:
    """A convolution of a frame, then one of a pixel over time; the stride is split likewise."""
    t, *s = stride
    space = {
        "kernel_size": (1, side, side),
        "stride": (1, *s),
        "padding": (0, side // 2, side // 2),
    }
    time = {"kernel_size": (3, 1, 1), "stride": (t, 1, 1), "padding": (1, 0, 0)}
    return [
        nn.Conv3d(inputs, outputs, bias=False, **space),
        nn.BatchNorm3d(outputs),
        nn.ReLU(),
        nn.Conv3d(outputs, outputs, bias=False, **time),
        nn.BatchNorm3d(outputs),
    ]


def video_transformer(
    *,
    n_logits: int = 2,
    size: tuple[int, int, int] = (16, 80, 120),
    tubelet: tuple[int, int, int] = (4, 8, 8),
    width: int = 96,
    depth: int = 2,
    heads: int = 4,
) -> nn.Module:
    """Make a transformer over tubelets, boxes of the clip (Arnab et al., ViViT, 2021).

    `size` is (n_frames, *frame_size) of the run, which `tubelet` must divide: positions are learned
    for it. It sees each clip less its mean over time: with the background in, a few hundred clips
    and epochs by the handful do not teach it. It has no ReLU. Class activation maps find its last
    tokens by the name "grid".
    """
    if any(n % k for n, k in zip(size, tubelet, strict=True)) or width % heads:
        raise ValueError(f"tubelet {tubelet} must divide {size}, and {heads} heads width {width}")
    return VideoTransformer(n_logits, tuple(size), tuple(tubelet), width, depth, heads)


class VideoTransformer(nn.Module):
    """Tubelets as tokens, blocks of attention, the mean over tokens, a linear classifier."""

    def __init__(self, n_logits, size, tubelet, width, depth, heads) -> None:
        super().__init__()
        grid = [n // k for n, k in zip(size, tubelet, strict=True)]
        self.embed = nn.Conv3d(3, width, tubelet, stride=tubelet)
        self.positions = nn.Parameter(0.02 * torch.randn(1, grid[0] * grid[1] * grid[2], width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.grid = nn.Unflatten(2, grid)  # tokens where they are in the clip
        self.classifier = nn.Linear(width, n_logits)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        moving = clips - clips.mean(dim=2, keepdim=True)
        tokens = self.embed(moving).flatten(2).transpose(1, 2)
        tokens = self.norm(self.blocks(tokens + self.positions))
        return self.classifier(self.grid(tokens.transpose(1, 2)).mean(dim=(2, 3, 4)))


class Block(nn.Module):
    """Self-attention of several heads, then two layers a token; each is normalised first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.answer = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        asked = self.ask(self.before(x)).view(n, tokens, 3, self.heads, width // self.heads)
        found = F.scaled_dot_product_attention(*asked.permute(2, 0, 3, 1, 4))
        x = x + self.answer(found.transpose(1, 2).reshape(n, tokens, width))
        return x + self.mlp(self.between(x))


def torchvision_r2plus1d_18(*, n_logits: int = 2) -> nn.Module:
    """Make torchvision's R(2+1)D of 31 M weights, at random: `pip install torchvision` brings it.

    Its ReLUs work in place, which `vad check model` tells the consequences of.
    """
    from torchvision.models.video import r2plus1d_18

    return r2plus1d_18(weights=None, num_classes=n_logits)

"""The networks of benchmarks.training_networks in PyTorch, channels_last, with as many parameters."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from benchmarks.training_networks import RESNET18_BLOCKS, Row

BN = {"momentum": 0.01, "eps": 1e-3}
"""Keras' defaults: its momentum is the share of the old value."""


def tutorial_cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten()),
        *dense(576, 64),
    )


def dense(*units: int) -> list[nn.Module]:
    """Layers with ReLU, and ten logits."""
    parts: list[nn.Module] = []
    for before, after in pairwise(units):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return [*parts, nn.Linear(units[-1], 10)]


def same_convolutions(pooled: bool) -> nn.Module:
    parts: list[nn.Module] = []
    for before, after in ((1, 64), (64, 32)):
        parts += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        parts += [nn.MaxPool2d(2)] if pooled else []
    return nn.Sequential(*parts, nn.Flatten(), *dense(32 * (49 if pooled else 784), 32, 32))


def large_windows() -> nn.Module:
    parts: list[nn.Module] = []
    for before, after in ((1, 32), (32, 64)):
        parts += [nn.Conv2d(before, after, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, nn.Flatten(), *dense(1024, 1000))


def cifar() -> nn.Module:
    parts: list[nn.Module] = []
    for before, after in ((3, 64), (64, 32)):
        parts += [nn.Conv2d(before, after, 3), nn.ReLU()]
        parts += [nn.BatchNorm2d(after, **BN), nn.MaxPool2d(2)]
    parts.append(nn.Flatten())
    for before, after in ((1152, 512), (512, 256)):
        parts += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(*parts, nn.Linear(256, 10))


def normalised(
    before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1, relu: Any = nn.ReLU
) -> nn.Sequential:
    padding = kernel // 2
    conv = nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=False)
    normal = nn.BatchNorm2d(after, **BN)
    return nn.Sequential(conv, normal, *([relu(inplace=True)] if relu else []))


class Residual(nn.Module):
    """The sum of a branch and of its input, which a projection may change first."""

    def __init__(self, branch: nn.Module, projection: nn.Module | None, relu: bool) -> None:
        super().__init__()
        self.branch, self.relu = branch, relu
        self.projection = projection or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.branch(x) + self.projection(x)
        return nn.functional.relu(y, inplace=True) if self.relu else y


def resnet18() -> nn.Module:
    parts: list[nn.Module] = [normalised(3, 64)]
    before = 64
    for filters, stride in RESNET18_BLOCKS:
        first = normalised(before, filters, stride=stride)
        branch = nn.Sequential(first, normalised(filters, filters, relu=None))
        shortcut = normalised(before, filters, 1, stride, relu=None) if stride != 1 else None
        parts.append(Residual(branch, shortcut, relu=True))
        before = filters
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


MOBILENET_V2_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""Sandler et al. 2018, table 2: expansion, filters, blocks, stride of the first."""


def mobilenet_v2() -> nn.Module:
    parts: list[nn.Module] = [normalised(3, 32, stride=2, relu=nn.ReLU6)]
    before = 32
    for expansion, filters, blocks, first in MOBILENET_V2_STAGES:
        for k in range(blocks):
            stride, wide = first if k == 0 else 1, before * expansion
            branch = [normalised(before, wide, 1, relu=nn.ReLU6)] if expansion > 1 else []
            branch.append(normalised(wide, wide, 3, stride, wide, relu=nn.ReLU6))
            branch.append(normalised(wide, filters, 1, relu=None))
            block: nn.Module = nn.Sequential(*branch)
            parts.append(
                Residual(block, None, relu=False) if stride == 1 and before == filters else block
            )
            before = filters
    parts.append(normalised(before, 1280, 1, relu=nn.ReLU6))
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


NETWORKS = {
    "Conv32-pool-Conv64-pool-Conv64": tutorial_cnn,
    "Conv64-pool-Conv32-pool": lambda: same_convolutions(True),
    "Conv64-Conv32": lambda: same_convolutions(False),
    "Conv32 5x5, Conv64 5x5, Dense 1000": large_windows,
    "Dense 32-32-10": lambda: nn.Sequential(nn.Flatten(), *dense(784, 32, 32)),
    "CIFAR, BN and dropout": cifar,
    "ResNet-18 32x32": resnet18,
    "MobileNetV2 224": mobilenet_v2,
}
"""By the names of the rows; they return logits."""


def optimizer_of(row: Row, module: nn.Module, rate: float) -> torch.optim.Optimizer:
    """With Keras' defaults."""
    options: dict[str, Any] = dict(row.options)
    defaults: dict[str, Any] = {"RMSprop": {"alpha": 0.9, "eps": 1e-7}, "Adam": {"eps": 1e-7}}
    kind: Any = getattr(torch.optim, row.optimizer)
    found: torch.optim.Optimizer = kind(
        module.parameters(), rate, **defaults.get(row.optimizer, {}), **options
    )
    return found

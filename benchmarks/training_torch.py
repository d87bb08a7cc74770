"""The networks of benchmarks.training_networks in PyTorch, channels_last, with as many parameters."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import training_networks as networks
from benchmarks.training_networks import RESNET18_BLOCKS, Row
from benchmarks.training_weights import kernels_of, take

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


class EveryOther(nn.Module):
    """The image without its first row and column: of the mirrored one, a stride of 2 then meets Keras' pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, 1:, 1:]


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
        projection = normalised(before, filters, 1, stride, relu=None)
        shortcut = nn.Sequential(EveryOther(), projection) if stride != 1 else None
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


def is_mirrored(row: Row) -> bool:
    """Whether a network has windows of stride 2, which Keras begins at the first pixel and torch one before it.

    Of the mirrored image torch's windows are Keras' windows: there the kernels are mirrored too.
    """
    return row.network in (networks.resnet18, networks.mobilenet_v2)


def as_given(row: Row, images: Any) -> Any:
    """The images [n, h, w, c] that the network in torch gets."""
    return np.ascontiguousarray(images[:, ::-1, ::-1]) if is_mirrored(row) else images


def network_of(row: Row, weights: list[Any]) -> nn.Module:
    """A row's network with the weights that Keras' network has. ValueError where they don't fit."""
    module = NETWORKS[row.name]()
    left = kernels_of(weights)
    channels = 0
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            channels = part.out_channels
            _set(part, _convolution(part, left, is_mirrored(row)))
        elif isinstance(part, nn.Linear):
            kernel = take(left, (part.in_features, part.out_features))
            _set(part, _after_flatten(kernel, channels).T)
            channels = 0
    if left:
        raise ValueError(f"{len(left)} weights are left over")
    return module


def _convolution(part: nn.Conv2d, left: list[Any], mirrored: bool) -> Any:
    """The kernel of a convolution as torch has it: [outputs, inputs, rows, columns]."""
    rows, columns = part.kernel_size
    grouped = part.groups > 1
    last = (part.in_channels, 1) if grouped else (part.in_channels, part.out_channels)
    kernel = take(left, (rows, columns, *last))
    kernel = kernel[::-1, ::-1] if mirrored else kernel
    return kernel.transpose((2, 3, 0, 1) if grouped else (3, 2, 0, 1))


def _after_flatten(kernel: Any, channels: int) -> Any:
    """A dense kernel whose rows are pixels x channels with its rows as channels x pixels."""
    if not channels or kernel.shape[0] == channels:
        return kernel
    apart = kernel.reshape(-1, channels, kernel.shape[1])
    return apart.transpose(1, 0, 2).reshape(kernel.shape)


def _set(part: nn.Conv2d | nn.Linear, kernel: Any) -> None:
    """Gives a layer its kernel, and zeros as its bias."""
    with torch.no_grad():
        part.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
        if part.bias is not None:
            part.bias.zero_()


def optimizer_of(row: Row, module: nn.Module, rate: float) -> torch.optim.Optimizer:
    """With Keras' defaults."""
    options: dict[str, Any] = dict(row.options)
    defaults: dict[str, Any] = {"RMSprop": {"alpha": 0.9, "eps": 1e-7}, "Adam": {"eps": 1e-7}}
    kind: Any = getattr(torch.optim, row.optimizer)
    found: torch.optim.Optimizer = kind(
        module.parameters(), rate, **defaults.get(row.optimizer, {}), **options
    )
    return found

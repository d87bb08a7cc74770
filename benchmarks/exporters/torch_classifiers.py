"""Image classifiers of the literature in PyTorch, written for their export: random weights, 1000 classes.

They follow the papers' tables, with the attribute-free idioms of torchvision (functional pooling, residual sums,
channel shuffles by view and transpose), which is what its users export.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 1000


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:  # fmt: skip
    """A convolution that keeps the size (but for its stride), a batch norm and an activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([activation] if activation else []))


class Residual(nn.Module):
    """body(x) + shortcut(x), activated."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.activation = body, shortcut, activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.body(x) + self.shortcut(x))


class Pooled(nn.Module):
    """Features, their mean over the image, and a head."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.head(torch.flatten(x, 1))


# ResNet (He et al. 2015)


def bottleneck(inputs: int, width: int, stride: int) -> Residual:
    body = nn.Sequential(
        conv_bn(inputs, width, 1, activation=nn.ReLU(inplace=True)),
        conv_bn(width, width, 3, stride, activation=nn.ReLU(inplace=True)),
        conv_bn(width, 4 * width, 1),
    )
    same = stride == 1 and inputs == 4 * width
    shortcut = nn.Identity() if same else conv_bn(inputs, 4 * width, 1, stride)
    return Residual(body, shortcut, nn.ReLU(inplace=True))


def resnet50() -> nn.Module:
    layers: list[nn.Module] = [
        conv_bn(3, 64, 7, 2, activation=nn.ReLU(inplace=True)),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        for k in range(count):
            layers.append(bottleneck(inputs, 64 << stage, 2 if k == 0 and stage else 1))
            inputs = 256 << stage
    return Pooled(nn.Sequential(*layers), nn.Linear(inputs, CLASSES))


# MobileNetV3-Large (Howard et al. 2019), EfficientNet-B0 (Tan and Le 2019)


class SqueezeExcite(nn.Module):
    """x scaled per channel by what its means say."""

    def __init__(
        self, channels: int, squeezed: int, activation: nn.Module, gate: nn.Module
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.activation, self.gate = activation, gate

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc2(self.activation(self.fc1(self.pool(x))))
        return self.gate(scale) * x


class Inverted(nn.Module):
    """Expansion, depthwise convolution, squeeze-and-excite, projection; a residual where shapes allow."""

    def __init__(
        self, inputs: int, expanded: int, outputs: int, kernel: int, stride: int,
        activation: type[nn.Module], excite: nn.Module | None,
    ) -> None:  # fmt: skip
        super().__init__()
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(conv_bn(inputs, expanded, 1, activation=activation()))
        layers.append(conv_bn(expanded, expanded, kernel, stride, expanded, activation()))
        if excite is not None:
            layers.append(excite)
        layers.append(conv_bn(expanded, outputs, 1))
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return x + y if self.residual else y


MOBILENET_V3 = (
    # kernel, expanded, outputs, excite, activation, stride
    (3, 16, 16, False, nn.ReLU, 1), (3, 64, 24, False, nn.ReLU, 2), (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2), (5, 120, 40, True, nn.ReLU, 1), (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2), (3, 200, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1), (3, 184, 80, False, nn.Hardswish, 1),
    (3, 480, 112, True, nn.Hardswish, 1), (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2), (5, 960, 160, True, nn.Hardswish, 1),
    (5, 960, 160, True, nn.Hardswish, 1),
)  # fmt: skip


def mobilenet_v3_large() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 16, 3, 2, activation=nn.Hardswish())]
    inputs = 16
    for kernel, expanded, outputs, excited, activation, stride in MOBILENET_V3:
        squeezed = (expanded // 4 + 7) // 8 * 8
        excite = SqueezeExcite(expanded, squeezed, nn.ReLU(), nn.Hardsigmoid()) if excited else None
        layers.append(Inverted(inputs, expanded, outputs, kernel, stride, activation, excite))
        inputs = outputs
    layers.append(conv_bn(inputs, 960, 1, activation=nn.Hardswish()))
    head = nn.Sequential(
        nn.Linear(960, 1280), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(1280, CLASSES)
    )
    return Pooled(nn.Sequential(*layers), head)


EFFICIENTNET_B0 = (
    # expansion, kernel, stride, outputs, repeats
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip


def efficientnet_b0() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2, activation=nn.SiLU())]
    inputs = 32
    for expansion, kernel, stride, outputs, repeats in EFFICIENTNET_B0:
        for k in range(repeats):
            expanded = inputs * expansion
            excite = SqueezeExcite(expanded, max(1, inputs // 4), nn.SiLU(), nn.Sigmoid())
            pace = stride if k == 0 else 1
            layers.append(Inverted(inputs, expanded, outputs, kernel, pace, nn.SiLU, excite))
            inputs = outputs
    layers.append(conv_bn(inputs, 1280, 1, activation=nn.SiLU()))
    head = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, CLASSES))
    return Pooled(nn.Sequential(*layers), head)


# SqueezeNet 1.1 (Iandola et al. 2016)


class Fire(nn.Module):
    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.small = nn.Conv2d(squeezed, expanded, 1)
        self.large = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.squeeze(x))
        return torch.cat([functional.relu(self.small(x)), functional.relu(self.large(x))], 1)


def squeezenet() -> nn.Module:
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    features = nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool, Fire(64, 16, 64), Fire(128, 16, 64), pool,
        Fire(128, 32, 128), Fire(256, 32, 128), pool, Fire(256, 48, 192), Fire(384, 48, 192),
        Fire(384, 64, 256), Fire(512, 64, 256), nn.Dropout(0.5), nn.Conv2d(512, CLASSES, 1),
        nn.ReLU(),
    )  # fmt: skip
    return Pooled(features, nn.Identity())


# ShuffleNetV2 x1.0 (Ma et al. 2018)


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channels of the groups in turn."""
    n, c, h, w = x.size()
    x = x.view(n, groups, c // groups, h, w)
    return torch.transpose(x, 1, 2).contiguous().view(n, c, h, w)


class ShuffleUnit(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        self.left = nn.Identity() if stride == 1 else nn.Sequential(
            conv_bn(inputs, inputs, 3, stride, inputs), conv_bn(inputs, half, 1, activation=nn.ReLU())
        )  # fmt: skip
        start = half if stride == 1 else inputs
        self.right = nn.Sequential(
            conv_bn(start, half, 1, activation=nn.ReLU()),
            conv_bn(half, half, 3, stride, half),
            conv_bn(half, half, 1, activation=nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1) if self.stride == 1 else (x, x)
        return shuffled(torch.cat((self.left(a), self.right(b)), dim=1), 2)


def shufflenet_v2() -> nn.Module:
    layers: list[nn.Module] = [
        conv_bn(3, 24, 3, 2, activation=nn.ReLU()),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = 24
    for outputs, repeats in ((116, 4), (232, 8), (464, 4)):
        layers.append(ShuffleUnit(inputs, outputs, 2))
        layers += [ShuffleUnit(outputs, outputs, 1) for _ in range(repeats - 1)]
        inputs = outputs
    layers.append(conv_bn(inputs, 1024, 1, activation=nn.ReLU()))
    return Pooled(nn.Sequential(*layers), nn.Linear(1024, CLASSES))


# DenseNet-121 (Huang et al. 2016)


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), conv_bn(inputs, 4 * growth, 1, activation=nn.ReLU()),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet121() -> nn.Module:
    layers: list[nn.Module] = [
        conv_bn(3, 64, 7, 2, activation=nn.ReLU()),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for stage, count in enumerate((6, 12, 24, 16)):
        if stage:
            layers += [
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Conv2d(channels, channels // 2, 1, bias=False),
            ]
            layers += [nn.AvgPool2d(2, 2)]
            channels //= 2
        for _ in range(count):
            layers.append(DenseLayer(channels, 32))
            channels += 32
    layers += [nn.BatchNorm2d(channels), nn.ReLU()]
    return Pooled(nn.Sequential(*layers), nn.Linear(channels, CLASSES))


# ConvNeXt-T (Liu et al. 2022), ViT-Ti (Dosovitskiy et al. 2020)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of NCHW, as torchvision's LayerNorm2d."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.wide, self.narrow = (
            nn.Linear(channels, 4 * channels),
            nn.Linear(4 * channels, channels),
        )
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.narrow(functional.gelu(self.wide(y)))
        return x + self.scale * y.permute(0, 3, 1, 2)


def convnext_tiny() -> nn.Module:
    widths = (96, 192, 384, 768)
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), ChannelNorm(96, eps=1e-6)]
    for stage, count in enumerate((3, 3, 9, 3)):
        if stage:
            before = widths[stage - 1]
            layers += [ChannelNorm(before, eps=1e-6), nn.Conv2d(before, widths[stage], 2, 2)]
        layers += [ConvNeXtBlock(widths[stage]) for _ in range(count)]
    head = nn.Sequential(nn.LayerNorm(768, eps=1e-6), nn.Linear(768, CLASSES))
    return Pooled(nn.Sequential(*layers), head)


class Attention(nn.Module):
    """Self-attention written out, as timm has it without its fused form."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(n, t, c))


class FusedAttention(Attention):
    """The same through scaled_dot_product_attention."""

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(n, t, c))


class Encoder(nn.Module):
    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = (FusedAttention if fused else Attention)(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """ViT-Ti/16 on 224 x 224 images."""

    def __init__(
        self, width: int = 192, heads: int = 3, depth: int = 12, fused: bool = False
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.position = nn.Parameter(torch.randn(1, 197, width) * 0.1)
        self.blocks = nn.Sequential(*(Encoder(width, heads, fused) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


def vit() -> nn.Module:
    return VisionTransformer()


def vit_fused() -> nn.Module:
    return VisionTransformer(fused=True)

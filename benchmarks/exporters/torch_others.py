"""Networks beyond classification in PyTorch: segmentation, detection, super-resolution, sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.exporters.torch_classifiers import conv_bn

# ---------------------------------------------------------------- U-Net (Ronneberger et al. 2015)


def double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        conv_bn(inputs, outputs, 3, activation=nn.ReLU()),
        conv_bn(outputs, outputs, 3, activation=nn.ReLU()),
    )


class UNet(nn.Module):
    """On 256 x 256 images, 32 to 256 channels; the way up is transposed convolutions or bilinear resizing."""

    def __init__(self, resize: bool = False) -> None:
        super().__init__()
        widths = (32, 64, 128, 256)
        self.down = nn.ModuleList(double(i, o) for i, o in zip((3, *widths), widths, strict=False))
        self.rise = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(2 * w, w, 1)) if resize
            else nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[-2::-1]
        )  # fmt: skip
        self.up = nn.ModuleList(double(2 * w, w) for w in widths[-2::-1])
        self.head = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skipped = []
        for k, stage in enumerate(self.down):
            x = stage(functional.max_pool2d(x, 2) if k else x)
            skipped.append(x)
        skipped.pop()
        for rise, stage in zip(self.rise, self.up, strict=True):
            x = stage(torch.cat([skipped.pop(), rise(x)], 1))
        return self.head(x)


def unet() -> nn.Module:
    return UNet()


def unet_resize() -> nn.Module:
    return UNet(resize=True)


# ---------------------------------------------------------------- a detector in the manner of YOLOv5n (Jocher 2020)


class CSP(nn.Module):
    """Cross-stage partial block: residual bottlenecks beside a short cut."""

    def __init__(self, inputs: int, outputs: int, count: int, residual: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.first, self.second = (conv_bn(inputs, half, 1, activation=nn.SiLU()) for _ in range(2))
        self.last = conv_bn(2 * half, outputs, 1, activation=nn.SiLU())
        self.body = nn.ModuleList(
            nn.Sequential(
                conv_bn(half, half, 1, activation=nn.SiLU()),
                conv_bn(half, half, 3, activation=nn.SiLU()),
            )
            for _ in range(count)
        )
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        for block in self.body:
            y = y + block(y) if self.residual else block(y)
        return self.last(torch.cat((y, self.second(x)), 1))


class PyramidPool(nn.Module):
    """Max pools of growing reach, side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_bn(channels, channels // 2, 1, activation=nn.SiLU())
        self.last = conv_bn(2 * channels, channels, 1, activation=nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(functional.max_pool2d(parts[-1], 5, 1, 2))
        return self.last(torch.cat(parts, 1))


class Detect(nn.Module):
    """Boxes of three anchors per cell from three maps: [n, cells, 5 + classes]."""

    anchors: Tensor

    def __init__(self, classes: int, inputs: tuple[int, ...]) -> None:
        super().__init__()
        self.fields = classes + 5
        self.convs = nn.ModuleList(nn.Conv2d(i, 3 * self.fields, 1) for i in inputs)
        sizes = torch.tensor(
            [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]]
        )
        self.register_buffer("anchors", sizes.float().view(3, 1, 3, 1, 1, 2))

    def forward(self, maps: list[Tensor]) -> Tensor:
        found = []
        for k, x in enumerate(maps):
            stride = 8.0 * 2**k
            n, _, h, w = (y := self.convs[k](x)).shape
            y = y.view(n, 3, self.fields, h, w).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
            rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            grid = torch.stack((columns, rows), 2).expand(1, 3, h, w, 2).to(y.dtype)
            place, size, rest = y.split((2, 2, self.fields - 4), 4)
            place = (place * 2.0 - 0.5 + grid) * stride
            size = (size * 2) ** 2 * self.anchors[k]
            found.append(torch.cat((place, size, rest), 4).view(n, -1, self.fields))
        return torch.cat(found, 1)


class Yolo(nn.Module):
    """On 320 x 320 images, 80 classes."""

    def __init__(self) -> None:
        super().__init__()

        def step(i: int, o: int, k: int = 3, s: int = 2) -> nn.Sequential:
            return conv_bn(i, o, k, s, activation=nn.SiLU())

        self.stem = nn.Sequential(step(3, 16), step(16, 32), CSP(32, 32, 1))
        self.p3 = nn.Sequential(step(32, 64), CSP(64, 64, 2))
        self.p4 = nn.Sequential(step(64, 128), CSP(128, 128, 3))
        self.p5 = nn.Sequential(step(128, 256), CSP(256, 256, 1), PyramidPool(256))
        self.lateral5, self.lateral4 = step(256, 128, 1, 1), step(128, 64, 1, 1)
        self.top4, self.top3 = CSP(256, 128, 1, False), CSP(128, 64, 1, False)
        self.down3, self.down4 = step(64, 64), step(128, 128)
        self.out4, self.out5 = CSP(128, 128, 1, False), CSP(256, 256, 1, False)
        self.detect = Detect(80, (64, 128, 256))

    def forward(self, x: Tensor) -> Tensor:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        l5 = self.lateral5(self.p5(p4))
        t4 = self.top4(
            torch.cat((functional.interpolate(l5, scale_factor=2.0, mode="nearest"), p4), 1)
        )
        l4 = self.lateral4(t4)
        t3 = self.top3(
            torch.cat((functional.interpolate(l4, scale_factor=2.0, mode="nearest"), p3), 1)
        )
        n4 = self.out4(torch.cat((self.down3(t3), l4), 1))
        n5 = self.out5(torch.cat((self.down4(n4), l5), 1))
        return self.detect([t3, n4, n5])


def yolo() -> nn.Module:
    return Yolo()


# ---------------------------------------------------------------- ESPCN (Shi et al. 2016)


def espcn() -> nn.Module:
    """Three times the size of 1 x 128 x 128 images."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 5, padding=2), nn.Tanh(), nn.Conv2d(64, 32, 3, padding=1), nn.Tanh(),
        nn.Conv2d(32, 9, 3, padding=1), nn.PixelShuffle(3),
    )  # fmt: skip


# ---------------------------------------------------------------- sequences


class SequenceClassifier(nn.Module):
    """Embedded tokens [n, t] through a two-layer bidirectional LSTM or GRU; ten classes from the last states."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(2000, 128)
        self.recurrent = kind(128, 128, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(256, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        _, state = self.recurrent(self.embedding(tokens))
        hidden = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat((hidden[-2], hidden[-1]), 1))


def lstm() -> nn.Module:
    return SequenceClassifier(nn.LSTM)


def gru() -> nn.Module:
    return SequenceClassifier(nn.GRU)


class TransformerClassifier(nn.Module):
    """nn.TransformerEncoder on embedded tokens [n, t], causal, pooled by mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(2000, 128)
        layer = nn.TransformerEncoderLayer(
            128, 4, 512, batch_first=True, activation="gelu", norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(128, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.encoder(self.embedding(tokens))
        return self.head(x.mean(dim=1))


def transformer() -> nn.Module:
    return TransformerClassifier()

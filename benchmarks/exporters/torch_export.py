"""The PyTorch networks through both of its exporters, with a dynamic batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.exporters import torch_classifiers as classifiers
from benchmarks.exporters import torch_others as others
from benchmarks.exporters.make import SEED, keep


@dataclass(frozen=True)
class Network:
    """How a network is built, and the shape of its input without the batch; tokens are int64."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, 224, 224)
    tokens: bool = False

    def image(self, batch: int) -> Any:
        if self.tokens:
            return torch.randint(0, 2000, (batch, *self.shape))
        return torch.randn(batch, *self.shape)


NETWORKS: dict[str, Network] = {
    "resnet50": Network(classifiers.resnet50),
    "mobilenet_v3": Network(classifiers.mobilenet_v3_large),
    "squeezenet": Network(classifiers.squeezenet),
    "shufflenet_v2": Network(classifiers.shufflenet_v2),
    "efficientnet_b0": Network(classifiers.efficientnet_b0),
    "densenet121": Network(classifiers.densenet121),
    "convnext_tiny": Network(classifiers.convnext_tiny),
    "vit": Network(classifiers.vit),
    "vit_fused": Network(classifiers.vit_fused),
    "unet": Network(others.unet, (3, 256, 256)),
    "unet_resize": Network(others.unet_resize, (3, 256, 256)),
    "yolo": Network(others.yolo, (3, 320, 320)),
    "espcn": Network(others.espcn, (1, 128, 128)),
    "lstm": Network(others.lstm, (48,), tokens=True),
    "gru": Network(others.gru, (48,), tokens=True),
    "transformer": Network(others.transformer, (64,), tokens=True),
}


def built(name: str) -> tuple[nn.Module, Any]:
    """A network with random weights, batch norms' statistics of random images, and a batch of one."""
    torch.manual_seed(SEED)
    network = NETWORKS[name]
    model = network.build()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.5, 0.3)
    if norms:
        with torch.no_grad():
            model.train()(network.image(4))
    return model.eval(), network.image(1)


def outputs_of(model: nn.Module, x: Any) -> list[Any]:
    with torch.no_grad():
        y = model(x)
    return [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]


def by_dynamo(path: Path, name: str) -> None:
    """Through torch.export, with a batch that is symbolic."""
    model, x = built(name)
    example = torch.cat([x, x])  # a batch of one would be specialised
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.onnx.export(
        model, (example,), str(path), dynamo=True, dynamic_shapes=({0: batch},), verbose=False,
        external_data=False,
    )  # fmt: skip
    keep(path, [x.numpy()], outputs_of(model, x))


def by_script(path: Path, name: str) -> None:
    """Through TorchScript, the older exporter."""
    model, x = built(name)
    torch.onnx.export(
        model, (x,), str(path), dynamo=False, input_names=["x"], output_names=["y"],
        dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}}, opset_version=17,
    )  # fmt: skip
    keep(path, [x.numpy()], outputs_of(model, x))

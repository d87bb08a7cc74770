"""The engines: how each prepares a network, and how it loads and runs it. All compute in float32."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import convc_runtime
import numpy as np

ONNX_FILE = "network.onnx"
Run = Callable[[], Any]


@dataclass(frozen=True)
class Contender:
    """An engine. `load(folder, threads, image)` returns what runs the network on the image once.

    `isa` are environment variables that keep it to an instruction set, for which others have no setting.
    """

    name: str
    packages: tuple[str, ...]
    load: Callable[[Path, int, Any], Run]
    channels_first: bool = True
    prepare: Callable[[Path, tuple[int, ...]], None] | None = None
    isa: tuple[str, ...] = ()

    @property
    def missing(self) -> str | None:
        """The package that it lacks here."""
        return next((p for p in self.packages if importlib.util.find_spec(p) is None), None)

    @property
    def version(self) -> str:
        try:
            return importlib.metadata.version(self.packages[0].replace("_", "-"))
        except importlib.metadata.PackageNotFoundError:
            return "from its source"


def load_convc(folder: Path, threads: int, image: Any) -> Run:
    model = convc_runtime.load(folder / "network.cvc", threads)
    return lambda: model(image)


def load_onnxruntime(folder: Path, threads: int, image: Any) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        str(folder / ONNX_FILE), options, providers=["CPUExecutionProvider"]
    )
    feed = {session.get_inputs()[0].name: image}
    return lambda: session.run(None, feed)[0]


def load_openvino(folder: Path, threads: int, image: Any) -> Run:
    import openvino

    core = openvino.Core()
    network = core.read_model(str(folder / ONNX_FILE))
    network.reshape(list(image.shape))
    # Without the hint OpenVINO computes in bfloat16 where the machine has it.
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(image, shared_memory=True))

    def run() -> Any:
        request.infer()
        return request.get_output_tensor(0).data

    return run


def prepare_ncnn(folder: Path, shape: tuple[int, ...]) -> None:
    """Converts the ONNX file by pnnx, for one image (ncnn has no batches), keeping float32 weights."""
    shape = (1, *shape[1:])
    beside = Path(sys.executable).with_name("pnnx")
    tool = str(beside) if beside.exists() else shutil.which("pnnx")
    if tool is None:
        raise FileNotFoundError("the command pnnx")
    shown = ",".join(map(str, shape))
    command = [tool, ONNX_FILE, f"inputshape=[{shown}]", "fp16=0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode or not (folder / "network.ncnn.param").exists():
        raise ValueError(f"pnnx could not convert it: {(done.stdout + done.stderr)[-300:]}")


def load_ncnn(folder: Path, threads: int, image: Any) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = net.opt.use_vulkan_compute = False
    net.load_param(str(folder / "network.ncnn.param"))
    net.load_model(str(folder / "network.ncnn.bin"))
    sources = [ncnn.Mat(np.ascontiguousarray(one)) for one in image]
    first, last = net.input_names()[0], net.output_names()[0]

    def infer(source: Any) -> Any:
        with net.create_extractor() as extractor:
            extractor.input(first, source)
            return np.array(extractor.extract(last)[1])

    return lambda: [infer(source) for source in sources]


CONTENDERS: dict[str, Contender] = {
    c.name: c
    for c in (
        Contender("convc", ("convc_runtime",), load_convc, channels_first=False),
        Contender("onnxruntime", ("onnxruntime",), load_onnxruntime),
        # oneDNN's own kernels heed the first, OpenVINO's the second.
        Contender(
            "openvino",
            ("openvino",),
            load_openvino,
            isa=("ONEDNN_MAX_CPU_ISA", "OV_CPU_MAX_ISA"),
        ),
        Contender("ncnn", ("ncnn", "pnnx"), load_ncnn, prepare=prepare_ncnn),
    )
}


ISAS = {"avx2": "x86-64-avx2"}
"""Instruction sets that contenders may be kept to, with convc's target."""


def environment(threads: int, contender: str = "", isa: str = "") -> dict[str, str]:
    """The variables of a process that runs one contender: OpenMP must not take more threads than asked."""
    limits = CONTENDERS[contender].isa if isa else ()
    return os.environ | {"OMP_NUM_THREADS": str(threads)} | dict.fromkeys(limits, isa.upper())

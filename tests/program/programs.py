"""A small program that the tests print, break and run: y = (x + 1) * w through an arena region with a border."""

from __future__ import annotations

import numpy as np

from convc.program.ir import Program
from convc.program.parser import parse_program

TEXT = """program two {
  workspace 64*N bytes
  input "x": 16*N bytes
  arena "t": 24*N bytes at 0
  weight "w": 16 bytes at 0
  output "y": 16*N bytes
  entry predict(x: float32[N, 4] in "x") -> (y: float32[N, 4] in "y") {
    edge("t")
    copy("x", "t")
    "y" = scale("t", "w", "y") from "scale"
  } }
kernel copy(in x: float32[N, 4], out t: float32[N, 4] @(d0, d1) border(0:0, 1:1)) {
  for n in N { for i in 4 { t[n, i] = x[n, i] + 1.0 } } }
kernel edge(out t: float32[N, 4] @(d0, d1) border(0:0, 1:1)) {
  for n in N { t[n, -1] = 0.0 t[n, 4] = 0.0 } }
kernel scale(
  in t: float32[N, 4] @(d0, d1) border(0:0, 1:1), in w: float32[4] constant, out y: float32[N, 4]
) { for n in N { for i in 4 { y[n, i] = (t[n, i - 1] + t[n, i + 1]) * w[i] } } }
"""


def parsed(text: str) -> Program:
    return parse_program(text, weights={"w": np.array([1, 2, 3, 4], np.float32)})


def two_layers() -> Program:
    return parsed(TEXT)

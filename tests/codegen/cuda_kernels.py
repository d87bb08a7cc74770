"""Small kernels that together use every kind of node, for the CUDA generator's tests."""

from __future__ import annotations

from pathlib import Path

from convc.loops.ir import Kernel
from convc.loops.parser import parse_kernel

HAND_WRITTEN = Path(__file__).parents[1] / "loops" / "kernels"

TEXTS = [
    """kernel floats(in x: float32[N, 7], in y: float32[N, 7], out z: float32[N, 7, 6], out flags: bool[N, 7]) {
      for b in (N * 7 + 31) // 32 block_x {
        for t in 32 thread_x {
          let f: int64 = b * 32 + t
          if f < N * 7 {
            let p: float32 = x[f // 7, f % 7]
            let q: float32 = y[f // 7, f % 7]
            z[f // 7, f % 7, 0] = p - (q - p * 0.1) / (p + 2.5)
            z[f // 7, f % 7, 1] = fma(min(p, q), max(p, q), -1e-10)
            z[f // 7, f % 7, 2] = sqrt(abs(p)) + floor(q) * ceil(p) - round(q) + trunc(p)
            z[f // 7, f % 7, 3] = select((p < q) & (q != 0.0), p, inf)
            z[f // 7, f % 7, 4] = bitcast(bitcast(p, int32) ^ 255i32, float32)
            z[f // 7, f % 7, 5] = select(isnan(q / q) | isinf(p / q), 0.0 - p, q / (q + p * q))
            flags[f // 7, f % 7] = (p <= q) ^ (floor(p) == p)
          }
        }
      }
    }""",
    """kernel casts(in x: float32[40], out a: int8[40], out b: uint8[40], out c: int32[40], out d: int64[40],
                    out e: float16[40], out f: bfloat16[40], out g: float64[40], out h: uint64[40], out k: bool[40]) {
      for i in 40 thread_x {
        a[i] = int8(x[i])
        b[i] = uint8(x[i])
        c[i] = int32(x[i])
        d[i] = int64(x[i])
        e[i] = float16(x[i]) * float16(x[i]) + 0.5f16
        f[i] = max(bfloat16(x[i]) / 3.0bf16, bfloat16(int32(x[i])))
        g[i] = float64(float16(float64(x[i]) * 1.0000000001f64)) - float64(bfloat16(x[i]))
        h[i] = uint64(x[i]) * 3u64
        k[i] = bool(x[i]) & (float16(x[i]) < 2.0f16)
      }
    }""",
    """kernel integers(in x: int8[64], in y: int32[64], out a: int8[64], out b: int32[64], out c: uint8[64],
                       out d: int64[64], out e: uint32[64]) {
      for o in 2 block_x {
        for i in 32 thread_x {
          a[o * 32 + i] = x[o * 32 + i] * 3i8 - (x[o * 32 + i] >> 1i8)
          b[o * 32 + i] = (y[o * 32 + i] * 1103515245i32 + 12345i32) // 7i32 + (y[o * 32 + i] % -5i32)
          c[o * 32 + i] = uint8(x[o * 32 + i]) + (uint8(x[o * 32 + i]) << 3u8) | 1u8
          d[o * 32 + i] = int64(x[o * 32 + i]) // 5 * 100 + int64(x[o * 32 + i]) % 5
          e[o * 32 + i] = uint32(y[o * 32 + i]) // 3u32 ^ max(uint32(y[o * 32 + i]), 2147483649u32)
        }
      }
    }""",
    """kernel layouts(in x: float32[2, 20, 3, 5] @(d0, d1/8, d2, d3, d1%8) border(0:0, 0:0, 1:1, 1:1),
                      out y: float32[2, 20, 3, 5] @(d0, d2, d3, d1:24)) {
      for n in 2 block_z {
        for i in 3 block_y {
          for c in 20 thread_x {
            for j in 5 unrolled {
              y[n, c, i, j] = x[n, c, i - 1, j] + x[n, c, i, j + 1]
            }
          }
        }
      }
    }""",
    """kernel transpose(in x: float32[33, 18], out y: float32[18, 33]) {
      for bi in 3 block_y {
        for bj in 2 block_x {
          alloc tile: float32[16, 16] @(d0, d1:17) shared
          for ti in 16 thread_y {
            for tj in 16 thread_x {
              if (bi * 16 + ti < 33) & (bj * 16 + tj < 18) {
                tile[ti, tj] = x[bi * 16 + ti, bj * 16 + tj]
              }
              barrier
              if (bi * 16 + tj < 33) & (bj * 16 + ti < 18) {
                y[bj * 16 + ti, bi * 16 + tj] = tile[tj, ti]
              }
            }
          }
        }
      }
    }""",
    """kernel phases(in x: float32[6, 64], out y: float32[6]) {
      for r in 6 block_x {
        alloc part: float32[64] shared
        for t in 64 thread_x { part[t] = x[r, t] }
        for s in 6 {
          for t in 64 thread_x {
            if (t % (2 << s) == 0) & (t + (1 << s) < 64) { part[t] = part[t] + part[t + (1 << s)] }
          }
        }
        for u in 1 thread_x { y[r] = part[u] }
      }
    }""",
    """kernel tasks(in x: float64[3, 4], out y: float64[3, 4]) {
      for i in 3 parallel {
        for j in 4 parallel {
          alloc pair: float64[2] stack
          for l in 2 vectorized { pair[l] = x[i, j] + float64(l) }
          y[i, j] = pair[0] * pair[1]
        }
      }
    }""",
    """kernel warps(in x: float32[2, 64], inout total: int32[1], out y: float32[2, 64]) {
      for b in 2 block_x {
        for t in 64 thread_x {
          alloc mine: float32[1] register
          alloc other: float32[1] register
          alloc one: int32[1] register
          one[0] = 1i32
          mine[0] = x[b, t]
          do prefetch(x[b +: 1, t +: 1])
          do shuffle_xor_16(other[0 +: 1], mine[0 +: 1])
          mine[0] = mine[0] + other[0]
          do shuffle_xor_1(other[0 +: 1], mine[0 +: 1])
          barrier(warp)
          y[b, t] = mine[0] - other[0] * 0.5
          do atomic_add(total[0 +: 1], one[0 +: 1])
        }
      }
    }""",
    """kernel dynamic(in x: float32[2, 128, 100], out y: float32[2, 100]) {
      for b in 2 block_x {
        alloc rows: float32[128, 100] shared
        alloc sums: float64[100] shared
        for t in 128 thread_x {
          for j in 100 { rows[t, j] = x[b, t, j] }
          barrier
          if t < 100 {
            sums[t] = 0.0f64
            for i in 128 { sums[t] = sums[t] + float64(rows[i, t]) }
            y[b, t] = float32(sums[t])
          }
        }
      }
    }""",
    """kernel gather(in index: int64[9], in double: float32[N], out y: float32[9]) {
      for auto in 9 thread_x {
        y[auto] = select((0 <= index[auto]) & (index[auto] < N), double[index[auto]], -1.0)
      }
    }""",
    """kernel nothing(in x: float32[N], out y: float32[N]) {
      for b in N // 4 block_x { for t in 4 thread_x { y[b * 4 + t] = x[b * 4 + t] } }
    }""",
]

KERNELS: dict[str, Kernel] = {k.name: k for k in map(parse_kernel, TEXTS)} | {
    p.stem: parse_kernel(p.read_text()) for p in sorted(HAND_WRITTEN.glob("*.kernel"))
}

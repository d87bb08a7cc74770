"""The C++ helper functions that generated CUDA source may need, each emitted only where it is called."""

from __future__ import annotations

from convc.loops.intrinsics import IntrinsicInfo
from convc.types import DType

C_TYPES = {
    DType.float64: "double",
    DType.float32: "float",
    DType.bfloat16: "__nv_bfloat16",
    DType.float16: "__half",
    DType.int64: "int64_t",
    DType.int32: "int32_t",
    DType.int16: "int16_t",
    DType.int8: "int8_t",
    DType.uint64: "uint64_t",
    DType.uint32: "uint32_t",
    DType.uint16: "uint16_t",
    DType.uint8: "uint8_t",
    DType.bool: "bool",
}

_FLOOR_DIV = """\
template <class T> __host__ __device__ __forceinline__ T convc_floor_div(T a, T b) {
  const T q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}
"""

_FLOOR_MOD = """\
template <class T> __host__ __device__ __forceinline__ T convc_floor_mod(T a, T b) {
  const T r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
"""

_MIN = """\
// NaN if either is NaN; the first of two equals.
template <class T>
__host__ __device__ __forceinline__ T convc_min(T a, T b) { return b < a || b != b ? b : a; }
"""

_MAX = """\
// NaN if either is NaN; the first of two equals.
template <class T>
__host__ __device__ __forceinline__ T convc_max(T a, T b) { return b > a || b != b ? b : a; }
"""

_SATURATE = """\
// Float to integer, towards zero; what doesn't fit becomes the nearest bound, NaN becomes 0.
template <class To, class From> __device__ __forceinline__ To convc_saturate(From x) {
  using Limits = std::numeric_limits<To>;
  constexpr To highest = To(~(~uint64_t(0) << (Limits::digits - 1) << 1)), lowest = To(-highest - 1);
  constexpr From limit = From(2) * From(uint64_t(1) << (Limits::digits - 1));
  return x != x ? To(0) : x >= limit ? highest : x <= From(lowest) ? lowest : To(x);
}
"""

_BITCAST = """\
template <class To, class From> __device__ __forceinline__ To convc_bitcast(From x) {
  static_assert(sizeof(To) == sizeof(From), "a bitcast keeps the size");
  To result;
  memcpy(&result, &x, sizeof(To));
  return result;
}
"""

_PACK = """\
template <class T, int width> struct convc_pack { T lane[width]; };
template <int width, class T> __device__ __forceinline__ convc_pack<T, width> convc_load(const T *from) {
  convc_pack<T, width> result;
#pragma unroll
  for (int i = 0; i < width; ++i) result.lane[i] = from[i];
  return result;
}
"""

_DOT_INTEGER = """\
template <class A, class B>
__device__ __forceinline__ int32_t convc_dot(int32_t acc, convc_pack<A, 4> a, convc_pack<B, 4> b) {
  uint32_t sum = static_cast<uint32_t>(acc);
#pragma unroll
  for (int i = 0; i < 4; ++i) sum += static_cast<uint32_t>(int32_t(a.lane[i]) * int32_t(b.lane[i]));
  return static_cast<int32_t>(sum);
}
"""

_DOT_BF16 = """\
// The odd element first, each product fused into the sum.
__device__ __forceinline__ float convc_dot_bf16(
    float acc, convc_pack<__nv_bfloat16, 2> a, convc_pack<__nv_bfloat16, 2> b) {
  acc = fmaf(__bfloat162float(a.lane[1]), __bfloat162float(b.lane[1]), acc);
  return fmaf(__bfloat162float(a.lane[0]), __bfloat162float(b.lane[0]), acc);
}
"""

# In the order of emission: a helper may use those before it.
HELPERS = {
    "convc_floor_div": _FLOOR_DIV,
    "convc_floor_mod": _FLOOR_MOD,
    "convc_min": _MIN,
    "convc_max": _MAX,
    "convc_saturate": _SATURATE,
    "convc_bitcast": _BITCAST,
    "convc_pack": _PACK,
    "convc_dot": _DOT_INTEGER,
    "convc_dot_bf16": _DOT_BF16,
}

# A hook for a host check, which brings its own definition.
DYNAMIC_SHARED = """\
#ifdef __CUDACC__
__device__ __forceinline__ unsigned char *convc_dynamic_shared() {
  extern __shared__ __align__(128) unsigned char convc_shared_memory[];
  return convc_shared_memory;
}
#endif
"""


def intrinsic_function(info: IntrinsicInfo, dtypes: tuple[DType, ...]) -> str:
    """The device function of a special instruction, for operands of the given dtypes."""
    params = ", ".join(
        f"{'' if i in info.written else 'const '}{C_TYPES[dtype]} *{operand.name}"
        for i, (operand, dtype) in enumerate(zip(info.operands, dtypes, strict=True))
    )
    body = "\n".join(f"  {line}" for line in info.text["cuda"].splitlines())
    return f"__device__ __forceinline__ void convc_{info.name}({params}) {{\n{body}\n}}\n"

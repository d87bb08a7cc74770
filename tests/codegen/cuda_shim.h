// Runs generated CUDA source on the host, so that its arithmetic is checked without a GPU.
//
// Blocks run one after another in shuffled order. The threads of a block are fibers; between two places where
// threads meet they run in shuffled order. Copies by cp.async land when they are waited for. Threads that can't
// meet (a barrier that some never reach, a warp instruction without all of its lanes) end the program.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#else
inline void __sanitizer_start_switch_fiber(void **, const void *, size_t) {}
inline void __sanitizer_finish_switch_fiber(void *, const void **, size_t *) {}
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(n)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline dim3 threadIdx, blockIdx;

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
using cudaStream_t = struct Stream *;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};
template <class Kernel> cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int) { return cudaSuccess; }

namespace shim {

[[noreturn]] inline void fail(const std::string &what) {
  std::fprintf(stderr, "cuda shim: %s\n", what.c_str());
  std::abort();
}

inline unsigned char *allocate(size_t size) {
  void *place = nullptr;
  if (posix_memalign(&place, 128, size)) fail("no memory");
  return static_cast<unsigned char *>(place);
}

inline std::mt19937 generator;
inline unsigned char *dynamic_shared;

enum class State { ready, barrier, warp, done };

struct Copy {
  void *to;
  unsigned char bytes[16];
};

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 17);
  void *fake_stack = nullptr;
  unsigned rank = 0;
  dim3 index;
  State state = State::done;
  std::string call;                    // the warp instruction that it waits in
  std::vector<void *> args;            // and its operands
  std::vector<std::vector<Copy>> groups{1};  // copies in flight; the last group is open
};

inline ucontext_t scheduler;
inline const void *scheduler_stack;
inline size_t scheduler_stack_size;
inline Fiber *current;
inline const std::function<void()> *body;
inline std::vector<Fiber> fibers;

inline void meet(State state) {
  current->state = state;
  void **fake = state == State::done ? nullptr : &current->fake_stack;
  __sanitizer_start_switch_fiber(fake, scheduler_stack, scheduler_stack_size);
  swapcontext(&current->context, &scheduler);
  __sanitizer_finish_switch_fiber(current->fake_stack, nullptr, nullptr);
}

inline void enter() {
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
  (*body)();
  meet(State::done);
}

inline void resume(Fiber &fiber) {
  current = &fiber;
  threadIdx = fiber.index;
  void *fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack.data(), fiber.stack.size());
  swapcontext(&scheduler, &fiber.context);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}

// ------------------------------------------------------------ instructions of a warp

using Lanes = std::vector<Fiber *>;
inline void execute(const Lanes &lanes);

inline bool release_warps(size_t threads) {
  bool released = false;
  for (size_t first = 0; first < threads; first += 32) {
    Lanes lanes;
    for (size_t i = first; i < std::min(first + 32, threads); ++i)
      if (fibers[i].state == State::warp) lanes.push_back(&fibers[i]);
    const bool whole = lanes.size() == std::min<size_t>(32, threads - first);
    if (!whole || !std::all_of(lanes.begin(), lanes.end(), [&](Fiber *f) { return f->call == lanes[0]->call; }))
      continue;
    if (lanes[0]->call != "sync") {
      if (lanes.size() != 32) fail(lanes[0]->call + " needs 32 lanes");
      execute(lanes);
    }
    for (Fiber *lane : lanes) lane->state = State::ready;
    released = true;
  }
  return released;
}

inline void release(size_t threads) {
  if (release_warps(threads)) return;
  for (size_t i = 0; i < threads; ++i) {
    if (fibers[i].state != State::barrier)
      fail("thread " + std::to_string(i) + " is " + (fibers[i].state == State::done ? "done" : fibers[i].call) +
           " while others wait at a barrier");
  }
  for (size_t i = 0; i < threads; ++i) fibers[i].state = State::ready;
}

inline void run_block(const dim3 &block) {
  const size_t threads = size_t(block.x) * block.y * block.z;
  while (fibers.size() < threads) fibers.emplace_back();
  for (unsigned i = 0; i < threads; ++i) {
    Fiber &fiber = fibers[i];
    fiber.rank = i;
    fiber.index = dim3(i % block.x, i / block.x % block.y, i / block.x / block.y);
    fiber.state = State::ready;
    fiber.groups.assign(1, {});
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
  }
  for (;;) {
    Lanes ready, open;
    for (unsigned i = 0; i < threads; ++i) {
      if (fibers[i].state == State::ready) ready.push_back(&fibers[i]);
      if (fibers[i].state != State::done) open.push_back(&fibers[i]);
    }
    if (open.empty()) return;
    if (ready.empty()) release(threads);
    std::shuffle(ready.begin(), ready.end(), generator);
    for (Fiber *fiber : ready) resume(*fiber);
  }
}

inline cudaError_t launch(const cudaLaunchConfig_t &config, const std::function<void()> &kernel) {
  const dim3 grid = config.gridDim;
  const size_t threads = size_t(config.blockDim.x) * config.blockDim.y * config.blockDim.z;
  if (threads == 0 || threads > 1024 || grid.y > 65535 || grid.z > 65535 || grid.x > 0x7fffffffu)
    return cudaErrorInvalidConfiguration;
  body = &kernel;
  std::vector<unsigned> blocks(size_t(grid.x) * grid.y * grid.z);
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = unsigned(i);
  std::shuffle(blocks.begin(), blocks.end(), generator);
  for (unsigned i : blocks) {
    blockIdx = dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y);
    dynamic_shared = allocate(config.dynamicSmemBytes);
    run_block(config.blockDim);
    std::free(dynamic_shared);
  }
  return cudaSuccess;
}

inline void together(const char *name, std::initializer_list<const void *> operands) {
  current->call = name;
  current->args.clear();
  for (const void *operand : operands) current->args.push_back(const_cast<void *>(operand));
  meet(State::warp);
}

// A float narrower than float32 with the given fraction and smallest normal exponent, rounded to nearest even.
inline uint16_t narrow(double value, int fraction, int least) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const uint16_t infinity = uint16_t(0x7fff >> fraction << fraction);
  if (std::isnan(value)) return uint16_t(infinity | 1u << (fraction - 1));
  if (std::isinf(value)) return sign | infinity;
  const double magnitude = std::fabs(value);
  int exponent = magnitude == 0 ? least : std::max(std::ilogb(magnitude), least);
  double steps = std::nearbyint(std::ldexp(magnitude, fraction - exponent));
  uint32_t bits = uint32_t(exponent - least) << fraction;  // the leading one of a normal number adds the other 1
  bits += uint32_t(steps);
  return sign | uint16_t(std::min<uint32_t>(bits, infinity));
}

inline double widen(uint16_t bits, int fraction, int least) {
  const uint16_t infinity = uint16_t(0x7fff >> fraction << fraction);
  const uint32_t magnitude = bits & 0x7fff;
  const double sign = bits & 0x8000 ? -1 : 1;
  if (magnitude > infinity) return NAN;
  if (magnitude == infinity) return sign * INFINITY;
  const uint32_t exponent = magnitude >> fraction, rest = magnitude & ((1u << fraction) - 1);
  if (exponent == 0) return sign * std::ldexp(rest, least - fraction);
  return sign * std::ldexp(rest | 1u << fraction, int(exponent) - 1 + least - fraction);
}

}  // namespace shim

// ------------------------------------------------------------ what kernels call

struct __half { uint16_t bits; };
struct __nv_bfloat16 { uint16_t bits; };

inline float __half2float(__half x) { return float(shim::widen(x.bits, 10, -14)); }
inline float __bfloat162float(__nv_bfloat16 x) { return float(shim::widen(x.bits, 7, -126)); }
inline __half __double2half(double x) { return {shim::narrow(x, 10, -14)}; }
inline __nv_bfloat16 __double2bfloat16(double x) { return {shim::narrow(x, 7, -126)}; }
inline __half __float2half_rn(float x) { return __double2half(x); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __double2bfloat16(x); }
inline __half __hfma(__half a, __half b, __half c) {
  return __double2half(std::fma(double(__half2float(a)), double(__half2float(b)), double(__half2float(c))));
}
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
  return __double2bfloat16(
      std::fma(double(__bfloat162float(a)), double(__bfloat162float(b)), double(__bfloat162float(c))));
}

inline void __syncthreads() { shim::meet(shim::State::barrier); }
inline void __syncwarp() { shim::together("sync", {}); }
inline unsigned char *convc_dynamic_shared() { return shim::dynamic_shared; }

template <class... Parameters, class... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...), Args... args) {
  return shim::launch(*config, [&] { kernel(args...); });
}

// ------------------------------------------------------------ special instructions

#define SHIM_COPY(suffix, T)                                                                             \
  inline void convc_cp_async_16_##suffix(T *to, const T *from) {                                         \
    if (reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16)                  \
      shim::fail("cp.async between addresses that 16 does not divide");                                  \
    shim::Copy copy{to, {}};                                                                             \
    std::memcpy(copy.bytes, from, 16);                                                                   \
    shim::current->groups.back().push_back(copy);                                                        \
  }
SHIM_COPY(f16, __half)
SHIM_COPY(bf16, __nv_bfloat16)
SHIM_COPY(f32, float)
SHIM_COPY(s8, int8_t)
SHIM_COPY(u8, uint8_t)

inline void convc_cp_async_commit() { shim::current->groups.emplace_back(); }

namespace shim {
inline void wait(size_t pending) {
  auto &groups = current->groups;
  while (groups.size() - 1 > pending) {
    for (const Copy &copy : groups.front()) std::memcpy(copy.to, copy.bytes, 16);
    groups.erase(groups.begin());
  }
}
}  // namespace shim
inline void convc_cp_async_wait_0() { shim::wait(0); }
inline void convc_cp_async_wait_1() { shim::wait(1); }
inline void convc_cp_async_wait_2() { shim::wait(2); }
inline void convc_cp_async_wait_3() { shim::wait(3); }

template <class T> void convc_atomic_add(T *to, const T *value) { *to += *value; }
template <class T> void convc_prefetch(const T *) {}

inline void convc_mma_m16n8k16_f16(float *c, const __half *a, const __half *b) {
  shim::together("mma f16", {c, a, b});
}
inline void convc_mma_m16n8k16_bf16(float *c, const __nv_bfloat16 *a, const __nv_bfloat16 *b) {
  shim::together("mma bf16", {c, a, b});
}
template <class T> void convc_ldmatrix_x4(T *to, const T *row) {
  if (reinterpret_cast<uintptr_t>(row) % 16) shim::fail("ldmatrix from an address that 16 does not divide");
  shim::together("ldmatrix", {to, row});
}
template <class T> void convc_ldmatrix_x4_trans(T *to, const T *row) {
  if (reinterpret_cast<uintptr_t>(row) % 16) shim::fail("ldmatrix from an address that 16 does not divide");
  shim::together("ldmatrix trans", {to, row});
}
template <class T> void convc_shuffle_xor_1(T *to, const T *value) { shim::together("shuffle 1", {to, value}); }
template <class T> void convc_shuffle_xor_2(T *to, const T *value) { shim::together("shuffle 2", {to, value}); }
template <class T> void convc_shuffle_xor_4(T *to, const T *value) { shim::together("shuffle 4", {to, value}); }
template <class T> void convc_shuffle_xor_8(T *to, const T *value) { shim::together("shuffle 8", {to, value}); }
template <class T> void convc_shuffle_xor_16(T *to, const T *value) { shim::together("shuffle 16", {to, value}); }

namespace shim {

// The PTX ISA's places of fragment elements in their matrices, for mma.m16n8k16.
inline void mma(const Lanes &lanes, double (*value)(const void *, int)) {
  double a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 8; ++i)
      a[group + (i & 2 ? 8 : 0)][pair + (i & 1) + (i & 4 ? 8 : 0)] = value(lanes[lane]->args[1], i);
    for (int i = 0; i < 4; ++i) b[pair + (i & 1) + (i & 2 ? 8 : 0)][group] = value(lanes[lane]->args[2], i);
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      float *c = static_cast<float *>(lanes[lane]->args[0]) + i;
      double sum = 0;
      for (int k = 0; k < 16; ++k)
        sum += a[lane / 4 + (i & 2 ? 8 : 0)][k] * b[k][lane % 4 * 2 + (i & 1)];
      *c = float(*c + sum);
    }
  }
}

inline void ldmatrix(const Lanes &lanes, bool transposed) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int e = 0; e < 2; ++e) {
        int row = lane / 4, column = lane % 4 * 2 + e;
        if (transposed) std::swap(row, column);
        const auto *from = static_cast<const uint16_t *>(lanes[matrix * 8 + row]->args[1]);
        static_cast<uint16_t *>(lanes[lane]->args[0])[matrix * 2 + e] = from[column];
      }
    }
  }
}

inline void execute(const Lanes &lanes) {
  const std::string &call = lanes[0]->call;
  if (call == "mma f16") {
    mma(lanes, [](const void *p, int i) { return double(__half2float(static_cast<const __half *>(p)[i])); });
  } else if (call == "mma bf16") {
    mma(lanes, [](const void *p, int i) {
      return double(__bfloat162float(static_cast<const __nv_bfloat16 *>(p)[i]));
    });
  } else if (call == "ldmatrix" || call == "ldmatrix trans") {
    ldmatrix(lanes, call != "ldmatrix");
  } else {
    const int mask = std::stoi(call.substr(call.find(' ')));
    uint32_t values[32];
    for (int lane = 0; lane < 32; ++lane) std::memcpy(&values[lane], lanes[lane]->args[1], 4);
    for (int lane = 0; lane < 32; ++lane) std::memcpy(lanes[lane]->args[0], &values[lane ^ mask], 4);
  }
}

// ------------------------------------------------------------ the program around a kernel

// The exact bytes of a file, in memory of its own, so that a sanitizer sees every access past them.
struct Memory {
  unsigned char *data;
  size_t size;
  std::string path;
  explicit Memory(const char *path) : path(path) {
    FILE *file = std::fopen(path, "rb");
    if (!file) fail("no file " + this->path);
    std::fseek(file, 0, SEEK_END);
    size = size_t(std::ftell(file));
    std::rewind(file);
    data = allocate(size);
    if (std::fread(data, 1, size, file) != size) fail("can't read " + this->path);
    std::fclose(file);
  }
  ~Memory() { std::free(data); }
  template <class T> T *as() { return reinterpret_cast<T *>(data); }
  void save() {
    FILE *file = std::fopen(path.c_str(), "wb");
    if (!file || std::fwrite(data, 1, size, file) != size) fail("can't write " + path);
    std::fclose(file);
  }
};

}  // namespace shim

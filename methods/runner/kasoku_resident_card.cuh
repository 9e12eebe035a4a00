// What a card does that C++ has no words for, for kasoku_resident_layers.cu: Hopper's bulk copies and their barriers,
// products of small matrices, and words that go from one program to another. Elsewhere, as in tests, a file of the same
// functions takes its place.

typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__
#define APART __device__ __noinline__  // a function with registers of its own
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads, 1)
#define SHARED(memory) extern __shared__ __align__(128) char memory[]

DEVICE u32 address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

// Two numbers of the model's type in a word, and as floats.
#if HALF
DEVICE float low(u32 w) {
  float f;
  asm("{ .reg .b16 a, b; mov.b32 {a, b}, %1; cvt.f32.f16 %0, a; }" : "=f"(f) : "r"(w));
  return f;
}
DEVICE float high(u32 w) {
  float f;
  asm("{ .reg .b16 a, b; mov.b32 {a, b}, %1; cvt.f32.f16 %0, b; }" : "=f"(f) : "r"(w));
  return f;
}
DEVICE u32 packed(float a, float b) {
  u32 w;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(b), "f"(a));
  return w;
}
#define NUMBERS "f16"
#else
DEVICE float low(u32 w) { return __uint_as_float(w << 16); }
DEVICE float high(u32 w) { return __uint_as_float(w & 0xffff0000u); }
DEVICE u32 packed(float a, float b) {
  u32 w;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(b), "f"(a));
  return w;
}
#define NUMBERS "bf16"
#endif

// d += a b, of a (16, 16) and b (16, 8) as PTX lays them out over a warp's registers (mma.m16n8k16).
DEVICE void multiply(float *d, uint4 a, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32." NUMBERS "." NUMBERS
      ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

// The same of whole numbers of a byte each, a (16, 32) and b (32, 8) (mma.m16n8k32).
DEVICE void multiply(int *d, uint4 a, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}
DEVICE int whole(float v) { return __float2int_rn(v); }

// Words that another program writes meanwhile: each is whole, and none comes from a cache of this multiprocessor.
DEVICE u32 look(const u32 *p) {
  u32 w;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(w) : "l"(p) : "memory");
  return w;
}
DEVICE uint4 look4(const u32 *p) {
  uint4 w;
  asm volatile("ld.volatile.global.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(w.x), "=r"(w.y), "=r"(w.z), "=r"(w.w)
               : "l"(p)
               : "memory");
  return w;
}
DEVICE void tell(u32 *p, u32 w) { asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(w) : "memory"); }
DEVICE uint4 read16(const void *p) { return __ldcg((const uint4 *)p); }

// A barrier in shared memory, of one arrival and, where so many bytes are expected, of their arrival too.
DEVICE void make(u64 *barrier) { asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(address(barrier)) : "memory"); }
DEVICE void made() { asm volatile("fence.mbarrier_init.release.cluster; fence.proxy.async;" ::: "memory"); }
DEVICE void arrive(u64 *barrier) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(address(barrier)) : "memory");
}
DEVICE void await(u64 *barrier, u32 parity) {
  u32 done = 0, at = address(barrier);
  while (!done)
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(at), "r"(parity)
                 : "memory");
}
// Copies from the card's memory, after which it arrives at `barrier`. What is read once a step is the first to leave
// the cache.
DEVICE void fetch(void *to, const void *from, u32 bytes, u64 *barrier) {
  u64 policy;
  u32 at = address(barrier);
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
          "r"(address(to)),
      "l"(from), "r"(bytes), "r"(at), "l"(policy)
      : "memory");
}

// The warps that multiply meet here; those that fetch do not.
DEVICE void meet() { asm volatile("bar.sync 1, %0;" ::"n"(WARPS * 32) : "memory"); }

// Kernels launched as programmatic dependents: the next one may begin, and those before this one have ended.
DEVICE void let_next_begin() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
DEVICE void await_those_before() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// Among the lanes of a warp, and all threads of a program.
DEVICE void converge() { __syncwarp(); }
DEVICE float of_lane_across(float v, int bits) { return __shfl_xor_sync(~0u, v, bits); }
DEVICE float of_lane(float v, int lane) { return __shfl_sync(~0u, v, lane); }
DEVICE u32 most_of_warp(u32 v) { return __reduce_max_sync(~0u, v); }
DEVICE u32 count_of_warp(bool v) { return __popc(__ballot_sync(~0u, v)); }
DEVICE void meet_all() { __syncthreads(); }

// The highest of a warp's numbers, each a rank, into *p.
DEVICE void highest_of_warp(long long *p, long long rank) {
#pragma unroll
  for (int o = 16; o; o >>= 1) {
    const long long theirs = __shfl_xor_sync(~0u, rank, o);
    rank = theirs > rank ? theirs : rank;
  }
  if ((threadIdx.x & 31) == 0) atomicMax(p, rank);
}
DEVICE u32 one_more(u32 *p) {
  __threadfence();
  return atomicAdd(p, 1u);
}
DEVICE long long now() { return clock64(); }

// What kasoku_resident_card.cuh has a card do, done on one thread of the CPU, which goes from one thread of the card to
// the next wherever one waits: so that tests can run kasoku_resident_layers.cu. Copies are done at once.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

typedef unsigned int u32;
typedef unsigned long long u64;
struct uint4 {
  u32 x, y, z, w;
};
struct float4 {
  float x, y, z, w;
};
static inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return uint4{x, y, z, w}; }
struct Place {
  int x;
};
static Place threadIdx, blockIdx, blockDim;

#define DEVICE static inline
#define APART static
#define KERNEL(threads) static void
#define SHARED(memory) char *memory = mine->memory
#define __expf expf
#define __logf logf
using std::min;

template <class To, class From>
static inline To bits(From from) {
  To to;
  static_assert(sizeof to == sizeof from);
  memcpy(&to, &from, sizeof to);
  return to;
}
static inline u32 __float_as_uint(float v) { return bits<u32>(v); }
static inline int __float_as_int(float v) { return bits<int>(v); }
static inline float __uint_as_float(u32 v) { return bits<float>(v); }
static inline float rsqrtf(float v) { return 1.f / sqrtf(v); }

#if HALF
static inline u32 rounded(float v) { return bits<unsigned short>((_Float16)v); }
DEVICE float low(u32 w) { return (float)bits<_Float16>((unsigned short)w); }
DEVICE float high(u32 w) { return (float)bits<_Float16>((unsigned short)(w >> 16)); }
#else
static inline u32 rounded(float v) {
  u32 b = __float_as_uint(v);
  return (b + 0x7fffu + ((b >> 16) & 1)) >> 16;
}
DEVICE float low(u32 w) { return __uint_as_float(w << 16); }
DEVICE float high(u32 w) { return __uint_as_float(w & 0xffff0000u); }
#endif
DEVICE u32 packed(float a, float b) { return rounded(a) | rounded(b) << 16; }

struct Meeting {  // of so many threads
  int all, arrived = 0, times = 0;
};
struct Warp {
  Meeting meeting{32};
  u32 words[32][6];
  float numbers[32];
};
struct Program {
  alignas(128) char memory[SHARED_BYTES];
  Meeting all{(WARPS + FETCHERS) * 32}, multiplying{WARPS * 32};
  Warp warps[WARPS + FETCHERS];
};
struct Thread {
  ucontext_t context;
  std::vector<char> stack;
  Program *program;
  int index, block;
  Meeting *at = nullptr;  // which it waits for, after so many times
  int times = 0;
  bool ended = false;
};
static ucontext_t scheduler;
static Thread *running;
static Program *mine;

static void give_way() { swapcontext(&running->context, &scheduler); }
static void wait_for(Meeting &meeting) {
  if (++meeting.arrived == meeting.all) {
    meeting.arrived = 0;
    ++meeting.times;
    return;
  }
  running->at = &meeting;
  running->times = meeting.times;
  give_way();
}
static Warp &warp_of_mine() { return mine->warps[threadIdx.x >> 5]; }

// d += a b, where a word has PER numbers: a is (16, 8 PER), and b (8 PER, 8).
template <int PER, class Sum, class Number>
static void multiply_words(Sum *d, uint4 a, u32 b0, u32 b1, Number number) {
  constexpr int HALF_DEPTH = 4 * PER;
  Warp &warp = warp_of_mine();
  const int lane = threadIdx.x & 31;
  const u32 own[6] = {a.x, a.y, a.z, a.w, b0, b1};
  memcpy(warp.words[lane], own, sizeof own);
  wait_for(warp.meeting);
  auto of = [&](int group, int k, int word) {
    return number(warp.words[group * 4 + k % HALF_DEPTH / PER][word], k % PER);
  };
  for (int i = 0; i < 4; ++i)
    for (int k = 0; k < 2 * HALF_DEPTH; ++k) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2, further = k >= HALF_DEPTH;
      d[i] += of(row % 8, k, 2 * further + row / 8) * of(column, k, 4 + further);
    }
  wait_for(warp.meeting);
}
DEVICE void multiply(float *d, uint4 a, u32 b0, u32 b1) {
  multiply_words<2>(d, a, b0, b1, [](u32 w, int k) { return k ? high(w) : low(w); });
}
DEVICE void multiply(int *d, uint4 a, u32 b0, u32 b1) {
  multiply_words<4>(d, a, b0, b1, [](u32 w, int k) { return (int)(signed char)(w >> k * 8); });
}
DEVICE int whole(float v) { return (int)lrintf(v); }

DEVICE u32 look(const u32 *p) {
  give_way();
  return *(const volatile u32 *)p;
}
DEVICE uint4 look4(const u32 *p) { return make_uint4(look(p), look(p + 1), look(p + 2), look(p + 3)); }
DEVICE void tell(u32 *p, u32 w) { *p = w; }
DEVICE uint4 read16(const void *p) {
  uint4 w;
  memcpy(&w, p, sizeof w);
  return w;
}

DEVICE void make(u64 *barrier) { *barrier = 0; }
DEVICE void made() {}
DEVICE void arrive(u64 *barrier) { ++*barrier; }
DEVICE void await(u64 *barrier, u32 parity) {
  while ((*(volatile u64 *)barrier & 1) == parity) give_way();
}
DEVICE void fetch(void *to, const void *from, u32 bytes, u64 *barrier) {
  memcpy(to, from, bytes);
  arrive(barrier);
}
DEVICE void meet() { wait_for(mine->multiplying); }
DEVICE void meet_all() { wait_for(mine->all); }
DEVICE void let_next_begin() {}
DEVICE void await_those_before() {}

DEVICE void converge() { wait_for(warp_of_mine().meeting); }
DEVICE float of_lane(float v, int lane) {
  Warp &warp = warp_of_mine();
  warp.numbers[threadIdx.x & 31] = v;
  wait_for(warp.meeting);
  const float theirs = warp.numbers[lane];
  wait_for(warp.meeting);
  return theirs;
}
DEVICE float of_lane_across(float v, int across) { return of_lane(v, (threadIdx.x & 31) ^ across); }
DEVICE u32 most_of_warp(u32 v) {
  float all = bits<float>(v);
  for (int o = 16; o; o >>= 1) {
    const float theirs = of_lane_across(all, o);
    all = bits<u32>(theirs) > bits<u32>(all) ? theirs : all;
  }
  return bits<u32>(all);
}
DEVICE u32 count_of_warp(bool v) {
  float sum = v;
  for (int o = 16; o; o >>= 1) sum += of_lane_across(sum, o);
  return (u32)sum;
}
DEVICE void highest_of_warp(long long *p, long long rank) { *p = std::max(*p, rank); }
DEVICE u32 one_more(u32 *p) { return (*p)++; }
DEVICE long long now() { return 0; }

#include "kasoku_resident_exchange.cuh"
#include "kasoku_resident_attend.cuh"
#include "kasoku_resident_layers.cu"

static const Given *given_now;
static void whole_thread() {
  resident_layers(*given_now);
  running->ended = true;
  give_way();
}

// With a `seed`, threads take turns at random, and some come far behind others.
extern "C" void run(const Given *given, unsigned seed) {
  std::mt19937 random(seed);
  given_now = given;
  blockDim.x = (WARPS + FETCHERS) * 32;
  auto programs = std::make_unique<Program[]>(PROGRAMS);
  std::vector<std::unique_ptr<Thread>> threads;
  for (int block = 0; block < PROGRAMS; ++block)
    for (int index = 0; index < blockDim.x; ++index) {
      threads.push_back(std::make_unique<Thread>());
      Thread &each = *threads.back();
      each.stack.resize(1 << 16);
      each.program = &programs[block];
      each.index = index;
      each.block = block;
      getcontext(&each.context);
      each.context.uc_stack.ss_sp = each.stack.data();
      each.context.uc_stack.ss_size = each.stack.size();
      makecontext(&each.context, whole_thread, 0);
    }
  for (size_t left = threads.size(); left;) {
    left = 0;
    const unsigned slow = random() % 8;  // who waits in this round
    if (seed) std::shuffle(threads.begin(), threads.end(), random);
    for (auto &each : threads) {
      if (each->ended) continue;
      ++left;
      if (each->at && each->at->times == each->times) continue;
      if (seed && (each->index + each->block * 7) % 8 == slow) continue;
      each->at = nullptr;
      running = each.get();
      mine = each->program;
      threadIdx.x = each->index;
      blockIdx.x = each->block;
      swapcontext(&scheduler, &each->context);
    }
  }
}

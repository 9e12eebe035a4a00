// What a step is given, and how vectors go from program to program: as words in the card's memory, which each program
// waits for and makes a vector of in its shared memory.

#define THREADS (WARPS * 32)
#define RING (WARPS * SLOTS)
#define SLOT (PIECE * WEIGHT_BYTES)  // bytes of a piece of a row
#define CHUNKS (PIECE / 256)
#define CEIL(a, b) (((a) + (b) - 1) / (b))
#define ATTENDED (HEADS * HEAD)
#define QKV ((HEADS + 2 * KV_HEADS) * HEAD)
#define GROUP (HEAD / 8)      // lanes that hold a position's numbers of a head
#define AT_ONCE (32 / GROUP)  // positions that a warp has
#define TURNS 4               // of positions that are loaded together
#define NOTHING -1e30f
#define WHOLES (WEIGHT_BYTES == 1)  // weights are whole numbers, and vectors are made such

enum { OF_QKV, OF_OUT, OF_MLP, OF_DOWN, OF_HEAD, PHASES };
enum { SILU = 1, GELU, GELU_TANH, RELU };

struct Given {
  const u64 *matrices;     // the address of each phase's matrix
  const float *biases[5];  // (LAYERS, rows) of a kind of phase, or null
  const float *scales[5];  // the same, by which products are multiplied
  const float *lowered[5];  // the same, by what a unit of the vector's mean lowers products, where OUTSIDE
  const float *gains;       // (LAYERS, 2, WIDTH), and of the last norm (WIDTH)
  const float *shifts;      // the same, of a layer norm; where OUTSIDE they are in the biases
  const float *x;                                 // (WIDTH) with which a step begins
  u32 *qkv, *attended, *between, *inner, *after;  // words: (QKV), (HEADS, SPLITS, HEAD + 1), (WIDTH), (INNER), (WIDTH)
  unsigned short *keys, *values;                  // (LAYERS, KV_HEADS, LENGTH, HEAD)
  const float *turn;                              // (2, HEAD): cosines and sines of the position
  float *scores;                                  // (VOCABULARY)
  const signed char *seen;                        // (VOCABULARY), or null where nothing is penalised
  const long long *position;
  long long *bests;                 // (GROUPS): the highest rank in each group of scores
  u32 *counts;                      // steps so far, and programs that have ended
  long long *stamps;                // (PROGRAMS, 4 LAYERS + 1, 4), where TRACE
  float scaling, epsilon, penalty;  // of attention, of norms, of tokens seen
  u32 waiting, working, together;   // pieces under way, and between two looks for them
  u32 awaited;                      // words of 32 that are new before all threads look for their own
};

// Of a program in a kind of phase: its first row, its rows, its pieces of rows, those of each row, and where there are
// several, 2^32 over them, rounded up: a piece's number times that, over 2^32, is its row. Last a row's numbers, and
// the rows of all programs.
struct Role {
  int begin, rows, tiles, pieces;
  u32 of_piece;
  int width, all_rows;
};

#if TRACE
#define STAMP(k) \
  if (threadIdx.x == 0) given.stamps[((long long)blockIdx.x * (4 * LAYERS + 1) + phase) * 4 + k] = now();
#else
#define STAMP(k)
#endif

DEVICE u32 marked(float value, u32 mark) { return (__float_as_uint(value) & ~1u) | mark; }
DEVICE float unmarked(u32 word) { return __uint_as_float(word & ~1u); }  // the same in every step
DEVICE void take4(float *to, uint4 bits) {
  to[0] = __uint_as_float(bits.x);
  to[1] = __uint_as_float(bits.y);
  to[2] = __uint_as_float(bits.z);
  to[3] = __uint_as_float(bits.w);
}
DEVICE float as_stored(float value) { return low(packed(value, 0.f)); }

// N times four words from `at` on, `stride` words apart, once all of them are new. Those before `end`: for one beyond it
// come the last ones again.
template <int N>
DEVICE void receive(const u32 *words, int at, int stride, int end, u32 mark, uint4 *got) {
  u32 wrong;
  do {
    wrong = 0;
#pragma unroll
    for (int n = 0; n < N; ++n) got[n] = look4(words + min(at + n * stride, end - 4));
#pragma unroll
    for (int n = 0; n < N; ++n) wrong |= (got[n].x ^ mark) | (got[n].y ^ mark) | (got[n].z ^ mark) | (got[n].w ^ mark);
  } while (wrong & 1);
}

// One warp looks at a few words until enough are new, so that not all threads of the card keep looking at the same
// lines.
DEVICE void await_words(const u32 *words, int count, u32 mark, u32 awaited) {
  if (threadIdx.x < 32)
    while (count_of_warp(!((look(words + (long long)threadIdx.x * count / 32) ^ mark) & 1)) < awaited) {}
  meet();
}

// The unit of whole numbers, of which the largest number of all threads has 32512. `most` are the bits of a thread's
// largest, without a sign: what is infinite, or no number, has more than any other, and makes the unit no number
// either.
DEVICE u32 magnitude(float v) { return __float_as_uint(v) & 0x7fffffffu; }
DEVICE float unit_of(u32 most, u32 *place) {
  if (!WHOLES) return 1;
  most = most_of_warp(most);
  if ((threadIdx.x & 31) == 0) place[threadIdx.x >> 5] = most;
  meet();
  for (int i = 0; i < WARPS; ++i) most = place[i] > most ? place[i] : most;
  return __uint_as_float(most) / 32512.f;
}

// Four numbers of a vector, from e on, in the order in which they are multiplied. Of whole numbers the higher and the
// lower eight bits of sixteen go with a lane's sixteen weights; the lower ones have a sign, too.
DEVICE void put4(u32 *vector, int e, float unit, float a, float b, float c, float d) {
  if (WHOLES) {
    const float each = unit > 1e-30f ? 1.f / unit : 0.f;
    const int sixteen = e / 16, n[4] = {whole(a * each), whole(b * each), whole(c * each), whole(d * each)};
    u32 *to = vector + (sixteen / 32 * 64 + sixteen % 32) * 4 + e / 4 % 4, high = 0, low = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      high |= ((u32)((n[i] + 128) >> 8) & 255) << 8 * i;
      low |= ((u32)n[i] & 255) << 8 * i;
    }
    to[0] = high;
    to[128] = low;
  } else {  // within eight, the pairs of either product are neighbours: words 0, 2, 1, 3
    u32 *to = vector + e / 8 * 4 + e / 4 % 2;
    to[0] = packed(a, b);
    to[2] = packed(c, d);
  }
}

// What lies beyond a vector's end is multiplied too, by whatever the ring holds there.
template <int N>
DEVICE void clear_beyond(u32 *vector) {
  constexpr int END = CEIL(N, PIECE) * PIECE;
  const uint4 nothing = make_uint4(0, 0, 0, 0);
  if (WHOLES) {
    for (int sixteen = N / 16 + threadIdx.x; sixteen < END / 16; sixteen += THREADS) {
      uint4 *to = (uint4 *)vector + sixteen / 32 * 64 + sixteen % 32;
      to[0] = to[32] = nothing;
    }
  } else {
    for (int eight = N / 8 + threadIdx.x; eight < END / 8; eight += THREADS) ((uint4 *)vector)[eight] = nothing;
  }
}

// What is left to do to products: times the vector's unit, less `mean` times what it lowers them by, times `rate`.
struct Rest {
  float unit, mean, rate;
};

// A warp's next piece: after so many of the phase's, and in which of its slots.
struct Turn {
  int off, slot;
  u32 parity;
};

// Of a program: what its warps tell one another, what is left to do to the products of the phase, and how far each is.
struct Numbers {
  float sums[WARPS], more[WARPS];
  u32 most[WARPS];
  Rest rest;
  Turn turns[WARPS];
};

// What was attended to, of all heads, each put together from its parts.
APART void receive_attended(const Given &given, u32 mark, u32 *vector, Numbers *numbers) {
  constexpr int N = CEIL(ATTENDED, THREADS * 8);
  float v[N][8] = {};
  u32 most = 0;
  await_words(given.attended, HEADS * SPLITS * HEAD, mark, given.awaited);
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int e = (n * THREADS + threadIdx.x) * 8, head = e / HEAD, d = e % HEAD;
    if (e >= ATTENDED) continue;
    uint4 parts[SPLITS][2];
    u32 weights[SPLITS], wrong;
    do {
      wrong = 0;
#pragma unroll
      for (int s = 0; s < SPLITS; ++s) {
        const u32 *words = given.attended + (head * SPLITS + s) * HEAD + d;
        parts[s][0] = look4(words);
        parts[s][1] = look4(words + 4);
        weights[s] = SPLITS > 1 ? look(given.attended + HEADS * SPLITS * HEAD + head * SPLITS + s) : mark;
      }
#pragma unroll
      for (int s = 0; s < SPLITS; ++s) {
        wrong |= weights[s] ^ mark;
#pragma unroll
        for (int i = 0; i < 2; ++i)
          wrong |= (parts[s][i].x ^ mark) | (parts[s][i].y ^ mark) | (parts[s][i].z ^ mark) | (parts[s][i].w ^ mark);
      }
    } while (wrong & 1);
    float highest = NOTHING, all = 0;
    if (SPLITS > 1) {
#pragma unroll
      for (int s = 0; s < SPLITS; ++s) highest = fmaxf(highest, unmarked(weights[s]));
    }
#pragma unroll
    for (int s = 0; s < SPLITS; ++s) {
      const float f = SPLITS > 1 ? __expf(unmarked(weights[s]) - highest) : 1.f;
      all += f;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        v[n][i * 4] += f * unmarked(parts[s][i].x);
        v[n][i * 4 + 1] += f * unmarked(parts[s][i].y);
        v[n][i * 4 + 2] += f * unmarked(parts[s][i].z);
        v[n][i * 4 + 3] += f * unmarked(parts[s][i].w);
      }
    }
    const float over = 1.f / all;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      v[n][i] *= over;
      most = magnitude(v[n][i]) > most ? magnitude(v[n][i]) : most;
    }
  }
  const float unit = unit_of(most, numbers->most);
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int e = (n * THREADS + threadIdx.x) * 8;
    if (e >= ATTENDED) continue;
    put4(vector, e, unit, v[n][0], v[n][1], v[n][2], v[n][3]);
    put4(vector, e + 4, unit, v[n][4], v[n][5], v[n][6], v[n][7]);
  }
  clear_beyond<ATTENDED>(vector);
  if (threadIdx.x == 0) numbers->rest = Rest{unit, 0, 1};
  meet();
}

// The MLP's inner values.
APART void receive_inner(const Given &given, u32 mark, u32 *vector, Numbers *numbers) {
  constexpr int N = CEIL(INNER, THREADS * 4);
  uint4 got[N];
  await_words(given.inner, INNER, mark, given.awaited);
  receive<N>(given.inner, threadIdx.x * 4, THREADS * 4, INNER, mark, got);
  u32 most = 0;
  if (WHOLES) {
#pragma unroll
    for (int n = 0; n < N; ++n)
      if ((n * THREADS + threadIdx.x) * 4 < INNER) {
        const u32 all[4] = {got[n].x, got[n].y, got[n].z, got[n].w};
#pragma unroll
        for (int i = 0; i < 4; ++i) most = magnitude(unmarked(all[i])) > most ? magnitude(unmarked(all[i])) : most;
      }
  }
  const float unit = unit_of(most, numbers->most);
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int e = (n * THREADS + threadIdx.x) * 4;
    if (e < INNER)
      put4(vector, e, unit, unmarked(got[n].x), unmarked(got[n].y), unmarked(got[n].z), unmarked(got[n].w));
  }
  clear_beyond<INNER>(vector);
  if (threadIdx.x == 0) numbers->rest = Rest{unit, 0, 1};
  meet();
}

// x after a norm. Where OUTSIDE, x times the gains alone, so that products begin before anybody knows the rest: that
// takes numbers with a range like float32's.
APART void receive_normed(const Given &given, const u32 *words, u32 mark, const float *gain, const float *shift,
                          u32 *vector, Numbers *numbers) {
  constexpr int N = CEIL(WIDTH, THREADS * 4);
  constexpr bool SHIFTED = LAYER_NORM && !OUTSIDE;
  const int tid = threadIdx.x;
  float g[N * 4], s[SHIFTED ? N * 4 : 4], v[N * 4], sum = 0, squares = 0;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int e = min((n * THREADS + tid) * 4, WIDTH - 4);  // for one beyond the end, the last ones
    take4(g + n * 4, read16(gain + e));
    if (SHIFTED) take4(s + (SHIFTED ? n * 4 : 0), read16(shift + e));
  }
  if (words) {
    await_words(words, WIDTH, mark, given.awaited);
    uint4 got[N];
    receive<N>(words, tid * 4, THREADS * 4, WIDTH, mark, got);
#pragma unroll
    for (int n = 0; n < N; ++n)
      take4(v + n * 4, make_uint4(got[n].x & ~1u, got[n].y & ~1u, got[n].z & ~1u, got[n].w & ~1u));
  } else {
#pragma unroll
    for (int n = 0; n < N; ++n) take4(v + n * 4, read16(given.x + min((n * THREADS + tid) * 4, WIDTH - 4)));
  }
  // Puts x, normed so, into the vector; returns the vector's unit.
  auto put = [&](float mean, float rate) -> float {
    auto normed = [&](int i) {
      return (v[i] - mean) * rate * g[i] + (SHIFTED ? s[SHIFTED ? i : 0] : 0.f);
    };
    u32 most = 0;
    if (WHOLES) {
#pragma unroll
      for (int i = 0; i < N * 4; ++i)
        if ((i / 4 * THREADS + tid) * 4 < WIDTH) most = magnitude(normed(i)) > most ? magnitude(normed(i)) : most;
    }
    const float unit = unit_of(most, numbers->most);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const int e = (n * THREADS + tid) * 4, i = n * 4;
      if (e < WIDTH) put4(vector, e, unit, normed(i), normed(i + 1), normed(i + 2), normed(i + 3));
    }
    return unit;
  };
  auto of_all = [&](float own, float *place) {
#pragma unroll
    for (int o = 16; o; o >>= 1) own += of_lane_across(own, o);
    if ((tid & 31) == 0) place[tid >> 5] = own;
  };
  auto total = [&](const float *place) {
    float all = 0;
    for (int i = 0; i < WARPS; ++i) all += place[i];
    return all;
  };
  clear_beyond<WIDTH>(vector);
  float unit = 1;
  if (OUTSIDE) unit = put(0, 1);
#pragma unroll
  for (int n = 0; n < N; ++n)
    if ((n * THREADS + tid) * 4 < WIDTH) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sum += v[n * 4 + i];
        squares += v[n * 4 + i] * v[n * 4 + i];
      }
    }
  if (LAYER_NORM) of_all(sum, numbers->sums);
  if (OUTSIDE || !LAYER_NORM) of_all(squares, numbers->more);
  meet();
  auto mean_of_all = [&] { return LAYER_NORM ? total(numbers->sums) / WIDTH : 0.f; };
  auto rate_of_all = [&](float mean) {
    return rsqrtf(fmaxf(total(numbers->more) / WIDTH - mean * mean, 0.f) + given.epsilon);
  };
  if (OUTSIDE) {
    if (tid == 0) {  // the others begin with their products
      const float mean = mean_of_all();
      numbers->rest = Rest{unit, mean, rate_of_all(mean)};
    }
    return;
  }
  const float mean = mean_of_all();
  if (!LAYER_NORM) {
    unit = put(0, rate_of_all(0));
  } else {
    float apart = 0;
#pragma unroll
    for (int n = 0; n < N; ++n)
      if ((n * THREADS + tid) * 4 < WIDTH) {
#pragma unroll
        for (int i = 0; i < 4; ++i) apart += (v[n * 4 + i] - mean) * (v[n * 4 + i] - mean);
      }
    of_all(apart, numbers->more);
    meet();
    unit = put(mean, rsqrtf(total(numbers->more) / WIDTH + given.epsilon));
  }
  if (tid == 0) numbers->rest = Rest{unit, 0, 1};
  meet();
}

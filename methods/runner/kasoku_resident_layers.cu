// All layers of a decode step and the output layer in one kernel, with one program on each multiprocessor.
//
// A step is a row of phases: for each layer queries, keys and values; attention and its projection; the MLP in; the MLP
// out; at last the output layer. Each has a matrix, of which a program has some rows, and a vector. In a program,
// FETCHERS warps copy its weights into a ring in shared memory, phase after phase, whatever is computed meanwhile: so
// the memory is busy while the others wait. WARPS warps multiply them.
//
// What a phase makes goes to all programs as words in the card's memory, whose last bit is the parity of its layer: it
// tells that a word is new, and no program waits for anything else. A word is written again four phases later, by which
// time everybody has read it, since nobody gets there without words of the phases between.
//
// Weights are read in pieces of rows. A piece's numbers become the first factor of tensor-core products as they lie in
// memory, the vector's the second, in the same order: then the diagonals add up to the product of both. Where weights
// are int8, plus 128, with a scale for each row, the vector is made whole numbers of 16 bits, too, with one unit, and
// its higher and lower halves are multiplied by the bytes as they are: of each piece the sum is exact.
//
// Compiled with what a model is like, and how the work is divided, as macros (kasoku_resident_whole.py).

DEVICE float activated(float v) {
  switch (ACTIVATION) {
    case SILU:
      return v / (1.f + __expf(-v));
    case GELU:
      return 0.5f * v * (1.f + erff(v * 0.70710678f));
    case GELU_TANH:
      return v / (1.f + __expf(-1.5957691216f * (v + 0.044715f * v * v * v)));
    default:
      return fmaxf(v, 0.f);
  }
}

// Copies this program's weights into the ring, of every FETCHERS-th piece. Not all that there is room for is under way
// at once, or words would wait behind it: before every `together`-th piece of its own, a warp waits for the one that is
// `waiting` places back, or `working` places once the phase's products have begun. A slot's pieces are all of the same
// warp: another one's barriers might be two turns on.
static_assert(RING % FETCHERS == 0, "a slot is of one warp");

DEVICE void fetch_all(const Given &given, const Role *roles, const u64 *matrices, char *ring, u64 *full, u64 *empty,
                      const volatile int *begun, u32 me) {
  int slot = 0;
  u32 parity = 1, count = 0, alone = 1;  // alone: pieces until the next look
  const u32 waiting = given.waiting, working = given.working, together = given.together;
  for (int phase = 0; phase <= 4 * LAYERS; ++phase) {
    const Role role = roles[phase == 4 * LAYERS ? OF_HEAD : phase & 3];
    const char *from = (const char *)matrices[phase] + (u64)role.begin * role.width * WEIGHT_BYTES;
    int left = role.width * WEIGHT_BYTES;
    for (int tile = 0; tile < role.tiles; ++tile) {
      const int bytes = left > SLOT ? SLOT : left;
      left -= bytes;
      if (left == 0) left = role.width * WEIGHT_BYTES;
      if (count % FETCHERS == me) {
        if (count >= RING) await(&empty[slot], parity);
        if (--alone == 0) {
          const u32 most = *begun > phase ? working : waiting, before = count - most;
          if (most < RING && count >= most) await(&full[before % RING], before / RING & 1);
          alone = together;
        }
        fetch(ring + slot * SLOT, from, bytes, &full[slot]);
      }
      ++count;
      from += bytes;
      if (++slot == RING) {
        slot = 0;
        parity ^= 1;
      }
    }
  }
}

// Of a kind of phase, the rows of its matrix.
DEVICE int rows_of(int kind) {
  switch (kind) {
    case OF_QKV:
      return QKV;
    case OF_MLP:
      return INNER * (GATED ? 2 : 1);
    case OF_HEAD:
      return VOCABULARY;
    default:
      return WIDTH;
  }
}

// part[n] = the n-th piece of this program's rows times the vector, of this warp's pieces: in eight parts, or for the
// output layer, which has many rows, as a whole.
APART void multiply_all(const Role &of, bool is_head, const char *ring, const u32 *vector, float *part, u64 *full,
                        u64 *empty, Turn *turns) {
  const Role role = of;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  converge();  // products are of a whole warp, of which one thread may have been busy
  int off = turns[warp].off, slot = turns[warp].slot;
  u32 parity = turns[warp].parity;
#if !WHOLES
  uint4 kept[CHUNKS];
  int piece_kept = -1;
#endif
  for (; off < role.tiles; off += WARPS) {
    const int row = role.pieces == 1 ? off : (int)((u64)off * role.of_piece >> 32), piece = off - row * role.pieces;
    const uint4 *x = (const uint4 *)vector + piece * (CHUNKS * 32) + lane;
#if !WHOLES
    if (piece != piece_kept) {
#pragma unroll
      for (int i = 0; i < CHUNKS; ++i) kept[i] = x[i * 32];
      piece_kept = piece;
    }
#endif
    await(&full[slot * WARPS + warp], parity);
    const uint4 *tile = (const uint4 *)(ring + (slot * WARPS + warp) * SLOT) + lane;
    // On the diagonal, row n and n + 8 of the first factor by column n of the second: lane 4 n + n / 2 has them.
    const int n = lane >> 2;
    const bool has = (lane & 3) == n >> 1;
#if WHOLES
    int high[2][4] = {}, low[2][4] = {};
#pragma unroll
    for (int i = 0; i < CHUNKS / 2; ++i) {
      const uint4 stored = tile[i * 32], highs = x[i * 64], lows = x[i * 64 + 32];
      const uint4 w = make_uint4(stored.x ^ 0x80808080u, stored.y ^ 0x80808080u, stored.z ^ 0x80808080u,
                                 stored.w ^ 0x80808080u);  // without the 128
      multiply(high[0], w, highs.x, highs.z);
      multiply(high[1], w, highs.y, highs.w);
      multiply(low[0], w, lows.x, lows.z);
      multiply(low[1], w, lows.y, lows.w);
    }
    const int upper = n & 1 ? high[0][1] + high[1][3] : high[0][0] + high[1][2];
    const int lower = n & 1 ? low[0][1] + low[1][3] : low[0][0] + low[1][2];
    float sum = 256.f * (float)upper + (float)lower;
#else
    float d[4][4] = {};
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
      const uint4 w = tile[i * 32];
      multiply(d[i % 2 * 2], w, kept[i].x, kept[i].y);
      multiply(d[i % 2 * 2 + 1], w, kept[i].z, kept[i].w);
    }
    float sum = n & 1 ? d[0][1] + d[2][1] + d[1][3] + d[3][3] : d[0][0] + d[2][0] + d[1][2] + d[3][2];
#endif
    converge();
    if (lane == 0) arrive(&empty[slot * WARPS + warp]);
    if (!is_head) {
      if (has) part[off * 8 + n] = sum;
    } else {
      if (!has) sum = 0;
#pragma unroll
      for (int o = 16; o; o >>= 1) sum += of_lane_across(sum, o);
      if (lane == 0) part[off] = sum;
    }
    if (++slot == SLOTS) {
      slot = 0;
      parity ^= 1;
    }
  }
  if (lane == 0) turns[warp] = Turn{off - role.tiles, slot, parity};
  converge();
}

static_assert(HEAD <= WARPS * 32, "a warp for 32 numbers of a head");

// A row's products with the vector, of its PIECES in eight parts each, to all eight lanes that ask for the row.
template <int PIECES>
DEVICE float total_of(const float *part, int row) {
  float all = 0;
#pragma unroll
  for (int i = 0; i < PIECES; ++i) all += part[(row * PIECES + i) * 8 + (threadIdx.x & 7)];
#pragma unroll
  for (int o = 4; o; o >>= 1) all += of_lane_across(all, o);
  return all;
}

KERNEL((WARPS + FETCHERS) * 32) resident_layers(const Given passed) {
  SHARED(memory);
  char *ring = memory;
  u32 *vector = (u32 *)(ring + RING * SLOT);
  float *part = (float *)(vector + VECTOR_WORDS), *own = part + PART_FLOATS, *both_biased = own + OWN_FLOATS,
        *both_scaled = both_biased + 2 * BIAS_FLOATS, *both_lowered = both_scaled + 2 * SCALE_FLOATS,
        *query = both_lowered + 2 * LOWERED_FLOATS, *key = query + HEAD, *value = key + HEAD;
  u64 *full = (u64 *)(value + HEAD), *empty = full + RING, *matrices = empty + RING;
  Given *kept = (Given *)(matrices + 4 * LAYERS + 1);  // what is indexed would else be in slow, local memory
  const Given &given = *kept;
  Role *roles = (Role *)(kept + 1);
  Numbers *numbers = (Numbers *)(roles + PHASES);
  volatile int *begun = (volatile int *)(numbers + 1);  // phases whose products have
  const int tid = threadIdx.x, warp = tid >> 5, lane = tid & 31, program = blockIdx.x;

  if (tid == blockDim.x - 1) *kept = passed;
  if (tid < PHASES) {
    const int rows = rows_of(tid);
    const int width = tid == OF_OUT    ? ATTENDED
                      : tid == OF_DOWN ? INNER
                                       : WIDTH,
              together = tid == OF_MLP ? (GATED ? 4 : 2) : 1;
    const int begin = (int)((long long)(rows / together) * program / PROGRAMS) * together,
              end = (int)((long long)(rows / together) * (program + 1) / PROGRAMS) * together;
    const int pieces = CEIL(width, PIECE);
    roles[tid] = Role{
        begin, end - begin, (end - begin) * pieces, pieces, pieces == 1 ? 0 : ~0u / pieces + 1, width, rows,
    };
  }
  if (tid == 0) *begun = 0;
  for (int i = tid; i <= 4 * LAYERS; i += blockDim.x) matrices[i] = passed.matrices[i];
  for (int i = tid; i < RING; i += blockDim.x) {
    make(&full[i]);
    make(&empty[i]);
  }
  for (int i = tid; i < RING * SLOT / 16; i += blockDim.x)
    ((uint4 *)memory)[i] = make_uint4(0, 0, 0, 0);  // no NaNs beyond a row's end
  made();
  meet_all();
  if (warp >= WARPS) {
    if (lane == 0) fetch_all(given, roles, matrices, ring, full, empty, begun, warp - WARPS);
    return;
  }

  await_those_before();
  const int position = (int)*given.position;
  const u32 first = given.counts[0] * LAYERS + 1;
  const int own_begin = roles[OF_OUT].begin, own_rows = roles[OF_OUT].rows;
  for (int r = tid; r < own_rows; r += THREADS) own[r] = given.x[own_begin + r];
  if (lane == 0) numbers->turns[warp] = Turn{warp, 0, 0};
  converge();

#pragma unroll 1
  for (int phase = 0; phase <= 4 * LAYERS; ++phase) {
    const int layer = phase >> 2, kind = phase == 4 * LAYERS ? OF_HEAD : phase & 3;
    const u32 mark = (first + layer) & 1;
    const Role &role = roles[kind];
    STAMP(0)
    // What goes with a row, or null: here, but for the many of the output layer. Those of the phase before may still be
    // read.
    auto beside = [&](const float *const *all, float *both, int floats) -> float * {
      if ((floats == 0 && kind != OF_HEAD) || !all[kind]) return nullptr;
      return kind == OF_HEAD ? (float *)all[kind] + role.begin : both + (phase & 1) * floats;
    };
    auto bring = [&](const float *const *all, float *both, int floats) {
      float *here = beside(all, both, floats);
      if (!here || kind == OF_HEAD) return;
      const float *there = all[kind] + (long long)layer * role.all_rows + role.begin;
      for (int r = tid; r < role.rows; r += THREADS) here[r] = there[r];
    };
    bring(given.biases, both_biased, BIAS_FLOATS);
    bring(given.scales, both_scaled, SCALE_FLOATS);
    bring(given.lowered, both_lowered, LOWERED_FLOATS);
    if (kind == OF_OUT) {
      if (program < HEADS * SPLITS) attend(given, layer, position, mark, query, key, value, (float *)vector, numbers);
      STAMP(3)
      receive_attended(given, mark, vector, numbers);
    } else if (kind == OF_DOWN) {
      receive_inner(given, mark, vector, numbers);
    } else {
      const long long place = kind == OF_HEAD ? 2 * LAYERS : 2 * layer + (kind == OF_MLP);
      const u32 *words = phase == 0 ? nullptr : kind == OF_MLP ? given.between : given.after;
      if (kind == OF_HEAD) let_next_begin();
      receive_normed(given, words, kind == OF_MLP ? mark : mark ^ 1, given.gains + place * WIDTH,
                     given.shifts + place * WIDTH, vector, numbers);
    }
    if (tid == 0) *begun = phase + 1;
    STAMP(1)

    multiply_all(role, kind == OF_HEAD, ring, vector, part, full, empty, numbers->turns);
    meet();

    const int rows = role.rows;
    const float *biased = beside(given.biases, both_biased, BIAS_FLOATS),
                *scaled = beside(given.scales, both_scaled, SCALE_FLOATS),
                *lowered = beside(given.lowered, both_lowered, LOWERED_FLOATS);
    auto finished = [&](int r, float all) {
      const Rest &rest = numbers->rest;
      if (WHOLES) all *= rest.unit;
      if (lowered) all -= rest.mean * lowered[r];
      return all * (scaled ? rest.rate * scaled[r] : rest.rate) + (biased ? biased[r] : 0.f);
    };
    if (kind != OF_HEAD) {
      for (int at = 0; at < rows; at += THREADS / 8) {
        const int r = at + (tid >> 3), asked = min(r, rows - 1);
        const float all = finished(asked, kind == OF_DOWN  ? total_of<CEIL(INNER, PIECE)>(part, asked)
                                          : kind == OF_OUT ? total_of<CEIL(ATTENDED, PIECE)>(part, asked)
                                                           : total_of<CEIL(WIDTH, PIECE)>(part, asked));
        const float next = GATED && kind == OF_MLP ? of_lane_across(all, 8) : 1.f;  // gates and what they let through
        if (r >= rows || tid & 7) continue;
        if (kind == OF_QKV) {
          tell(given.qkv + role.begin + r, marked(all, mark));
        } else if (kind != OF_MLP) {
          own[r] += all;
          tell((kind == OF_OUT ? given.between : given.after) + own_begin + r, marked(own[r], mark));
        } else if (!GATED || r % 2 == 0) {
          tell(given.inner + (role.begin + r) / (GATED ? 2 : 1), marked(as_stored(activated(all) * next), mark));
        }
      }
    } else {
      long long best = -1ll << 63;
      for (int r = tid; r < rows; r += THREADS) {
        const int id = role.begin + r;
        float all = 0;
        for (int i = r * role.pieces; i < (r + 1) * role.pieces; ++i) all += part[i];
        float score = finished(r, all);
        if (given.seen && given.seen[id]) score = score < 0 ? score * given.penalty : score / given.penalty;
        given.scores[id] = score;
        const int bits = __float_as_int(score), key = bits ^ ((bits >> 31) & 0x7fffffff);
        const long long rank = (long long)key << 32 | (u32)(0x7fffffff - id);
        best = rank > best ? rank : best;
      }
      highest_of_warp(given.bests + (program * WARPS + warp) % GROUPS, best);
    }
    STAMP(2)
  }
  meet();
  if (tid == 0 && one_more(given.counts + 1) == PROGRAMS - 1) {
    given.counts[1] = 0;
    given.counts[0] += 1;
  }
}

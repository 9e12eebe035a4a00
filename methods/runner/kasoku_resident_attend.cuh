// Attention: of each head, a part of its positions by one program.

// A part of the positions of one head: the words of what it attends to, and of how much that weighs. `sums` and numbers
// are read at the end, so that threads meet before anything else comes there.
APART void attend(const Given &given, int layer, int position, u32 mark, float *query, float *key, float *value,
                  float *sums, Numbers *numbers) {
  const int program = blockIdx.x, tid = threadIdx.x, warp = tid >> 5, lane = tid & 31, group = lane / GROUP,
            dim = lane % GROUP * 8;
  const int head = program / SPLITS, shared = HEADS / KV_HEADS, of = head / shared;
  const int each = CEIL(position + 1, SPLITS), begin = program % SPLITS * each, end = min(position + 1, begin + each);
  const bool newest = position >= begin && position < end;
  unsigned short *keys = given.keys + ((u64)layer * KV_HEADS + of) * LENGTH * HEAD,
                 *values = given.values + ((u64)layer * KV_HEADS + of) * LENGTH * HEAD;
  uint4 k[TURNS], v[TURNS];  // the first ones before the query is there
  auto load = [&](int at) {
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
      const int i = at + turn * WARPS * AT_ONCE + group;
      if (i < end && i != position) {
        k[turn] = read16(keys + (u64)i * HEAD + dim);
        v[turn] = read16(values + (u64)i * HEAD + dim);
      }
    }
  };
  load(begin + warp * AT_ONCE);
  for (int t = tid; t < 2 * HEAD; t += THREADS) {  // pairs of the query's and the key's dimensions, and the values
    const bool is_query = t < HEAD / 2, is_value = t >= HEAD;
    if (!is_query && !newest) continue;
    const int d = is_value ? t - HEAD : t % (HEAD / 2);
    const u32 *words = given.qkv + (is_query ? head : is_value ? HEADS + KV_HEADS + of : HEADS + of) * HEAD + d;
    // Looked up before the words are there: afterwards all would wait for it.
    const bool turns = ROPE && !is_value;
    const float cosine = turns ? given.turn[d] : 1.f, sine = turns ? given.turn[HEAD + d] : 0.f;
    u32 first, second;
    do {
      first = look(words);
      second = is_value ? first : look(words + HEAD / 2);
    } while (((first ^ mark) | (second ^ mark)) & 1);
    float a = unmarked(first), b = unmarked(second);
    if (turns) {
      const float turned = a * cosine - b * sine;
      b = b * cosine + a * sine;
      a = turned;
    }
    if (is_query) {
      query[d] = a * given.scaling;
      query[d + HEAD / 2] = b * given.scaling;
      continue;
    }
    const u32 stored = packed(a, b);
    float *kept = is_value ? value : key;
    unsigned short *cache = (is_value ? values : keys) + (u64)position * HEAD + d;
    kept[d] = low(stored);
    if (!is_value) kept[d + HEAD / 2] = high(stored);
    if (head % shared == 0) {
      cache[0] = (unsigned short)stored;
      if (!is_value) cache[HEAD / 2] = (unsigned short)(stored >> 16);
    }
  }
  meet();
  float q[8], sum[8], peak = NOTHING, weight = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    q[i] = query[dim + i];
    sum[i] = 0;
  }
  for (int at = begin + warp * AT_ONCE; at < end; at += TURNS * WARPS * AT_ONCE) {
    float dot[TURNS], highest = peak;
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
      if (at + turn * WARPS * AT_ONCE + group == position) {
        const float *n = key + dim, *m = value + dim;
        k[turn] = make_uint4(packed(n[0], n[1]), packed(n[2], n[3]), packed(n[4], n[5]), packed(n[6], n[7]));
        v[turn] = make_uint4(packed(m[0], m[1]), packed(m[2], m[3]), packed(m[4], m[5]), packed(m[6], m[7]));
      }
      const uint4 w = k[turn];
      dot[turn] = q[0] * low(w.x) + q[1] * high(w.x) + q[2] * low(w.y) + q[3] * high(w.y) + q[4] * low(w.z) +
                  q[5] * high(w.z) + q[6] * low(w.w) + q[7] * high(w.w);
    }
#pragma unroll
    for (int o = GROUP / 2; o; o >>= 1) {
#pragma unroll
      for (int turn = 0; turn < TURNS; ++turn) dot[turn] += of_lane_across(dot[turn], o);
    }
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
      if (at + turn * WARPS * AT_ONCE + group >= end) dot[turn] = NOTHING;
      highest = fmaxf(highest, dot[turn]);
    }
    const float old = __expf(peak - highest);
    weight *= old;
    peak = highest;
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] *= old;
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn)
      if (at + turn * WARPS * AT_ONCE + group < end) {
        const float p = __expf(dot[turn] - highest);
        const uint4 w = v[turn];
        weight += p;
        sum[0] += p * low(w.x);
        sum[1] += p * high(w.x);
        sum[2] += p * low(w.y);
        sum[3] += p * high(w.y);
        sum[4] += p * low(w.z);
        sum[5] += p * high(w.z);
        sum[6] += p * low(w.w);
        sum[7] += p * high(w.w);
      }
    if (at + TURNS * WARPS * AT_ONCE < end) load(at + TURNS * WARPS * AT_ONCE);
  }
#pragma unroll
  for (int o = GROUP; o < 32; o <<= 1) {  // the groups of a warp
    const float theirs = of_lane_across(peak, o), highest = fmaxf(peak, theirs), mine = __expf(peak - highest),
                other = __expf(theirs - highest);
    weight = weight * mine + of_lane_across(weight, o) * other;
    peak = highest;
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] = sum[i] * mine + of_lane_across(sum[i], o) * other;
  }
  if (group == 0) {
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[warp * HEAD + dim + i] = sum[i];
    if (dim == 0) {
      numbers->sums[warp] = peak;
      numbers->more[warp] = weight;
    }
  }
  meet();
  if (warp < HEAD / 32) {  // the warps: each lane weighs one
    const float own = lane < WARPS ? numbers->sums[lane] : NOTHING;
    float highest = own;
#pragma unroll
    for (int o = 16; o; o >>= 1) highest = fmaxf(highest, of_lane_across(highest, o));
    const float share = lane < WARPS ? __expf(own - highest) : 0.f;
    float all = lane < WARPS ? share * numbers->more[lane] : 0.f, total = 0;
#pragma unroll
    for (int o = 16; o; o >>= 1) all += of_lane_across(all, o);
    const int d = warp * 32 + lane;
#pragma unroll
    for (int i = 0; i < WARPS; ++i) total += of_lane(share, i) * sums[i * HEAD + d];
    const float mean = all > 0 ? total / all : 0.f;
    tell(given.attended + program * HEAD + d, marked(SPLITS == 1 ? as_stored(mean) : mean, mark));
    if (SPLITS > 1 && d == 0)
      tell(given.attended + HEADS * SPLITS * HEAD + program, marked(all > 0 ? highest + __logf(all) : NOTHING, mark));
  }
}

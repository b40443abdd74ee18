// softmax(q k') v for 32 queries of one head of 64 dimensions, over KEYS_AT_ONCE pairs of tiles of keys at a time, so
// that scores stay in the first cache (with the running maximum of FlashAttention, arXiv 2205.14135).
// Layouts: queries A [2 tiles of rows][2 of k]; keys B [tile of keys][2 of k]; values B [pair of tiles of keys][4].
#pragma once

#include "products.h"

constexpr int KEYS_AT_ONCE = 6;

struct Attention {
  static constexpr int ROW = KEYS_AT_ONCE * 32;  // scores of a query
  alignas(64) float scores[32 * ROW];
  alignas(64) float out[2 * PAIR];  // 32 queries by 64 dimensions: two pairs by pairs
  alignas(64) float tops[32], totals[32], factors[32];
  alignas(64) bf16 weights[KEYS_AT_ONCE * PAIR];  // A

  // q is scaled: weights are powers of 2. Leaves `out`, to be divided by `totals`; gives the products of tiles.
  int64_t run(const bf16* q, const bf16* k, const bf16* v, int keys) {
    for (int i = 0; i < 32; i++) tops[i] = -1e30f, totals[i] = 0;
    int64_t products = 0;
    for (int pair = 0; 32 * pair < keys; pair += KEYS_AT_ONCE) {
      int left = keys - 32 * pair, count = ceil_div(left, 32) < KEYS_AT_ONCE ? ceil_div(left, 32) : KEYS_AT_ONCE;
      score(q, k + size_t(pair) * 4 * TILE, count);
      if (left < 32 * count) hide(left, count);
      weigh(count);
      if (pair) rescale();
      for (int half = 0; half < 2; half++) mix(v + (size_t(pair) * 4 + 2 * half) * TILE, count, half, pair > 0);
      products += int64_t(16) * count;
    }
    return products;
  }

 private:
  void score(const bf16* q, const bf16* k, int count) {
    MEMORY_SETTLED();
    for (int j = 0; j < count; j++, k += 4 * TILE) {
      float* to = scores + 32 * j;
      TILE_ZERO(0); TILE_ZERO(1); TILE_ZERO(2); TILE_ZERO(3);
      for (int half = 0; half < 2; half++) {
        TILE_LOAD(4, q + half * TILE, 64); TILE_LOAD(5, q + (2 + half) * TILE, 64);
        TILE_LOAD(6, k + half * TILE, 64); TILE_LOAD(7, k + (2 + half) * TILE, 64);
        products_of_pairs();
      }
      TILE_STORE(0, to, ROW * 4); TILE_STORE(1, to + 16, ROW * 4);
      TILE_STORE(2, to + 16 * ROW, ROW * 4); TILE_STORE(3, to + 16 * ROW + 16, ROW * 4);
    }
    MEMORY_SETTLED();
  }

  // Keys from `left` on, all in the last pair, are behind the utterance and weigh nothing
  void hide(int left, int count) {
    int last = 32 * (count - 1);
    Floats limits[2];
    for (int j = 0; j < 32; j++) limits[j / 16][j % 16] = last + j < left ? INFINITY : -1e30f;
    for (int i = 0; i < 64; i++) {
      float* edge = scores + i / 2 * ROW + last + i % 2 * 16;
      store(edge, least(load(edge), limits[i % 2]));
    }
  }

  // Scores -> weights, relative to the largest score so far, and the factors that what came before has to be scaled by
  void weigh(int count) {
    alignas(64) float largest_now[32];
    for (int i = 0; i < 32; i++) {
      Floats top = load(scores + i * ROW);
      for (int j = 16; j < 32 * count; j += 16) top = most(top, load(scores + i * ROW + j));
      largest_now[i] = largest(top);
    }
    for (int i = 0; i < 32; i += 16) {
      Floats before = load(tops + i), now = most(before, load(largest_now + i));
      store(tops + i, now);
      store(factors + i, exp2(before - now));
    }
    for (int i = 0; i < 32; i++) {
      Floats total = {}, top = all(tops[i]);
      for (int j = 0; j < count; j++) {
        const float* at = scores + i * ROW + 32 * j;
        Floats first = exp2(load(at) - top), second = exp2(load(at + 16) - top);
        total += first + second;
        store_bf16(weights + size_t(j) * PAIR + i / 16 * TILE + i % 16 * 32, first, second);
      }
      totals[i] = totals[i] * factors[i] + sum(total);
    }
  }

  void rescale() {
    for (int i = 0; i < 32; i++)
      if (factors[i] != 1.0f)
        for (int part = 0; part < 4; part++) {
          float* at = out + part / 2 * PAIR + i / 16 * 512 + part % 2 * 256 + i % 16 * 16;
          store(at, load(at) * factors[i]);
        }
  }

  // Adds the weights times 32 dimensions of the values
  void mix(const bf16* v, int count, int half, bool more) {
    const bf16* a = weights;
    MEMORY_SETTLED();
    sums_begin(out + half * PAIR, more);
    for (int j = 0; j < count; j++, a += PAIR, v += 4 * TILE) {
      TILE_LOAD(4, a, 64); TILE_LOAD(5, a + TILE, 64); TILE_LOAD(6, v, 64); TILE_LOAD(7, v + TILE, 64);
      products_of_pairs();
    }
    sums_end(out + half * PAIR);
    MEMORY_SETTLED();
  }
};

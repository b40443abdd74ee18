// Matrix products in tiles, shared by a team of threads. A "pair" is two tiles side by side: 32 rows of A, 32 columns
// of B, 32 x 32 sums. Layouts, k in tiles of 32:
//   A     [pair of rows][k][2][16 rows][32]
//   B     [pair of columns][k][2][16 pairs of k][16 columns][2]
//   sums  [tile of rows][tile of columns][16][16]
// Of bytes, a tile holds 64 of k in the same memory, B four neighbours instead of two, and sums are 32-bit integers.
#pragma once

#include "vectors.h"

constexpr int K_BLOCK = 8;    // tiles of k at a time: 16 KiB of B stay in the first cache
constexpr int K_CHUNK = 32;   // tiles of k of which A, by PAIRS_AT_ONCE pairs of rows, stays in the second cache
constexpr int PAIRS_AT_ONCE = 24, PAIRS_AT_LEAST = 6;

static inline int ceil_div(int64_t n, int64_t by) { return int((n + by - 1) / by); }

// Tiles of k in each of as few even parts as fit the second cache
static inline int even_chunk(int num_k) { return ceil_div(num_k, ceil_div(num_k, K_CHUNK)); }

static inline size_t team_scratch_bytes() { return (PAIRS_AT_ONCE + 1) * PAIR * sizeof(float); }

// One thread's view of the team: its own scratch memory, and the products of tiles that it has done
struct Team {
  int index, size;
  char* scratch;
  int64_t products = 0, byte_products = 0;

  // This thread's part of `count` tasks
  int begin(int count) const { return int(int64_t(count) * index / size); }
  int end(int count) const { return int(int64_t(count) * (index + 1) / size); }
  template <class Task>
  void share(int count, Task task) const {
    for (int i = begin(count); i < end(count); i++) task(i);
  }
  // Into how many blocks of rows a product is cut. Rows stay with a thread, and so in its cache, from stage to stage;
  // but each block reads all weights, so none should be small.
  int blocks(int num_pairs) const {
    int fewest = ceil_div(num_pairs, PAIRS_AT_ONCE), even = ceil_div(fewest, size) * size;
    return num_pairs / even >= PAIRS_AT_LEAST ? even : fewest;
  }
  void meet() const {
#pragma omp barrier
  }
};

// Tiles 0 to 3 hold the sums of a pair by a pair
static inline void sums_begin(const float* sums, bool more) {
  if (more) {
    TILE_LOAD(0, sums, 64); TILE_LOAD(1, sums + 256, 64); TILE_LOAD(2, sums + 512, 64); TILE_LOAD(3, sums + 768, 64);
  } else {
    TILE_ZERO(0); TILE_ZERO(1); TILE_ZERO(2); TILE_ZERO(3);
  }
}

static inline void sums_end(float* sums) {
  MEMORY_SETTLED();  // what was read of these sums before
  TILE_STORE(0, sums, 64); TILE_STORE(1, sums + 256, 64); TILE_STORE(2, sums + 512, 64); TILE_STORE(3, sums + 768, 64);
}

// Tiles 4, 5 of rows by tiles 6, 7 of columns, added to the sums
static inline void products_of_pairs() {
  TILE_PRODUCT(0, 4, 6); TILE_PRODUCT(1, 4, 7); TILE_PRODUCT(2, 5, 6); TILE_PRODUCT(3, 5, 7);
}

enum Kind { BFLOAT16, BYTES };
#define TILE_PRODUCT_OF(kind, sum, a, b) \
  do {                                   \
    if constexpr ((kind) == BYTES)       \
      TILE_BYTE_PRODUCT(sum, a, b);      \
    else                                 \
      TILE_PRODUCT(sum, a, b);           \
  } while (0)

// A pair of rows of A. row_bytes: from one row to the next; tile, k: values from the first tile of rows to the second,
// and to the next k.
struct Operand {
  const bf16* at;
  long row_bytes, tile, k;
};

// sums (+)= A B for a pair of rows and a pair of columns; sums: 4 tiles (row tile, column tile) of 16 x 16.
// between(k): what else to do at each of num_k steps, while the tiles are busy.
template <Kind kind, class Between>
inline void product(Operand a, const bf16* b, int num_k, float* sums, bool more, Between between) {
  MEMORY_SETTLED();
  sums_begin(sums, more);
  for (int k = 0; k < num_k; k++) {
    TILE_LOAD(4, a.at, a.row_bytes); TILE_LOAD(6, b, 64);
    TILE_PRODUCT_OF(kind, 0, 4, 6);
    TILE_LOAD(7, b + TILE, 64);
    TILE_PRODUCT_OF(kind, 1, 4, 7);
    TILE_LOAD(5, a.at + a.tile, a.row_bytes);
    TILE_PRODUCT_OF(kind, 2, 5, 6);
    TILE_PRODUCT_OF(kind, 3, 5, 7);
    between(k);
    a.at += a.k; b += PAIR;
  }
  sums_end(sums);
  MEMORY_SETTLED();
}

struct Rows {
  const bf16* at;  // A
  int pairs;
};

struct Columns {
  const bf16* at;  // B
  int pairs;
};

// What one has to be done with once it is multiplied: row `i` of a pair of rows m by a pair of columns n
struct Finished {
  int m = 0, n = 0, i = 32;
  const float* sums = nullptr;
  bool begins = false;  // the sums are over the first chunk of k
};

// A times B: finish(Finished) for each row of each pair, in order; for one pair while the tiles multiply the next.
// chunk: over how many tiles of k the sums go at a time; less than num_k only where finish is linear in them.
template <Kind kind, class Finish>
void multiply(Team& team, Rows A, Columns B, int num_k, int chunk, Finish finish) {
  int blocks = team.blocks(A.pairs);
  float* kept = (float*)team.scratch;
  Finished last;
  auto finish_until = [&](int row) {
    for (; last.i < row; last.i++) finish(last);
  };
  for (int from_k = 0; from_k < num_k; from_k += chunk) {
    int to_k = from_k + chunk < num_k ? from_k + chunk : num_k;
    bool at_once = to_k - from_k <= K_BLOCK;
    team.share(blocks * B.pairs, [&](int task) {
      int block = task / B.pairs, n = task % B.pairs;
      int begin = A.pairs * block / blocks, end = A.pairs * (block + 1) / blocks;
      for (int k = from_k; k < to_k; k += K_BLOCK) {
        int count = k + K_BLOCK < to_k ? K_BLOCK : to_k - k;
        const bf16* b = B.at + (size_t(n) * num_k + k) * PAIR;
        const char* ahead = (const char*)(b + size_t(K_BLOCK) * PAIR);
        int lines = ceil_div(K_BLOCK * PAIR * 2 / 64, (end - begin) * count);
        for (int m = begin; m < end; m++) {
          float* sums = kept + (at_once ? m % 2 : m - begin) * PAIR;
          Operand a{A.at + (size_t(m) * num_k + k) * PAIR, 64, TILE, PAIR};
          product<kind>(a, b, count, sums, k > from_k, [&](int step) {
            for (int line = 0; line < lines; line++, ahead += 64) prefetch(ahead);
            finish_until(32 * (step + 1) / count);
          });
          if (k + count == to_k) last = {m, n, 0, sums, from_k == 0};
        }
        (kind == BYTES ? team.byte_products : team.products) += int64_t(4) * count * (end - begin);
      }
    });
  }
  finish_until(32);
}

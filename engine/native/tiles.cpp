// What engine/native/library.py calls.

#include <omp.h>

#include "evaluation.h"

struct Product {
  const bf16 *A, *B;
  float* sums;  // [pair of rows][pair of columns][2][2][16][16]
  int64_t pairs, columns, num_k, threads, bytes;  // bytes: 1 where A and B are, and the sums 32-bit integers
  char* scratch;  // product_scratch_bytes() for each thread
};

extern "C" {

// 1 where this process may use the tiles
int tiles_ready() { return tiles_allowed(); }

int64_t workspace_bytes(const Model* m, const Batch* b) {
  return int64_t(Workspace(*m, *b, Sizes(*m, *b), nullptr).total_bytes);
}

// x (B, N, D), modulation (L, 6, C), last (2, C) -> velocity (R, N, D), all float32. Leaves in the batch what was done.
void evaluate(const Model* m, Batch* b, const float* x, const float* modulation, const float* last, float* velocity) {
  Sizes s(*m, *b);
  const Evaluation evaluation{{*m, *b, s, Workspace(*m, *b, s, (char*)b->workspace)}};
  const Workspace& w = evaluation.w;
  int64_t products = 0, byte_products = 0;
#pragma omp parallel num_threads(int(b->threads)) reduction(+ : products, byte_products)
  {
    int thread = omp_get_thread_num();
    Team team{thread, omp_get_num_threads(), w.threads + w.thread_bytes * thread};
    if (thread == 0) b->team = team.size;
    tiles_on();
    evaluation.run(team, x, modulation, last, velocity);
    tiles_off();
    products += team.products;
    byte_products += team.byte_products;
  }
  b->products = products;
  b->byte_products = byte_products;
}

int64_t product_scratch_bytes() { return int64_t(team_scratch_bytes()); }

void multiply_tiles(const Product* p) {
#pragma omp parallel num_threads(int(p->threads))
  {
    int thread = omp_get_thread_num(), num_k = int(p->num_k);
    Team team{thread, omp_get_num_threads(), p->scratch + team_scratch_bytes() * thread};
    auto finish = [&](const Finished& f) {
      for (int side = 0; side < 2; side++) {
        size_t at = (f.i / 16 * 2 + side) * 256 + f.i % 16 * 16;
        float* to = p->sums + (size_t(f.m) * p->columns + f.n) * PAIR + at;
        store(to, f.begins ? load(f.sums + at) : load(to) + load(f.sums + at));
      }
    };
    tiles_on();
    Rows A{p->A, int(p->pairs)};
    Columns B{p->B, int(p->columns)};
    if (p->bytes)
      multiply<BYTES>(team, A, B, num_k, num_k, finish);
    else
      multiply<BFLOAT16>(team, A, B, num_k, even_chunk(num_k), finish);
    tiles_off();
  }
}
}

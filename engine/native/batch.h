// What Python hands over (engine/native/library.py has the same structures), and where everything lies while one
// evaluation runs. Shape letters: R rows, N frames, T = ceil(N / 16) tiles of frames a row, C width, H heads of 64
// dimensions, D mel bins.
#pragma once

#include "attention.h"

constexpr int TAPS = 31, PAD = TAPS / 2, GROUPS = 16;

struct BlockWeights {
  const bf16 *qkv, *out, *ff_in, *ff_out;  // B
  const float *qkv_bias, *out_bias, *ff_in_bias, *ff_out_bias;
  const float *qkv_scales, *out_scales, *ff_in_scales, *ff_out_scales;  // of each column's bytes; null for bfloat16
};

// One of these four; num_k: tiles of k in bfloat16
struct Layer {
  const bf16* weight;
  const float *bias, *scales;
  int columns, num_k;
};

struct Model {
  int64_t width, heads, hidden, depth, bins, rotated_heads;
  const bf16 *x_proj, *conv1, *conv2, *proj_out;  // B; of a convolution one for each group
  const float *conv2_bias, *proj_out_bias;        // the latter padded to a multiple of 32
  const BlockWeights* blocks;
};

struct Batch {
  int64_t utterances, rows, frames, threads;
  int64_t team, products, byte_products;  // written: threads that shared the work, products of tiles by kind
  const int64_t* lengths;              // of each utterance
  const float *cos, *sin;              // (16 T, 32)
  const float *projected, *convolved;  // (R T, C / 16, 16, 16)
  void* workspace;  // of workspace_bytes(), zeroed for every new shape: no padding is written that is read
};

struct Sizes {
  int tiles, key_pairs, pairs, input_pairs, conv_rows, channels;
  Sizes(const Model& m, const Batch& b)
      : tiles(ceil_div(b.frames, 16)), key_pairs(ceil_div(tiles, 2)), pairs(ceil_div(b.rows * tiles, 2)),
        input_pairs(ceil_div(b.utterances * tiles, 2)), conv_rows(key_pairs * 32 + 2 * PAD + 2),
        channels(int(m.width) / GROUPS) {}
};

struct Workspace {
  float *x, *noise;                     // [tile of frames][C / 16][16 frames][16 channels]
  bf16 *input, *h, *mixed, *grown;      // A
  bf16* bytes;                          // A of bytes: of one of the last three, where a layer's weights are bytes
  float* row_scales;                    // of them
  bf16 *conv_in, *conv_mid;             // [utterance or row][group][conv_rows][channels]
  bf16 *q, *k, *v;                      // [head][tile of frames][2]; [row][head][pair of tiles of frames][4]
  char* threads;
  size_t thread_bytes, total_bytes;

  Workspace(const Model& m, const Batch& b, const Sizes& s, char* base) {
    size_t used = 0, rows = size_t(s.pairs) * 32, in_rows = size_t(s.input_pairs) * 32;
    auto take = [&](size_t size) {
      char* at = base + used;
      used += (size + 63) / 64 * 64;
      return at;
    };
    auto values = [&](size_t count) { return (bf16*)take((count + 2 * PAIR) * 2); };  // pairs are read
    size_t conv = size_t(GROUPS) * s.conv_rows * s.channels, inner = size_t(m.heads) * 64;
    x = (float*)take(rows * m.width * 4);
    noise = (float*)take(in_rows * m.width * 4);
    input = values(in_rows * ceil_div(m.bins, 32) * 32);
    h = values(rows * m.width);
    mixed = values(rows * inner);
    grown = values(rows * m.hidden);
    size_t widest = inner > size_t(m.hidden) ? inner : size_t(m.hidden);
    widest = widest > size_t(m.width) ? widest : size_t(m.width);
    bytes = values(m.blocks->qkv_scales ? rows * widest / 2 : 0);
    row_scales = (float*)take(rows * 4);
    conv_in = values(b.utterances * conv);
    conv_mid = values(b.rows * conv);
    q = values(rows * inner);
    k = values(rows * inner);
    v = values(size_t(b.rows) * m.heads * s.key_pairs * 4 * TILE);
    thread_bytes = ceil_div(team_scratch_bytes() + sizeof(Attention), 64) * 64;
    threads = take(thread_bytes * b.threads);
    total_bytes = used;
  }
};

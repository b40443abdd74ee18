// Where one evaluation's values lie, and its layers' products.

#pragma once

#include "batch.h"

struct Places {
  const Model& m;
  const Batch& b;
  const Sizes s;
  const Workspace w;

  int heads() const { return int(m.heads); }
  int valid(int row) const { return int(b.lengths[row % b.utterances]); }
  int k_tiles() const { return int(m.width) / 32; }

  // Where a tile of frames and 16 channels begin in what stays float32
  size_t place(int tile, int channel) const { return (size_t(tile) * m.width + channel) * 16; }

  // Where 16 rows of an A operand of `num_k` tiles of k begin at tile k
  static bf16* a_tile(bf16* A, int tile, int num_k, int k) {
    return A + (size_t(tile / 2) * num_k + k) * PAIR + tile % 2 * TILE;
  }

  // 16 columns of a finished row, and the tile of rows that it lies in
  static Floats sums_row(const float* sums, int i, int side) {
    return load(sums + (i / 16 * 2 + side) * 256 + i % 16 * 16);
  }
  static Floats columns(const Finished& f, int side) { return sums_row(f.sums, f.i, side); }

  // The same of a layer's product, whose sums may be of bytes
  Floats columns(const Layer& layer, const Finished& f, int side) const {
    if (!layer.scales) return columns(f, side);
    Floats sums = load_integers(f.sums + (f.i / 16 * 2 + side) * 256 + f.i % 16 * 16);
    return sums * (w.row_scales[32 * f.m + f.i] * load(layer.scales + 32 * f.n + 16 * side));
  }

  Layer qkv(const BlockWeights& l) const { return {l.qkv, l.qkv_bias, l.qkv_scales, 6 * heads(), k_tiles()}; }
  Layer out(const BlockWeights& l) const { return {l.out, l.out_bias, l.out_scales, k_tiles(), 2 * heads()}; }
  Layer ff_in(const BlockWeights& l) const {
    return {l.ff_in, l.ff_in_bias, l.ff_in_scales, int(m.hidden) / 32, k_tiles()};
  }
  Layer ff_out(const BlockWeights& l) const {
    return {l.ff_out, l.ff_out_bias, l.ff_out_scales, k_tiles(), int(m.hidden) / 32};
  }

  // A layer's product by what it takes: A, or what was made of it by `narrow`. In chunks of k where finish is linear.
  template <class Finish>
  void apply(Team& team, const Layer& layer, const bf16* A, bool linear, Finish finish) const {
    int num_k = layer.scales ? layer.num_k / 2 : layer.num_k;
    int chunk = linear ? even_chunk(num_k) : num_k;
    if (layer.scales)
      multiply<BYTES>(team, {w.bytes, s.pairs}, {layer.weight, layer.columns}, num_k, chunk, finish);
    else
      multiply<BFLOAT16>(team, {A, s.pairs}, {layer.weight, layer.columns}, num_k, chunk, finish);
  }

  // A -> bytes, each row scaled by its largest value; nothing where the layer takes bfloat16. A row with a value that
  // is not finite gets a scale that is none, so that the layer's answer shows it.
  void narrow(Team& team, const Layer& layer, bf16* A) const {
    if (!layer.scales) return;
    team.share(num_tiles(), [&](int tile) {
      for (int i = 0; i < 16; i++) {
        Halves tops = {};
        for (int k = 0; k < layer.num_k; k++) tops = most(tops, magnitudes(a_tile(A, tile, layer.num_k, k) + 32 * i));
        float top = largest(tops), factor = std::isfinite(top) ? 127.0f / std::fmax(top, 1e-30f) : 0.0f;
        w.row_scales[16 * tile + i] = std::isfinite(top) ? std::fmax(top, 1e-30f) / 127.0f : NAN;
        for (int k = 0; k < layer.num_k; k++)
          for (int side = 0; side < 2; side++) {
            Floats v = load_bf16(a_tile(A, tile, layer.num_k, k) + 32 * i + 16 * side);
            int8_t* to = (int8_t*)(a_tile(w.bytes, tile, layer.num_k / 2, k / 2) + 32 * i);
            store_bytes(to + k % 2 * 32 + 16 * side, v * factor);
          }
      }
    });
    team.meet();
  }

  static int tile_of(const Finished& f) { return 2 * f.m + f.i / 16; }
  int num_tiles() const { return int(b.rows) * s.tiles; }

  bf16* conv_place(bf16* base, int row, int channel, int frame) const {
    size_t group = size_t(row) * GROUPS + channel / s.channels;
    return base + (group * s.conv_rows + frame + PAD) * s.channels + channel % s.channels;
  }

  size_t head_tile(int head, int tile) const { return (size_t(head) * 2 * s.pairs + tile) * 2 * TILE; }

  bf16* values_tile(int row, int head, int key_pair) const {
    return w.v + ((size_t(row) * m.heads + head) * s.key_pairs + key_pair) * 4 * TILE;
  }
};

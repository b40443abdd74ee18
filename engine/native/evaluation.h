// The DiT's evaluation for CPUs that multiply bfloat16 in tiles (AMX): DiTStep.forward of engine/step/dit.py in one.
//
// Sums, normalisation, softmax and the residual stream are float32; what enters a matrix product is rounded to
// bfloat16. Each stage's end writes the tiles that the next stage's products load, so nothing is rearranged in between,
// and rows stay with a thread from stage to stage. Shape letters as in batch.h.

#pragma once

#include "places.h"

struct Evaluation : Places {
  // x (B, N, D) -> A, rounded; zero beyond an utterance's end
  void take_input(Team& team, const float* x) const {
    int num_k = ceil_div(m.bins, 32);
    team.share(int(b.utterances) * s.tiles, [&](int tile) {
      int utterance = tile / s.tiles;
      for (int i = 0; i < 16; i++) {
        int frame = tile % s.tiles * 16 + i;
        for (int k = 0; k < num_k; k++) {
          alignas(64) float values[32] = {};
          int count = m.bins - 32 * k < 32 ? int(m.bins) - 32 * k : 32;
          const float* from = x + (size_t(utterance) * b.frames + frame) * m.bins + 32 * k;
          if (frame < valid(utterance)) memcpy(values, from, count * 4);
          store_bf16(a_tile(w.input, tile, num_k, k) + 32 * i, load(values), load(values + 16));
        }
      }
    });
  }

  // The noise's share of the input projection, kept in float32 and, rounded, laid out for the first convolution
  void project_input(Team& team) const {
    auto finish = [&](const Finished& f) {
      int tile = tile_of(f), row = f.i % 16, utterance = tile / s.tiles, frame = tile % s.tiles * 16 + row;
      if (utterance >= b.utterances) return;
      for (int side = 0; side < 2; side++) {
        int channel = 32 * f.n + 16 * side;
        store(w.noise + place(tile, channel) + row * 16, columns(f, side));
        store_bf16(conv_place(w.conv_in, utterance, channel, frame), columns(f, side));
      }
    };
    int num_k = ceil_div(m.bins, 32);
    multiply<BFLOAT16>(team, {w.input, s.input_pairs}, {m.x_proj, k_tiles()}, num_k, num_k, finish);
  }

  // A grouped convolution as products: 32 values of k are neighbours in memory, over channels, then over taps.
  // finish(row, frame, channel, 16 sums)
  template <class Finish>
  void convolve(Team& team, bf16* in, int rows, const bf16* weight, Finish finish) const {
    int num_k = ceil_div(TAPS * s.channels, 32), panels = ceil_div(s.channels, 32);
    alignas(64) float sums[PAIR];
    team.share(rows * GROUPS * panels, [&](int task) {
      int row = task / panels / GROUPS, group = task / panels % GROUPS, n = task % panels;
      const bf16* B = weight + (size_t(group) * panels + n) * num_k * PAIR;
      for (int pair = 0; pair < s.key_pairs; pair++) {
        const bf16* A = conv_place(in, row, group * s.channels, 32 * pair - PAD);
        product<BFLOAT16>({A, s.channels * 2, 16 * s.channels, 32}, B, num_k, sums, false, [](int) {});
        for (int i = 0; i < 32 && 2 * pair + i / 16 < s.tiles; i++)
          for (int side = 0; side < 2 && 32 * n + 16 * side < s.channels; side++)
            finish(row, 32 * pair + i, group * s.channels + 32 * n + 16 * side, sums_row(sums, i, side));
      }
      team.products += int64_t(4) * num_k * s.key_pairs;
    });
  }

  void convolve_first(Team& team) const {
    convolve(team, w.conv_in, int(b.utterances), m.conv1, [&](int utterance, int frame, int channel, Floats value) {
      for (int row = utterance; row < b.rows; row += int(b.utterances)) {
        const float* constant = b.convolved + place(row * s.tiles + frame / 16, channel) + frame % 16 * 16;
        Floats out = frame < valid(row) ? mish(value + load(constant)) : all(0.0f);
        store_bf16(conv_place(w.conv_mid, row, channel, frame), out);
      }
    });
  }

  void convolve_second(Team& team) const {
    convolve(team, w.conv_mid, int(b.rows), m.conv2, [&](int row, int frame, int channel, Floats value) {
      int utterance = row % int(b.utterances), within = frame % 16 * 16;
      size_t at = place(row * s.tiles + frame / 16, channel) + within;
      Floats out = mish(value + load(m.conv2_bias + channel)) + load(b.projected + at);
      store(w.x + at, out + load(w.noise + place(utterance * s.tiles + frame / 16, channel) + within));
    });
  }

  // Layer normalisation, scaled and shifted: x -> A, rounded
  void normalise(Team& team, const float* scale, const float* shift) const {
    int width = int(m.width);
    team.share(num_tiles(), [&](int tile) {
      const float* x = w.x + place(tile, 0);
      Floats mean[16] = {}, factor[16] = {};
      for (int c = 0; c < width; c += 16)
        for (int i = 0; i < 16; i++) mean[i] += load(x + 16 * c + 16 * i);
      for (int i = 0; i < 16; i++) mean[i] = all(sum(mean[i]) / width);
      for (int c = 0; c < width; c += 16)
        for (int i = 0; i < 16; i++) {
          Floats apart = load(x + 16 * c + 16 * i) - mean[i];
          factor[i] += apart * apart;
        }
      for (int i = 0; i < 16; i++) factor[i] = all(1.0f / std::sqrt(sum(factor[i]) / width + 1e-6f));
      for (int c = 0; c < width; c += 32) {
        bf16* to = a_tile(w.h, tile, k_tiles(), c / 32);
        Floats scales[2] = {load(scale + c), load(scale + c + 16)}, shifts[2] = {load(shift + c), load(shift + c + 16)};
        for (int i = 0; i < 16; i++) {
          Floats first = (load(x + 16 * c + 16 * i) - mean[i]) * factor[i] * scales[0] + shifts[0];
          Floats second = (load(x + 16 * c + 256 + 16 * i) - mean[i]) * factor[i] * scales[1] + shifts[1];
          store_bf16(to + 32 * i, first, second);
        }
      }
    });
  }

  // Queries (scaled for powers of 2) as A, keys and values as B of the products of attention. A pair of columns of a
  // query or key holds 16 first halves of RoPE's pairs beside their second halves (rope_beside in Python).
  void project_qkv(Team& team, const Layer& layer) const {
    const int per_kind = 2 * heads();
    const float query_scale = LOG2_E / 8;
    uint32_t* keys = (uint32_t*)(team.scratch + PAIRS_AT_ONCE * PAIR * 4);  // of the tile being finished
    auto finish = [&](const Finished& f) {
      int kind = f.n / per_kind, head = f.n % per_kind / 2, half = f.n % 2, tile = tile_of(f), row = f.i % 16;
      const float* bias = layer.bias + 32 * f.n;
      if (tile >= num_tiles()) return;
      if (kind == 2) {
        if (row % 2) take_values(layer, f, tile, head, half);
        return;
      }
      Floats first = columns(layer, f, 0) + load(bias), second = columns(layer, f, 1) + load(bias + 16);
      if (head < m.rotated_heads) {
        size_t at = (size_t(tile % s.tiles) * 16 + row) * 32 + 16 * half;
        Floats cos = load(b.cos + at), sin = load(b.sin + at), turned = first * cos - second * sin;
        second = second * cos + first * sin;
        first = turned;
      }
      size_t to = head_tile(head, tile) + half * TILE;
      if (kind == 0) return store_bf16(w.q + to + 32 * row, first * query_scale, second * query_scale);
      store_bf16((bf16*)(keys + 16 * row), first, second);
      if (row == 15) transpose(keys, (uint32_t*)(w.k + to));
    };
    apply(team, layer, w.h, false, finish);
  }

  // This frame of a head's values and the one before it, side by side, 32 dimensions
  void take_values(const Layer& layer, const Finished& f, int tile, int head, int half) const {
    int row = tile / s.tiles, within = tile % s.tiles;
    Finished before = f;
    before.i--;
    for (int side = 0; side < 2; side++) {
      bf16* to = values_tile(row, head, within / 2) + (2 * half + side) * TILE + within % 2 * (TILE / 2);
      Floats shift = load(layer.bias + 32 * f.n + 16 * side);
      Words even = rounded(columns(layer, before, side) + shift), odd = rounded(columns(layer, f, side) + shift);
      Words both = even | (odd << 16);
      memcpy(to + 16 * (before.i % 16), &both, 64);
    }
  }

  // One task: 32 queries of one head of one row
  void attend(Team& team) const {
    Attention& attention = *(Attention*)(team.scratch + team_scratch_bytes());
    team.share(int(b.rows * m.heads) * s.key_pairs, [&](int task) {
      int row = task / s.key_pairs / heads(), head = task / s.key_pairs % heads();
      int first = task % s.key_pairs * 2, begin = row * s.tiles;
      const bf16 *q = w.q + head_tile(head, begin + first), *k = w.k + head_tile(head, begin);
      team.products += attention.run(q, k, values_tile(row, head, 0), valid(row));
      for (int i = 0; i < 32 && first + i / 16 < s.tiles; i++) {
        float factor = 1.0f / attention.totals[i];
        for (int half = 0; half < 2; half++) {
          const float* sums = attention.out + half * PAIR;
          bf16* to = a_tile(w.mixed, begin + first + i / 16, 2 * heads(), 2 * head + half) + i % 16 * 32;
          store_bf16(to, sums_row(sums, i, 0) * factor, sums_row(sums, i, 1) * factor);
        }
      }
    });
  }

  // x += gate (A B + bias)
  void add_gated(Team& team, const Layer& layer, const bf16* A, const float* gate) const {
    auto finish = [&](const Finished& f) {
      if (tile_of(f) >= num_tiles()) return;
      for (int side = 0; side < 2; side++) {
        int c = 32 * f.n + 16 * side;
        float* x = w.x + place(tile_of(f), c) + f.i % 16 * 16;
        Floats shift = f.begins ? load(layer.bias + c) : all(0.0f);
        store(x, load(x) + load(gate + c) * (columns(layer, f, side) + shift));
      }
    };
    apply(team, layer, A, true, finish);
  }

  // The feed-forward's hidden layer
  void grow(Team& team, const Layer& layer) const {
    auto finish = [&](const Finished& f) {
      if (tile_of(f) >= num_tiles()) return;
      const float* bias = layer.bias + 32 * f.n;
      Floats first = columns(layer, f, 0) + load(bias), second = columns(layer, f, 1) + load(bias + 16);
      store_bf16(a_tile(w.grown, tile_of(f), layer.columns, f.n) + f.i % 16 * 32, gelu(first), gelu(second));
    };
    apply(team, layer, w.h, false, finish);
  }

  void give(Team& team, float* velocity) const {
    auto finish = [&](const Finished& f) {
      int row = tile_of(f) / s.tiles, frame = tile_of(f) % s.tiles * 16 + f.i % 16;
      int count = m.bins - 32 * f.n < 32 ? int(m.bins) - 32 * f.n : 32;
      if (row >= b.rows || frame >= b.frames) return;
      alignas(64) float out[32];
      for (int side = 0; side < 2; side++)
        store(out + 16 * side, columns(f, side) + load(m.proj_out_bias + 32 * f.n + 16 * side));
      memcpy(velocity + (size_t(row) * b.frames + frame) * m.bins + 32 * f.n, out, count * 4);
    };
    multiply<BFLOAT16>(team, {w.h, s.pairs}, {m.proj_out, ceil_div(m.bins, 32)}, k_tiles(), k_tiles(), finish);
  }

  void run(Team& team, const float* x, const float* modulation, const float* last, float* velocity) const {
    take_input(team, x); team.meet();
    project_input(team); team.meet();
    convolve_first(team); team.meet();
    convolve_second(team); team.meet();
    for (int64_t l = 0; l < m.depth; l++) {
      const BlockWeights& block = m.blocks[l];
      auto table = [&](int i) { return modulation + (l * 6 + i) * m.width; };
      normalise(team, table(1), table(0)); team.meet();
      narrow(team, qkv(block), w.h);
      project_qkv(team, qkv(block)); team.meet();
      attend(team); team.meet();
      narrow(team, out(block), w.mixed);
      add_gated(team, out(block), w.mixed, table(2)); team.meet();
      normalise(team, table(4), table(3)); team.meet();
      narrow(team, ff_in(block), w.h);
      grow(team, ff_in(block)); team.meet();
      narrow(team, ff_out(block), w.grown);
      add_gated(team, ff_out(block), w.grown, table(5)); team.meet();
    }
    normalise(team, last + m.width, last); team.meet();
    give(team, velocity);
  }
};

// Tiles of 16 x 32 bfloat16 values or 16 x 64 bytes, and vectors of 16 floats: by AMX and AVX512, or emulated on any
// CPU (TILES_EMULATED), slowly, so that layout and arithmetic can be tested anywhere.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#ifndef TILES_EMULATED
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

typedef uint16_t bf16;
typedef float Floats __attribute__((vector_size(64), aligned(64)));
typedef uint32_t Words __attribute__((vector_size(64), aligned(64)));
typedef uint16_t Halves __attribute__((vector_size(64), aligned(64)));
typedef int32_t Integers __attribute__((vector_size(64), aligned(64)));

constexpr int TILE = 512;       // bfloat16 values of a tile of A or B; of bytes it holds twice as many
constexpr int PAIR = 2 * TILE;  // of two tiles; also the sums of a pair of rows by a pair of columns

static inline float wide(bf16 v) {
  uint32_t bits = uint32_t(v) << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

#ifdef TILES_EMULATED
static thread_local float tile_sums[4][256];
static thread_local bf16 tile_values[8][TILE];
static void emulated_load(int t, const void* from, long stride) {
  for (int row = 0; row < 16; row++)
    memcpy(t < 4 ? (void*)(tile_sums[t] + 16 * row) : (void*)(tile_values[t] + 32 * row),
           (const char*)from + row * stride, 64);
}
static void emulated_store(int t, void* to, long stride) {
  for (int row = 0; row < 16; row++) memcpy((char*)to + row * stride, &tile_sums[t][16 * row], 64);
}
static void emulated_product(int sum, int a, int b) {
  for (int row = 0; row < 16; row++)
    for (int k = 0; k < 32; k++)
      for (int column = 0; column < 16; column++)
        tile_sums[sum][16 * row + column] +=
            wide(tile_values[a][32 * row + k]) * wide(tile_values[b][(k / 2) * 32 + 2 * column + k % 2]);
}
static void emulated_byte_product(int sum, int a, int b) {  // sums are 32-bit integers
  for (int row = 0; row < 16; row++)
    for (int column = 0; column < 16; column++) {
      int32_t total;
      memcpy(&total, &tile_sums[sum][16 * row + column], 4);
      for (int k = 0; k < 64; k++)
        total += ((int8_t*)tile_values[a])[64 * row + k] * ((int8_t*)tile_values[b])[k / 4 * 64 + 4 * column + k % 4];
      memcpy(&tile_sums[sum][16 * row + column], &total, 4);
    }
}
#define TILE_ZERO(t) memset(tile_sums[t], 0, sizeof tile_sums[t])
#define TILE_LOAD(t, from, stride) emulated_load(t, from, stride)
#define TILE_STORE(t, to, stride) emulated_store(t, to, stride)
#define TILE_PRODUCT(sum, a, b) emulated_product(sum, a, b)
#define TILE_BYTE_PRODUCT(sum, a, b) emulated_byte_product(sum, a, b)
static inline void prefetch(const void*) {}
static void tiles_on() {}
static void tiles_off() {}
static bool tiles_allowed() { return true; }
#else
#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, from, stride) _tile_loadd(t, from, stride)
#define TILE_STORE(t, to, stride) _tile_stored(t, to, stride)
#define TILE_PRODUCT(sum, a, b) _tile_dpbf16ps(sum, a, b)
#define TILE_BYTE_PRODUCT(sum, a, b) _tile_dpbssd(sum, a, b)
static inline void prefetch(const void* address) { _mm_prefetch((const char*)address, _MM_HINT_T1); }
struct alignas(64) TileShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static const TileShapes tile_shapes;
static void tiles_on() {
  asm volatile("" ::: "memory");
  _tile_loadconfig(&tile_shapes);
}
static void tiles_off() { _tile_release(); }
static bool tiles_allowed() {  // Linux hands the tiles' registers out on request: ARCH_REQ_XCOMP_PERM, XTILEDATA
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}
#endif
// The compiler does not know that tile instructions touch memory
#define MEMORY_SETTLED() asm volatile("" ::: "memory")

static inline Floats all(float value) { return value - Floats{}; }
static inline Floats load(const float* from) {
  Floats v;
  memcpy(&v, from, 64);
  return v;
}
static inline void store(float* to, Floats v) { memcpy(to, &v, 64); }
static inline Floats load_integers(const float* from) {
  Integers v;
  memcpy(&v, from, 64);
  return __builtin_convertvector(v, Floats);
}

#ifdef TILES_EMULATED
static inline Floats least(Floats a, Floats b) { return a < b ? a : b; }
static inline Floats most(Floats a, Floats b) { return a > b ? a : b; }
static inline float sum(Floats v) {
  float total = 0;
  for (int i = 0; i < 16; i++) total += v[i];
  return total;
}
static inline float largest(Floats v) {
  float top = v[0];
  for (int i = 1; i < 16; i++) top = v[i] > top ? v[i] : top;
  return top;
}
static inline Floats whole(Floats v) {
  for (int i = 0; i < 16; i++) v[i] = std::nearbyint(v[i]);
  return v;
}
static inline Floats times_power(Floats v, Floats n) {  // v 2^n
  for (int i = 0; i < 16; i++) v[i] *= std::exp2(n[i]);
  return v;
}
static inline Floats inverse(Floats v) { return 1.0f / v; }
static inline Words rounded(Floats v) {  // to nearest, ties to even; bfloat16 in the low half of each word
  Words bits = (Words)v;
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
static inline void store_bf16(bf16* to, Floats first, Floats second) {
  Words a = rounded(first), b = rounded(second);
  for (int i = 0; i < 16; i++) to[i] = bf16(a[i]), to[16 + i] = bf16(b[i]);
}
static inline void store_bf16(bf16* to, Floats v) {
  Words a = rounded(v);
  for (int i = 0; i < 16; i++) to[i] = bf16(a[i]);
}
static inline Floats load_bf16(const bf16* from) {
  Words bits;
  for (int i = 0; i < 16; i++) bits[i] = uint32_t(from[i]) << 16;
  return (Floats)bits;
}
static inline void store_bytes(int8_t* to, Floats v) {  // to nearest, |v| <= 127
  for (int i = 0; i < 16; i++) to[i] = v[i] == v[i] ? int8_t(std::nearbyint(v[i])) : 0;
}
static void transpose(const uint32_t* from, uint32_t* to) {
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 16; j++) to[16 * i + j] = from[16 * j + i];
}
#else
static inline Floats least(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }
static inline Floats most(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
static inline float sum(Floats v) { return _mm512_reduce_add_ps((__m512)v); }
static inline float largest(Floats v) { return _mm512_reduce_max_ps((__m512)v); }
static inline Floats whole(Floats v) { return (Floats)_mm512_roundscale_ps((__m512)v, 0); }
static inline Floats times_power(Floats v, Floats n) { return (Floats)_mm512_scalef_ps((__m512)v, (__m512)n); }
static inline Floats inverse(Floats v) {  // 14 bits of the reciprocal, refined once
  Floats r = (Floats)_mm512_rcp14_ps((__m512)v);
  return r * (2.0f - v * r);
}
static inline Words rounded(Floats v) {
  return (Words)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v));
}
static inline void store_bf16(bf16* to, Floats first, Floats second) {
  _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
}
static inline void store_bf16(bf16* to, Floats v) {
  _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh((__m512)v));
}
static inline Floats load_bf16(const bf16* from) {
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)), 16);
}
static inline void store_bytes(int8_t* to, Floats v) {  // to nearest, |v| <= 127
  _mm_storeu_si128((__m128i*)to, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32((__m512)v)));
}
static inline void transpose(const uint32_t* from, uint32_t* to) {  // 16 x 16 words: blocks of 1, 2, 4, 8 change places
  __m512i rows[16];
  for (int i = 0; i < 16; i++) rows[i] = _mm512_load_si512(from + 16 * i);
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i other = _mm512_set1_epi32(16);  // lanes of the second operand
#pragma GCC unroll 4
  for (int size = 1; size < 16; size *= 2) {
    const __mmask16 upper = size == 1 ? 0xaaaa : size == 2 ? 0xcccc : size == 4 ? 0xf0f0 : 0xff00;
    const __m512i step = _mm512_set1_epi32(size);
    const __m512i low = _mm512_mask_add_epi32(lane, upper, _mm512_sub_epi32(lane, step), other);
    const __m512i high = _mm512_mask_add_epi32(_mm512_add_epi32(lane, step), upper, lane, other);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
      if (!(i & size)) {
        __m512i a = rows[i], b = rows[i + size];
        rows[i] = _mm512_permutex2var_epi32(a, low, b);
        rows[i + size] = _mm512_permutex2var_epi32(a, high, b);
      }
  }
  for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + 16 * i, rows[i]);
}
#endif

static inline Floats exp2(Floats v) {  // finite v; relative error below 3e-6 (minimax on [-1/2, 1/2])
  Floats n = whole(v), f = v - n;
  Floats p = 0.00957008677f * f + 0.0559178639f;
  p = p * f + 0.240247452f;
  p = p * f + 0.693121814f;
  p = p * f + 0.999999261f;
  return times_power(p, n);
}

// Of 32 bfloat16 values, as ordered bits: what is not a number comes above infinity
static inline Halves magnitudes(const bf16* from) {
  Halves bits;
  memcpy(&bits, from, 64);
  return bits & 0x7fff;
}
static inline Halves most(Halves a, Halves b) { return a > b ? a : b; }
static inline float largest(Halves v) {
  uint16_t top = 0;
  for (int i = 0; i < 32; i++) top = v[i] > top ? v[i] : top;
  return wide(top);
}

constexpr float LOG2_E = 1.44269504f;

static inline Floats gelu(Floats v) {  // tanh form: v sigmoid(2 sqrt(2 / pi) (v + 0.044715 v^3))
  Floats u = v * (1.5957691216f + 0.0713548162726f * v * v);
  Floats power = most(least(-LOG2_E * u, all(100.0f)), all(-150.0f));  // infinity has no whole part, and no reciprocal
  return v * inverse(1.0f + exp2(power));
}

static inline Floats mish(Floats v) {  // as in engine/step/dit.py
  Floats grown = exp2(LOG2_E * least(v, all(20.0f)));
  Floats n = grown * (grown + 2.0f);
  return v * n * inverse(n + 2.0f);
}

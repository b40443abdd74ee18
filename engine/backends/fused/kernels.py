"""The kernels of the fused step, in Triton. Each is launched by engine.backends.fused.launch, which says what it means.

Sums, norms and activations are float32 whatever the tensors' type. Widths are compile-time constants, one set a model;
lengths are not specialised, so that none of them compiles anything again.

Shape letters: M rows of a product (R rows x N frames), C model width, O outputs of a product, K what it sums over.
"""

from __future__ import annotations

import triton
import triton.language as tl

LENGTHS = ("num_rows", "num_frames", "num_utterances")
DIM_HEAD = tl.constexpr(64)
SMALLEST = 1e-20  # of a scale: a row of zeros is zeros over something
ROUNDING = tl.constexpr(1.5 * 2**23)  # added and taken away again, float32 is rounded to the nearest whole number
SMALLEST_SCALE = tl.constexpr(SMALLEST)


@triton.jit
def gelu_tanh(x):
    """x / (1 + e^-2u) is 0.5 x (1 + tanh u)."""
    return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


@triton.jit
def mish(x):
    """With one exponential, as in engine.step.dit; beyond 20 the fraction is 1 in float32."""
    grown = tl.exp(tl.minimum(x, 20.0))
    n = grown * (grown + 2.0)
    return x * (n / (n + 2.0))


@triton.jit
def scale_of(largest, LARGEST: tl.constexpr):
    return tl.maximum(largest, SMALLEST_SCALE) / LARGEST


@triton.jit
def in_eight_bits(steps, TYPE: tl.constexpr):
    """Values over their scale, rounded to the nearest of TYPE (int8 or e4m3), ties to even."""
    if TYPE == tl.int8:
        steps = (steps + ROUNDING) - ROUNDING
    return steps.to(TYPE)


@triton.jit(do_not_specialize=LENGTHS)
def norm_modulate_kernel(
    x, scale, shift, out, out_scales, EPS: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr, LARGEST: tl.constexpr,
):  # fmt: skip
    """One frame a program: (x - mean) / sqrt(variance + EPS) * scale + shift; where there are `out_scales` (M,), in
    eight bits with one scale."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < C
    values = tl.load(x + row * C + columns, mask=inside, other=0.0).to(tl.float32)
    centred = tl.where(inside, values - tl.sum(values, 0) / C, 0.0)
    normed = centred / tl.sqrt(tl.sum(centred * centred, 0) / C + EPS)
    scaled = normed * tl.load(scale + columns, mask=inside, other=0.0).to(tl.float32)
    scaled += tl.load(shift + columns, mask=inside, other=0.0).to(tl.float32)
    if out_scales is not None:
        own = scale_of(tl.max(tl.abs(scaled), 0), LARGEST)
        tl.store(out_scales + row, own)
        tl.store(out + row * C + columns, in_eight_bits(scaled / own, out.dtype.element_ty), mask=inside)
    else:
        tl.store(out + row * C + columns, scaled.to(out.dtype.element_ty), mask=inside)


@triton.jit
def turned(values, rows, columns, cos, sin, num_frames, HEADS: tl.constexpr, ANGLE_HEADS: tl.constexpr):
    """RoPE on a tile of q, k, v, whose pairs of coordinates stand side by side; `columns` are those of the first of
    each pair, values of v are not turned."""
    head = (columns // DIM_HEAD) % HEADS
    coordinate = (columns % DIM_HEAD) // 2  # the table is laid out in halves
    width = ANGLE_HEADS * DIM_HEAD
    at = (rows % num_frames)[:, None] * width + (head % ANGLE_HEADS * DIM_HEAD + coordinate)[None, :]
    turns = ((rows >= 0)[:, None]) & (columns < 2 * HEADS * DIM_HEAD)[None, :]
    c = tl.load(cos + at, mask=turns, other=1.0).to(tl.float32)
    s = tl.load(sin + at, mask=turns, other=0.0).to(tl.float32)
    first, second = tl.split(tl.reshape(values, (values.shape[0], values.shape[1] // 2, 2)))
    pairs = tl.join(first * c - second * s, second * c + first * s)
    return tl.reshape(pairs, (values.shape[0], values.shape[1]))


@triton.jit(do_not_specialize=LENGTHS)
def rope_kernel(
    qkv, cos, sin, num_rows, num_frames,
    HEADS: tl.constexpr, ANGLE_HEADS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """q and k of qkv (M, 3 x HEADS x 64) turned where they lie."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    start = tl.program_id(1) * BLOCK_O
    columns = start + tl.arange(0, BLOCK_O)
    place = qkv + rows[:, None].to(tl.int64) * (3 * HEADS * DIM_HEAD) + columns[None, :]
    inside = (rows < num_rows)[:, None] & (columns < 2 * HEADS * DIM_HEAD)[None, :]
    values = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    firsts = start + 2 * tl.arange(0, BLOCK_O // 2)
    values = turned(values, rows, firsts, cos, sin, num_frames, HEADS, ANGLE_HEADS)
    tl.store(place, values.to(qkv.dtype.element_ty), mask=inside)


@triton.jit
def tile_of(num_row_tiles, num_column_tiles, GROUP: tl.constexpr):
    """Which tile of the product this program makes: GROUP row tiles share their columns' weights in the cache."""
    program = tl.program_id(0)
    per_group = GROUP * num_column_tiles
    first = program // per_group * GROUP
    height = tl.minimum(num_row_tiles - first, GROUP)
    return first + program % per_group % height, program % per_group // height


@triton.jit
def half_or_row_sums(
    a_tile, w_tile, K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
    SUMS: tl.constexpr, IMPRECISE: tl.constexpr,
):  # fmt: skip
    """Summed over all of K in SUMS; IMPRECISE: terms after which a sum of e4m3 goes into float32, 0 for other types."""
    sums = tl.zeros((BLOCK_M, BLOCK_O), dtype=SUMS)
    for start in range(0, K, BLOCK_K):
        sums = tl.dot(
            tl.load(a_tile + start), tl.load(w_tile + start), sums, input_precision="ieee", out_dtype=SUMS,
            max_num_imprecise_acc=IMPRECISE,
        )  # fmt: skip
    return sums.to(tl.float32)


@triton.jit
def group_sums(
    a_tile, a_scales, w_tile, K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
    SUMS: tl.constexpr, LARGEST: tl.constexpr,
):  # fmt: skip
    """The sum over each BLOCK_K by itself in SUMS, times the group's scale (a_scales points to that of each row's first
    group), added in float32. Without a_scales the groups come in a half type and are quantised here."""
    sums = tl.zeros((BLOCK_M, BLOCK_O), dtype=tl.float32)
    for start in range(0, K, BLOCK_K):
        values = tl.load(a_tile + start)
        if a_scales is not None:
            scales = tl.load(a_scales + start // BLOCK_K)
        else:
            wide = values.to(tl.float32)
            scales = scale_of(tl.max(tl.abs(wide), 1), LARGEST)
            values = in_eight_bits(wide / scales[:, None], w_tile.dtype.element_ty)
        part = tl.dot(values, tl.load(w_tile + start), out_dtype=SUMS)
        sums += part.to(tl.float32) * scales[:, None]
    return sums


@triton.jit(do_not_specialize=LENGTHS)
def product_kernel(
    a, weight, bias, out, cos, sin, gate, residual, a_scales, w_scales, out_scales, num_rows, num_frames,
    OUTPUTS: tl.constexpr, K: tl.constexpr, EPILOGUE: tl.constexpr, INPUTS: tl.constexpr, LARGEST: tl.constexpr,
    HEADS: tl.constexpr, ANGLE_HEADS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_O: tl.constexpr,
    BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """a (M, K) times weight (O, K) transposed, plus bias, and what EPILOGUE says, while the sums are in registers.

    INPUTS: "half", both in one half type; "rows", both in eight bits, a_scales (M,); "groups", the same with a_scales
    (M, K / BLOCK_K) or, without them, a in a half type. Then w_scales are (O,). With out_scales (M, O / BLOCK_O) the
    answer is in eight bits.
    """
    row_tile, column_tile = tile_of(tl.cdiv(num_rows, BLOCK_M), tl.cdiv(OUTPUTS, BLOCK_O), GROUP)
    rows = row_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = column_tile * BLOCK_O + tl.arange(0, BLOCK_O)
    depth = tl.arange(0, BLOCK_K)
    # Beyond the edges the first rows are read again, and nothing is written
    read = (rows % num_rows).to(tl.int64)
    a_tile = a + read[:, None] * K + depth[None, :]
    w_tile = weight + (columns % OUTPUTS)[None, :] * K + depth[:, None]
    SUMS: tl.constexpr = tl.int32 if weight.dtype.element_ty == tl.int8 else tl.float32
    IMPRECISE: tl.constexpr = BLOCK_K if weight.dtype.element_ty == tl.float8e4nv else 0
    if INPUTS == "groups":
        first = a_scales
        if a_scales is not None:
            first = a_scales + read * (K // BLOCK_K)
        sums = group_sums(a_tile, first, w_tile, K, BLOCK_M, BLOCK_O, BLOCK_K, SUMS, LARGEST)
    else:
        sums = half_or_row_sums(a_tile, w_tile, K, BLOCK_M, BLOCK_O, BLOCK_K, SUMS, IMPRECISE)
    if INPUTS == "rows":
        sums *= tl.load(a_scales + read)[:, None]
    if INPUTS != "half":
        sums *= tl.load(w_scales + columns % OUTPUTS)[None, :]
    sums += tl.load(bias + columns % OUTPUTS).to(tl.float32)[None, :]
    inside = (rows < num_rows)[:, None] & (columns < OUTPUTS)[None, :]
    place = rows[:, None].to(tl.int64) * OUTPUTS + columns[None, :]
    if EPILOGUE == "gelu":
        sums = gelu_tanh(sums)
    elif EPILOGUE == "rope":
        firsts = column_tile * BLOCK_O + 2 * tl.arange(0, BLOCK_O // 2)
        sums = turned(sums, rows, firsts, cos, sin, num_frames, HEADS, ANGLE_HEADS)
    else:
        sums *= tl.load(gate + columns % OUTPUTS).to(tl.float32)[None, :]
        sums += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    if out_scales is not None:
        own = scale_of(tl.max(tl.abs(sums), 1), LARGEST)
        tl.store(out_scales + rows.to(tl.int64) * (OUTPUTS // BLOCK_O) + column_tile, own, mask=rows < num_rows)
        tl.store(out + place, in_eight_bits(sums / own[:, None], out.dtype.element_ty), mask=inside)
    else:
        tl.store(out + place, sums.to(out.dtype.element_ty), mask=inside)


@triton.jit
def convolved_group(
    x, weight, present, row, frames, num_frames,
    C: tl.constexpr, WIDTH: tl.constexpr, BLOCK_C: tl.constexpr, TAPS: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """One group of a convolution over frames, as the sum over its taps of small products: x (rows, N, C), weight
    (C / WIDTH, TAPS, WIDTH in, WIDTH out) -> (frames, BLOCK_C), channels padded to a power of two. Where MASKED, frames
    that are not `present` (rows, N) read as zeros."""
    group = tl.program_id(1)
    channels = tl.arange(0, BLOCK_C)
    own = channels < WIDTH
    weights = weight + group * TAPS * WIDTH * WIDTH + channels[:, None] * WIDTH + channels[None, :]
    row_start = row.to(tl.int64) * num_frames
    source = x + row_start * C + group * WIDTH + channels[None, :]
    sums = tl.zeros((frames.shape[0], BLOCK_C), dtype=tl.float32)
    for tap in range(TAPS):
        read = frames + tap - TAPS // 2
        there = (read >= 0) & (read < num_frames)
        if MASKED:
            there = there & (tl.load(present + row_start + read, mask=there, other=0.0) != 0.0)
        values = tl.load(source + read[:, None] * C, mask=there[:, None] & own[None, :], other=0.0)
        tile = tl.load(weights + tap * WIDTH * WIDTH, mask=own[:, None] & own[None, :], other=0.0)
        sums = tl.dot(values, tile, sums, input_precision="ieee")
    return sums


@triton.jit(do_not_specialize=LENGTHS)
def first_convolution_kernel(
    h, weight, convolved, present, out, num_utterances, num_frames,
    REPEATS: tl.constexpr, C: tl.constexpr, WIDTH: tl.constexpr, BLOCK_C: tl.constexpr, TAPS: tl.constexpr,
    MASKED: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """h (B, N, C) convolved once for both rows of an utterance, each row's constants added, Mish: out (R, N, C)."""
    frames = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    utterance = tl.program_id(2)
    sums = convolved_group(h, weight, present, utterance, frames, num_frames, C, WIDTH, BLOCK_C, TAPS, MASKED)
    channels = tl.arange(0, BLOCK_C)
    inside = (frames < num_frames)[:, None] & (channels < WIDTH)[None, :]
    for repeat in tl.static_range(REPEATS):
        row = (repeat * num_utterances + utterance).to(tl.int64)
        place = (row * num_frames + frames[:, None]) * C + tl.program_id(1) * WIDTH + channels[None, :]
        values = mish(sums + tl.load(convolved + place, mask=inside, other=0.0).to(tl.float32))
        if MASKED:
            speech = tl.load(present + row * num_frames + frames, mask=frames < num_frames, other=0.0)
            values *= speech.to(tl.float32)[:, None]
        tl.store(out + place, values.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=LENGTHS)
def second_convolution_kernel(
    c, weight, bias, h, projected, present, out, num_utterances, num_frames,
    C: tl.constexpr, WIDTH: tl.constexpr, BLOCK_C: tl.constexpr, TAPS: tl.constexpr, MASKED: tl.constexpr,
    BLOCK_N: tl.constexpr,
):  # fmt: skip
    """c (R, N, C) convolved, bias, Mish, then the noise's share h (B, N, C) and the row's constants: out (R, N, C)."""
    frames = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.program_id(2)
    sums = convolved_group(c, weight, present, row, frames, num_frames, C, WIDTH, BLOCK_C, TAPS, False)
    channels = tl.arange(0, BLOCK_C)
    columns = tl.program_id(1) * WIDTH + channels
    inside = (frames < num_frames)[:, None] & (channels < WIDTH)[None, :]
    own_bias = tl.load(bias + columns, mask=channels < WIDTH, other=0.0).to(tl.float32)
    noise_row = (row % num_utterances).to(tl.int64) * num_frames
    noise = tl.load(h + (noise_row + frames[:, None]) * C + columns[None, :], mask=inside, other=0.0).to(tl.float32)
    if MASKED:
        speech = tl.load(present + noise_row + frames, mask=frames < num_frames, other=0.0)
        noise *= speech.to(tl.float32)[:, None]
    place = (row.to(tl.int64) * num_frames + frames[:, None]) * C + columns[None, :]
    values = mish(sums + own_bias[None, :]) + noise
    values += tl.load(projected + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, values.to(out.dtype.element_ty), mask=inside)

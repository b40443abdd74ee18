"""Names and shapes of the weights that upstream's models have, by their architecture."""

from __future__ import annotations

from engine.settings import ArchSettings


class _Shapes(dict[str, tuple[int, ...]]):
    """Shapes by name, in the order in which drawn weights are drawn."""

    def linear(self, name: str, out: int, into: int) -> None:
        self[f"{name}.weight"], self[f"{name}.bias"] = (out, into), (out,)


def _shared_shapes(arch: ArchSettings, num_tokens: int, mel_bins: int) -> _Shapes:
    """What DiT and UNetT have before their blocks."""
    dim, text_dim, shapes = arch["dim"], arch.get("text_dim") or mel_bins, _Shapes()
    shapes.linear("time_embed.time_mlp.0", dim, 256)
    shapes.linear("time_embed.time_mlp.2", dim, dim)
    shapes["text_embed.text_embed.weight"] = (num_tokens + 1, text_dim)
    for i in range(arch.get("conv_layers", 0)):
        block = f"text_embed.text_blocks.{i}"
        shapes[f"{block}.dwconv.weight"], shapes[f"{block}.dwconv.bias"] = (text_dim, 1, 7), (text_dim,)
        shapes[f"{block}.norm.weight"] = shapes[f"{block}.norm.bias"] = (text_dim,)
        shapes.linear(f"{block}.pwconv1", 2 * text_dim, text_dim)
        shapes[f"{block}.grn.gamma"] = shapes[f"{block}.grn.beta"] = (1, 1, 2 * text_dim)
        shapes.linear(f"{block}.pwconv2", text_dim, 2 * text_dim)
    shapes.linear("input_embed.proj", dim, 2 * mel_bins + text_dim)
    for i in (0, 2):
        conv = f"input_embed.conv_pos_embed.conv1d.{i}"
        shapes[f"{conv}.weight"], shapes[f"{conv}.bias"] = (dim, dim // 16, 31), (dim,)
    return shapes


def _add_products(shapes: _Shapes, arch: ArchSettings, attn: str, ff: str) -> None:
    """A block's linear layers, in upstream's modules `attn` and `ff`."""
    dim, inner = arch["dim"], arch["heads"] * arch["dim_head"]
    hidden = int(dim * arch["ff_mult"])
    for name in ("to_q", "to_k", "to_v"):
        shapes.linear(f"{attn}.{name}", inner, dim)
    shapes.linear(f"{attn}.to_out.0", dim, inner)
    shapes.linear(f"{ff}.ff.0.0", hidden, dim)
    shapes.linear(f"{ff}.ff.2", dim, hidden)


def dit_shapes(arch: ArchSettings, num_tokens: int, mel_bins: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of upstream's CFM(DiT).state_dict() for an architecture (buffers left out)."""
    dim, shapes = arch["dim"], _shared_shapes(arch, num_tokens, mel_bins)
    for i in range(arch["depth"]):
        block = f"transformer_blocks.{i}"
        shapes.linear(f"{block}.attn_norm.linear", 6 * dim, dim)
        _add_products(shapes, arch, f"{block}.attn", f"{block}.ff")
    shapes.linear("norm_out.linear", 2 * dim, dim)
    shapes.linear("proj_out", mel_bins, dim)
    return {f"transformer.{name}": shape for name, shape in shapes.items()}


def unett_shapes(arch: ArchSettings, num_tokens: int, mel_bins: int) -> dict[str, tuple[int, ...]]:
    """The same of CFM(UNetT), E2-TTS's."""
    dim, depth, shapes = arch["dim"], arch["depth"], _shared_shapes(arch, num_tokens, mel_bins)
    for i in range(depth):
        block = f"layers.{i}"
        if i >= depth // 2 and arch.get("skip_connect_type", "concat") == "concat":
            shapes[f"{block}.0.weight"] = (dim, 2 * dim)
        shapes[f"{block}.1.g"] = shapes[f"{block}.3.g"] = (dim,)
        _add_products(shapes, arch, f"{block}.2", f"{block}.4")
        if arch.get("qk_norm"):
            shapes[f"{block}.2.q_norm.weight"] = shapes[f"{block}.2.k_norm.weight"] = (arch["dim_head"],)
    shapes["norm_out.g"] = (dim,)
    shapes.linear("proj_out", mel_bins, dim)
    return {f"transformer.{name}": shape for name, shape in shapes.items()}

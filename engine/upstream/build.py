"""engine.upstream: the untouched f5_tts inference path."""

from __future__ import annotations

from engine.context import Context, facts_of
from engine.contract import Engine, UnsupportedEngine
from engine.weights.checkpoint import load_model


def upstream(*, context: Context, name: str) -> Engine:
    """The untouched f5_tts inference path (engine.upstream.peer)."""
    from engine.upstream.peer import build_upstream
    from engine.upstream.stand_ins import cover
    from engine.vocoders.load import load_vocoder

    if context.solver.grid_kind not in ("epss", "uniform"):
        raise UnsupportedEngine("upstream takes no explicit grid", "use solver.grid=epss or uniform")
    cover()
    model = load_model(context.config["model"])
    vocoder = load_vocoder(context.config["vocoder"], context.device)
    num_bytes = sum(4 * tensor.numel() for tensor in model.state.values())
    facts = facts_of(
        context, name, model, vocoder, denoiser="f5_tts", precision="fp32",
        weights_bytes=num_bytes + vocoder.num_bytes, max_batch=1,
    )  # fmt: skip
    return build_upstream(context, model, vocoder.decoder, facts)

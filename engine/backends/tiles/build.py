"""engine.tiles_bf16, tiles_int8: the evaluation as one function of our own."""

from __future__ import annotations

from engine.context import Build, Context, assemble, materials, needs_dit
from engine.contract import ConfigError, Engine, UnsupportedEngine


def tiles(*, context: Context, name: str, precision: str, max_batch: int = 8, max_padding_frac: float = 0.1) -> Engine:
    """The step as one function of our own in tiles (AMX) of bfloat16, or with its linear layers in int8; see
    engine.backends.tiles.denoiser."""
    from engine.backends.tiles.denoiser import TilesDenoiser, TileWeights, refuse_shapes
    from engine.native.library import NEEDED_FOR_INT8, refuse_cpu
    from engine.native.library import compiled as native
    from engine.solver.sampler import StepSampler
    from engine.step.dit import Arch

    needs_dit(context, name)
    if context.device != "cpu":
        raise UnsupportedEngine(f"{name} is built for CPUs", "use device=cpu, or engine=compiled_bf16")
    if precision not in ("bf16", "int8"):
        raise ConfigError("engine.precision", precision, "must be bf16 or int8 in tiles", "use engine=tiles_bf16")
    refuse_shapes(Arch.of(context.config["model"]["arch"]), precision == "int8")
    functions = native()
    if precision == "int8":
        refuse_cpu(NEEDED_FOR_INT8)
    made = materials(context)
    weights = TileWeights(made.dit, int8=precision == "int8")
    build = Build(
        name=name, denoiser="tiles", precision=precision, step_bytes=weights.num_bytes(), max_batch=max_batch,
        max_padding_frac=max_padding_frac,
    )  # fmt: skip
    return assemble(
        context, made, StepSampler(TilesDenoiser(functions, weights, made.arch, made.tables), context.solver), build
    )

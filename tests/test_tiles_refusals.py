"""What engine/native needs and refuses: instruction sets, a compiler, models that divide into tiles."""

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.build import build_engine
from engine.clock import HostClock
from engine.contract import UnsupportedEngine
from engine.native import library
from tests.engines import config


@pytest.fixture
def nothing_compiled() -> Iterator[None]:
    library.compiled.cache_clear()
    yield
    library.compiled.cache_clear()


@pytest.mark.usefixtures("nothing_compiled")
def test_a_cpu_without_tiles_is_refused_before_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.backends.tiles.build.materials", lambda context: pytest.fail("weights were read"))
    monkeypatch.setattr(library, "has_tiles", lambda: False)
    with pytest.raises(UnsupportedEngine, match="does not multiply bfloat16 in tiles") as refusal:
        build_engine(config("engine=tiles_bf16"), HostClock())
    assert "compiled_bf16" in refusal.value.remedy
    if Path("/proc/cpuinfo").is_file():
        monkeypatch.setattr(library, "has_tiles", lambda: True)
        monkeypatch.setattr(library, "NEEDED", (*library.NEEDED, "avx1024"))
        with pytest.raises(UnsupportedEngine, match=r"has tiles but lacks .*avx1024"):
            build_engine(config("engine=tiles_bf16"), HostClock())


@pytest.mark.usefixtures("nothing_compiled")
def test_a_compiler_that_is_missing_or_too_old_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UnsupportedEngine, match=r"needs a C\+\+ compiler and 'g\+\+' is not found"):
        library.compiled(emulated=True)
    monkeypatch.setenv("CXX", "ccache g++-13")
    with pytest.raises(UnsupportedEngine, match=r"'ccache g\+\+-13' is not found"):
        library.compiled(emulated=True)
    monkeypatch.delenv("CXX")
    old = tmp_path / "g++"
    old.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo g++ 9 && exit 0\necho "error: unknown -march" >&2; exit 1\n'
    )
    old.chmod(0o755)
    with pytest.raises(UnsupportedEngine, match=r"does not compile tiles\.cpp: error: unknown -march"):
        library.compiled(emulated=True)
    old.write_text("no program")
    with pytest.raises(UnsupportedEngine, match="does not start"):
        library.compiled(emulated=True)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its instructions are those of x86-64")
def test_the_form_for_tiles_compiles_without_a_warning_on_any_such_machine(tmp_path: Path) -> None:
    """Where it cannot run it is at least built; GCC's own headers use what they do not set."""
    try:
        command = library.compiler()
    except UnsupportedEngine as refusal:
        pytest.skip(refusal.reason)
    strict = ("-Wall", "-Wextra", "-Werror", "-Wno-uninitialized", "-Wno-maybe-uninitialized")
    library.build(command, (*library.FLAGS, *library.FOR_TILES, *strict), tmp_path)
    assert (tmp_path / "tiles.so").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("engine=tiles_bf16", "model.arch.dim=384", "model.arch.heads=6"), "multiples of 256"),
        (("engine=tiles_bf16", "model.arch.dim_head=32"), "dim_head=64"),
        (("engine=tiles_bf16", "model.arch.depth=0"), "nothing to evaluate"),
        (("engine=tiles_int8", "model.arch.dim=256", "model.arch.ff_mult=2.125"), "multiples of 64, not 544"),
    ],
)
def test_a_model_that_does_not_divide_into_tiles_is_refused(overrides: tuple[str, ...], says: str) -> None:
    small = ("model=f5tts_v1_base_random", "model.arch.depth=1", "model.vocab=engine/pocket/vocab.txt")
    with pytest.raises(UnsupportedEngine, match=says):
        build_engine(config(*small, "vocoder=vocos_random", *overrides), HostClock())

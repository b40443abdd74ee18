"""Preflight: what is here, what is missing, what that disables, and how to get it.

    python -m experiments.doctor [--json]
    python -m experiments.doctor --resolve aarch64      which dependencies have wheels there; asks the package index

Exit code 0 when the core works, 2 when something that it needs is missing. Only the standard library is needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from experiments.doctor.host import (
    Row,
    cpu_rows,
    disk_row,
    driver_version,
    hub_row,
    memory_row,
    pocket_row,
    python_row,
    tool_rows,
)
from experiments.doctor.jetson import jetson_rows, kernel_row, with_remedies
from experiments.doctor.kernel import refused
from experiments.doctor.probe import Found, probe
from experiments.doctor.resolve import ARCHITECTURES, TARGETS, CannotResolve, requirements, resolve, table_of
from experiments.jetson.board import Jetson, read_jetson
from experiments.jetson.tree import Tree
from metrics.process import settle
from reports.commands import VerbParser, here

EXIT_OK = 0
EXIT_CORE_BROKEN = 2
EXIT_INTERRUPTED = 130
PATIENCE_S = 60.0
FILE_WIDTH = 160
INSTALL = "pip install -c constraints.txt"
PAIR_REMEDY = (
    f"{INSTALL} torch torchaudio. The torchaudio wheel links against the CUDA libraries: beside a CPU-only torch it "
    "cannot be loaded, and with it f5_tts and vocos. The CUDA build of torch runs without a GPU"
)


@dataclass(frozen=True)
class Package:
    """A package to import. distribution: its name for pip."""

    module: str
    distribution: str
    needed_for: str
    remedy: str
    is_core: bool = False


def _core(module: str, distribution: str, needed_for: str) -> Package:
    return Package(module, distribution, needed_for, f"{INSTALL} {distribution}", is_core=True)


def _extra(module: str, distribution: str, needed_for: str, extra: str, hint: str = "") -> Package:
    return Package(module, distribution, needed_for, f"{INSTALL} -e '.[{extra}]'{hint}")


# The two groups are imported side by side: the first takes as long as all the others.
MODEL_PACKAGES = (
    _core("torch", "torch", "every engine"),
    _core("torchaudio", "torchaudio", "f5_tts and vocos"),
    _core("f5_tts.model", "f5-tts", "the model itself, and engine=upstream"),
    _core("vocos", "vocos", "the vocoder"),
)
OTHER_PACKAGES = (
    _core("numpy", "numpy", "everything"),
    _core("hydra", "hydra-core", "the configuration"),
    _core("psutil", "psutil", "memory and load"),
    _core("rich", "rich", "tables and progress"),
    _core("scipy.special", "scipy", "statistics"),
    _core("soundfile", "soundfile", "audio files"),
    _core("soxr", "soxr", "resampling"),
    _core("safetensors", "safetensors", "weights"),
    _core("rjieba", "rjieba", "the text front end"),
    _core("pypinyin", "pypinyin", "the text front end"),
    _core("pandas", "pandas", "tables of samples"),
    _core("pyarrow", "pyarrow", "tables of samples"),
    _core("matplotlib", "matplotlib", "plots"),
    _core("jinja2", "jinja2", "reports"),
    _core("junitparser", "junitparser", "verdicts for a CI"),
    _core("jiwer", "jiwer", "word error rates"),
    _extra("pesq", "pesq", "the score PESQ-WB", "quality", " (needs a C compiler: apt install build-essential)"),
    _extra("pystoi", "pystoi", "the score STOI", "quality"),
    _extra("ctranslate2", "ctranslate2", "the word error rate", "ears"),
    _extra("speechmos", "speechmos", "predicted MOS (DNSMOS)", "ears"),
    _extra("pocketsphinx", "pocketsphinx", "a second opinion on words", "quality"),
    _extra("mlflow", "mlflow", "tracking (python -m experiments.tracking sync)", "mlflow"),
    _extra("onnx", "onnx", "exporting to ONNX", "onnx"),
    _extra("onnxscript", "onnxscript", "exporting to ONNX", "onnx"),
    _extra("onnxruntime", "onnxruntime", "engines on ONNX Runtime", "onnx", " (on a GPU: '.[gpu]' instead)"),
    _extra("kokoro_onnx", "kokoro-onnx", "model=kokoro", "kokoro"),
    _extra("tensorrt", "tensorrt", "engines on TensorRT", "tensorrt", " (Jetson: apt install python3-libnvinfer)"),
    _extra(
        "tensorrt_rtx_bindings", "tensorrt-rtx-cu13-bindings", "engines on TensorRT-RTX", "tensorrt-rtx", " (x86-64)"
    ),
)


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.doctor", description="what is here and what is not")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument(
        "--resolve", choices=ARCHITECTURES, help="which dependencies have wheels there (asks the index)"
    )
    options = parser.parse_args(argv)
    settle(argv)
    if options.resolve is not None:
        return _resolve(options.resolve)
    print("importing every package once, some seconds ...", file=sys.stderr, flush=True)
    rows = examine()
    works = not any(row.is_fatal for row in rows)
    if options.json:
        shown = [{**asdict(row), "disables": None if row.status == "ok" else row.needed_for} for row in rows]
        print(json.dumps({"ok": works, "rows": shown}, indent=1))
    else:
        _print_table(rows)
    return EXIT_OK if works else EXIT_CORE_BROKEN


def _resolve(architecture: str) -> int:
    """EXIT_CORE_BROKEN where the index cannot be asked."""
    found = {}
    for python, (release, _) in TARGETS.items():
        print(f"asking for wheels of Python {python} ({release}) ...", file=sys.stderr, flush=True)
        try:
            found[python] = resolve(python, architecture, requirements())
        except (CannotResolve, subprocess.TimeoutExpired) as error:
            print(f"error: --resolve {architecture}: {error}; is the package index to be reached?", file=sys.stderr)
            return EXIT_CORE_BROKEN
    print("\n".join(table_of(found)))
    return EXIT_OK


def examine() -> list[Row]:
    """Every row; the host is described by the harness's own reading of it where that can be imported."""
    groups = [[package.module for package in group] for group in (MODEL_PACKAGES, OTHER_PACKAGES)]
    with ThreadPoolExecutor(len(groups)) as pool:
        answers = [pool.submit(probe, group, PATIENCE_S) for group in groups]
        found = {module: result for answer in answers for module, result in answer.result().items()}
    board = read_jetson()
    rows = [python_row(), *_host_rows(found, board)]
    if board is not None:
        rows += jetson_rows(board, Tree(), found["torch"], os.environ)
        if found["torch"].details.get("devices"):
            rows.append(kernel_row(refused(PATIENCE_S)))
    rows += [_package_row(package, found[package.module]) for package in MODEL_PACKAGES]
    rows += [_pair_row(found["torch"], found["torchaudio"]), _gpu_row(found["torch"], driver_version())]
    rows += [_package_row(package, found[package.module]) for package in OTHER_PACKAGES]
    rows += [*tool_rows(), pocket_row(), hub_row()]
    return rows if board is None else with_remedies(rows)


def _host_rows(found: Mapping[str, Found], board: Jetson | None) -> list[Row]:
    if not all(found[name].status == "ok" for name in ("numpy", "hydra", "psutil")):
        reason = "not read: numpy, hydra-core and psutil must work first"
        return [Row("CPU and memory", reason, "missing", "the host's part of every record", "see below"), disk_row()]
    import psutil

    from experiments.common import environment

    model, flags = environment.read_cpu(Path("/proc/cpuinfo"))
    memory = memory_row(psutil.virtual_memory().available, environment.memory_bytes())
    model = model if board is None else board.title
    return [*cpu_rows(model, flags, environment.usable_cores()), memory, disk_row()]


def _package_row(package: Package, found: Found) -> Row:
    details = [*found.details.get("providers", ())]
    if package.module == "torch" and found.status == "ok":
        build = f"CUDA {found.details['cuda']} build" if found.details["cuda"] else "CPU-only build"
        details = [build, f"CPU kernels {found.details['cpu']}"]
    words = {"ok": _version(package, found), "missing": "not installed"}
    said = words.get(found.status, found.error or "does not import")
    again = found.status == "broken"
    return Row(
        item=package.distribution,
        found=f"{said} ({', '.join(details)})" if details else said,
        status=found.status,
        needed_for=package.needed_for,
        remedy=package.remedy.replace(INSTALL, f"{INSTALL} --force-reinstall") if again else package.remedy,
        is_core=package.is_core,
    )


def _version(package: Package, found: Found) -> str:
    try:
        return metadata.version(package.distribution)
    except metadata.PackageNotFoundError:
        return found.version or "version unknown"


def _pair_row(torch: Found, torchaudio: Found) -> Row:
    versions = [(found.version or "?").split("+")[0] for found in (torch, torchaudio)]
    fits = [version.split(".")[:2] for version in versions]
    imports = torch.status == torchaudio.status == "ok"
    return Row(
        item="torch with torchaudio",
        found=" with ".join(versions) if imports else "they do not both import",
        status="ok" if imports and fits[0] == fits[1] else "broken",
        needed_for="import f5_tts, import vocos: two wheels of one release",
        remedy=PAIR_REMEDY,
        is_core=True,
    )


def _gpu_row(torch: Found, driver: str | None) -> Row:
    devices = torch.details.get("devices", [])
    build = torch.details.get("cuda")
    if devices:
        found, status, remedy = f"{', '.join(devices)}, driver {driver or 'unknown'}", "ok", ""
    elif driver is None:
        found, status, remedy = "no NVIDIA driver is loaded", "missing", "a machine with an NVIDIA GPU and its driver"
    else:
        found, status = f"driver {driver}, but torch (CUDA {build or 'none'}) finds no device", "broken"
        remedy = "a newer driver, or a torch built for this one's CUDA (nvidia-smi shows it); see CUDA_VISIBLE_DEVICES"
    return Row("CUDA device", found, status, "device=cuda: CUDA graphs, TensorRT", remedy)


def _print_table(rows: Sequence[Row]) -> None:
    """Core packages that work stand on one line: what matters is what does not."""
    packages = {package.distribution for package in OTHER_PACKAGES if package.is_core}
    fine = [row.item for row in rows if row.item in packages and row.status == "ok"]
    shown = [row for row in rows if row.item not in fine]
    shown.insert(1, Row("core packages", f"{len(fine)} of {len(packages)} import", "ok", ", ".join(fine), ""))
    try:
        _print_rich(shown)
    except ImportError:
        for row in shown:
            print(f"{row.status:8} {row.item}: {row.found}" + ("" if row.status == "ok" else f" -> {here(row.remedy)}"))
    fatal = [row.item for row in rows if row.is_fatal]
    print(f"the core does not work: {', '.join(fatal)}" if fatal else "the core works")


def _print_rich(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "missing": "yellow", "broken": "red"}
    table = Table("item", "found", "status", "needed for", "how to get it")
    for row in rows:
        status = Text(row.status, style="bold red" if row.is_fatal else colours[row.status])
        # Text, not str: rich reads the brackets of '.[mlflow]' as a style
        remedy = "" if row.status == "ok" else here(row.remedy)
        table.add_row(Text(row.item), Text(row.found), status, Text(row.needed_for), Text(remedy))
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH)
    console.print(table)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)

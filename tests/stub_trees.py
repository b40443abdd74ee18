"""A tree with an `engine` package of a few lines: comparisons then start real servers and children of a fake engine."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from experiments.common.journal import JournalWriter
from experiments.compare.bench import Bench
from experiments.compare.processes import SideSpec
from experiments.compare.proof import Proof
from experiments.compare.settings import RunPlan

CLOCK = """
import time

class Clock:
    def now_s(self): return time.perf_counter()
    def sync(self): pass

def make_clock(kind): return Clock()
"""
CONTRACT = """
from types import SimpleNamespace

def SynthesisRequest(**fields): return SimpleNamespace(**fields)
"""
BUILD = """
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
import numpy as np

@dataclass
class Facts:
    proof: dict
    random_weights: bool
    name: str = "fp32"
    steps: int = 7
    evals_per_step: int = 1
    versions: dict = field(default_factory=dict)

class Engine:
    num_calls = 0
    is_random = True
    loudness = 0.1

    def __enter__(self): return self
    def __exit__(self, *_): pass

    @property
    def facts(self): return Facts(proof={"calls": self.num_calls, **self.own_proof()}, random_weights=self.is_random)

    def own_proof(self): return {}
    def before(self): pass

    def synthesize(self, requests):
        self.num_calls += 1
        self.before()
        audio_S = self.loudness * np.random.default_rng(requests[0].seed).normal(size=94 * 256).astype(np.float32)
        return [SimpleNamespace(
            num_evals=7, num_chunks=1, mel_ND=np.zeros((95, 100), np.float32), sample_rate_hz=24000, audio_S=audio_S,
            noise_sha256=str(requests[0].seed),
        )]

def build_engine(config, clock): return Changed()

class Changed(Engine):
"""


def stub_tree(folder: Path, *changes: str) -> Path:
    """changes: lines of the class body of the fake engine, in place of its own."""
    package = folder / "engine"
    package.mkdir(parents=True)
    body = "\n".join(f"    {line}" for line in changes or ("pass",))
    for name, text in {"__init__": "", "clock": CLOCK, "contract": CONTRACT, "build": BUILD + body + "\n"}.items():
        (package / f"{name}.py").write_text(text)
    return folder


def stub_side(side: str, tree: Path, config: dict[str, Any]) -> SideSpec:
    requests = tree / "requests.json"
    np.save(tree / "0.npy", np.zeros(8, np.float32))
    requests.write_text(json.dumps([{"utterance_id": "en04", "text": "That was close.", "ref_audio": "0.npy"}]))
    return SideSpec(side=side, tree=tree, config=config, requests=requests, threads=1)


def open_bench(specs: list[SideSpec], folder: Path, log: BinaryIO, stack: ExitStack, call_limit_s: float = 60) -> Bench:
    """Two turns a block on one sentence; nothing of what the audio sounds like is judged (random weights)."""
    plan = RunPlan(
        turns_per_block=2, sentences_per_block=1, blocks_per_server=4, order_seed=0, call_limit_s=call_limit_s
    )
    bench = Bench(
        specs=specs, sentences=["en04"], plan=plan, journal=stack.enter_context(JournalWriter(folder / "pairs.jsonl")),
        log=log, proof=Proof({spec.side: spec.config for spec in specs}, [("en04", "That was close.")], {"en04": 0.0}),
        keep=folder,
    )  # fmt: skip
    return stack.enter_context(bench)

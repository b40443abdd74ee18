"""Groups of settings as models: the YAML holds every key, a misfit is one line, what was typed before still works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.contract import ConfigError
from experiments import gate
from experiments.common.presets import CONF
from experiments.compare.settings import COMPARE
from experiments.serve.settings import LOAD, SERVE
from experiments.settings.groups import GROUPS, OPEN, model_of
from experiments.settings.own import Own
from experiments.settings.typed import Group, group_of

OWN = (COMPARE, LOAD, SERVE)


@pytest.mark.parametrize("own", OWN, ids=lambda own: own.name)
def test_the_preset_of_a_verb_holds_every_key_with_the_models_default(own: Own[Group]) -> None:
    written = yaml.safe_load((CONF / own.name / f"{own.preset}.yaml").read_text("utf-8"))
    assert written.keys() == own.kind.model_fields.keys()
    assert own.made([]) == own.kind()


@pytest.mark.parametrize(
    ("own", "before", "today"),
    [
        (COMPARE, ["mode=quick", "pairs=48"], ["compare=quick", "compare.pairs=48"]),
        (COMPARE, ["metrics=wall_time", "looks=[2]"], ["compare.metrics=wall_time", "compare.looks=[2]"]),
        (LOAD, ["users=[1,4]", "rate_per_s=null"], ["load.users=[1,4]", "load.rate_per_s=null"]),
        (LOAD, ["transport=http", "url=http://a:1"], ["load.transport=http", 'load.url="http://a:1"']),
        (SERVE, ["port=0", "host=localhost"], ["serve.port=0", "serve.host=localhost"]),
    ],
)  # fmt: skip
def test_a_key_alone_means_what_it_meant_before_there_were_groups(
    own: Own[Group], before: list[str], today: list[str]
) -> None:
    mine, rest = own.split([*before, "engine=bf16"])
    assert rest == ["engine=bf16"]
    assert own.made(mine) == own.made(today)


@pytest.mark.parametrize(
    ("own", "word", "line"),
    [
        (COMPARE, "compare.pears=1", "compare.pears=1: no such key, did you mean compare.pairs"),
        (COMPARE, "compare=fast", "compare=fast: choose one of blocks, quick; "),
        (COMPARE, "compare.sentinel=1", "compare.sentinel=1: must be true or false; use compare.sentinel=false"),
        (COMPARE, "compare.pairs=1,2", "compare.pairs=1,2: is one value; give one of them"),
        (LOAD, "load.requests=0", "load.requests=0: must be a whole number from 1; use load.requests=100"),
        (LOAD, "load.scenario=burst", "load.scenario=burst: must be one of closed, open, offline"),
        (SERVE, "serve.port=70000", "serve.port=70000: must be a whole number from 0 to 65535; use serve.port=8000"),
        (SERVE, "serve.host=0", "serve.host=0: is read as a number or as true or false, not as a text; type "),
    ],
)  # fmt: skip
def test_a_misfit_is_said_with_what_is_allowed(own: Own[Group], word: str, line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{line}"):
        own.made([word])


def presets() -> list[tuple[str, Path]]:
    return [(name, path) for name in GROUPS for path in sorted((CONF / name).glob("*.yaml"))]


@pytest.mark.parametrize(("name", "path"), presets(), ids=lambda part: getattr(part, "stem", part))
def test_every_key_of_a_preset_is_declared(name: str, path: Path) -> None:
    content: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    if GROUPS[name] not in OPEN:
        assert content.keys() - {"defaults"} <= model_of(GROUPS[name]).model_fields.keys()


def test_a_group_is_frozen() -> None:
    made = group_of(model_of(GROUPS["device"]), "device", {"name": "cpu", "kind": "cpu", "threads": 2})
    with pytest.raises(ValueError, match="frozen"):
        made.threads = 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("argv", [["main", "--run", "a"], ["gate.baseline=main", "gate.run=a"], ["main", "gate.run=a"]])
def test_a_gate_is_told_what_it_judges_in_either_form(argv: list[str]) -> None:
    asked, overrides = gate.read_asked([*argv, "gate.catch_ratio=2"])
    assert (asked.name, asked.run, asked.require_approved, overrides) == (
        "main", Path("a"), False, ["gate.catch_ratio=2"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["gate.catch_ratio=2"], "gate.baseline=.none.: is needed; write `gate NAME`"),
        (["main", "gate.baseline=other"], "gate.baseline=other: main is named too"),
        (["gate.baseline=x", "gate.require_approved=yes"], "gate.require_approved=yes: must be true or false"),
    ],
)
def test_a_gate_that_is_told_no_baseline_says_so(argv: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{line}"):
        gate.read_asked(argv)

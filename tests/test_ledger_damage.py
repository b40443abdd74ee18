"""sweep.json is read as it was written, or refused in one line: whatever a disk or a hand has made of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.sweep.ledger import Attempt, Entry, Ledger, load_ledger
from metrics.record import RecordError

ATTEMPT = Attempt(run_id="r1", started="2026-01-01", outcome="failed", signal="signal 40", log_tail=("one", "two"))
ENTRIES = [
    Entry(
        label="fp32-euler_7", dir="cells/fp32-euler_7", state="failed", reason="killed", remedy="see log.txt",
        overrides=("engine=fp32",), identity={"code": "0" * 16}, attempts=(ATTEMPT,),
    ),
    Entry(label="bf16", dir="cells/bf16", state="pending", reason=None, remedy=None, overrides=()),
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder: Path) -> dict[str, Any]:
    Ledger(folder=folder, sweep_id="s", entries=list(ENTRIES), reference="cells/fp32-euler_7").save()
    return dict(json.loads((folder / "sweep.json").read_text()))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return found + [place for key in keys for place in places(value[key], (*path, key))]


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written(tmp_path)
    assert load_ledger(tmp_path).entries == ENTRIES


@QUICK
@given(st.data())
def test_another_value_anywhere_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = written(tmp_path)
    *above, last = data.draw(st.sampled_from(places(content)))
    node: Any = content
    for key in above:
        node = node[key]
    if data.draw(st.booleans()):
        node[last] = data.draw(VALUES)
    else:
        del node[last]
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    refused: RecordError | None = None
    try:
        ledger = load_ledger(tmp_path)
    except RecordError as error:
        refused = error
    if refused is not None:
        assert "\n" not in str(refused)
        assert str(tmp_path) in str(refused)
        return
    for entry in ledger.entries:
        assert isinstance(entry.is_settled, bool)
        assert json.dumps(asdict(entry))
    ledger.start()  # what is read can be gone on with
    assert load_ledger(tmp_path).status == "running"


def test_cut_at_any_byte_it_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    whole = (tmp_path / "sweep.json").read_bytes()
    for size in range(len(whole.rstrip())):
        (tmp_path / "sweep.json").write_bytes(whole[:size])
        with pytest.raises(RecordError):
            load_ledger(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100000, b"null", b"7", b"\0"])
def test_what_is_no_sweep_file_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"not a sweep file|another schema version"):
        load_ledger(tmp_path)

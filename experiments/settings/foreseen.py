"""What a run's record will say of itself, as far as that is known before it is made: nothing is built for it."""

from __future__ import annotations

from typing import cast

from engine.families.family import family_of
from experiments.common.environment import fingerprint, now_iso
from experiments.common.plain import Config, as_plain
from experiments.settings.compose import Cell
from experiments.workload.requests import load_workload
from metrics.parts.facts import Facts
from metrics.record import RunRecord


def planned_record(cell: Cell) -> RunRecord:
    """A record without trials of one validated variant: the machine as it is, the workload, and of the facts those that
    the configuration decides (an engine that is not what was asked for is refused when it is built)."""
    config, workload = cell.config, load_workload(cell.config)
    return RunRecord(
        run_id="planned", created=now_iso(), status="skipped", reason="it was not measured", remedy=None,
        label=cell.label, config=as_plain(config), facts=decided_facts(config),
        environment=fingerprint(config["device"]),
        workload={"name": workload.name, "identity_sha256": workload.identity_sha256}, build_s=None, first_call_s=None,
        peak_rss_bytes=None, peak_pss_bytes=None, peak_device_bytes=None,
    )  # fmt: skip


def decided_facts(config: Config) -> Facts:
    """Facts of an engine by their names, before there is one."""
    asked = family_of(config["model"]).asked(config)
    return cast(Facts, {"name": config["engine"]["name"], "model": config["model"]["name"], **dict(asked.values())})

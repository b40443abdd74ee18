"""The dashboard's JSON from its panels, by Grafana's own foundation SDK: `make dashboard` writes it again.

The SDK (extra `monitoring`, Apache 2.0, Python 3.11) is needed for making the file alone; who looks at the dashboard
has the file. Its types are generated from the schema of the Grafana version that it names.
"""

from __future__ import annotations

from pathlib import Path

from experiments.monitoring.panels import ROWS, WIDTHS, Panel
from metrics.record import write_atomically

PATH = Path(__file__).resolve().parent / "grafana" / "f5bench.json"
SOURCE = "f5bench-prometheus"  # uid of the data source, which grafana/datasources.yaml provisions
HEIGHTS = {"timeseries": 8, "states": 8, "value": 4}


def rendered() -> str:
    """The file. Raises ImportError without the SDK."""
    from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable, Row
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

    source = DataSourceRef(type_val="prometheus", uid=SOURCE)
    instances = (
        QueryVariable("instance").label("service").datasource(source).multi(True).include_all(True)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )  # fmt: skip
    board = (
        Dashboard("f5bench: a service and its watch")
        .uid("f5bench").tags(["f5bench"]).readonly().refresh("1m").time("now-24h", "now").timezone("browser")
        .with_variable(instances.query("label_values(f5bench_engine_info, instance)"))
    )  # fmt: skip
    for title, panels in ROWS.items():
        board = board.with_row(Row(title))
        for panel in panels:
            board = board.with_panel(_built(panel, source))
    return JSONEncoder(sort_keys=True, indent=1).encode(board.build()) + "\n"


def _built(panel: Panel, source):  # type: ignore[no-untyped-def]  # the SDK's types are not always there
    from grafana_foundation_sdk.builders import stat, statetimeline, timeseries
    from grafana_foundation_sdk.builders.common import ReduceDataOptions
    from grafana_foundation_sdk.builders.prometheus import Dataquery

    kinds = {"timeseries": timeseries.Panel, "states": statetimeline.Panel, "value": stat.Panel}
    built = (
        kinds[panel.kind]().title(panel.title).description(panel.said).datasource(source).unit(panel.unit)
        .span(WIDTHS[panel.width]).height(HEIGHTS[panel.kind])
    )  # fmt: skip
    if panel.kind == "value":
        built = built.text_mode("name").reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    for number, query in enumerate(panel.queries):
        target = Dataquery().ref_id("ABCDEF"[number]).expr(query.expr).legend_format(query.legend)
        built = built.with_target(target.range() if panel.kind != "value" else target.instant())
    return built


def write() -> None:
    write_atomically(PATH, rendered())

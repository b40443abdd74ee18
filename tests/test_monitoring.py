"""Dashboard, alert rules and compose file: on the names that a scrape really has, and taken by Prometheus itself."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as families

from experiments.monitoring.dashboard import PATH, SOURCE, rendered
from experiments.monitoring.panels import ROWS, WIDTHS
from experiments.serve.canary import Canary
from experiments.serve.counters import ServiceCounters
from experiments.serve.settings import SERVE
from experiments.settings.compose import compose_run
from experiments.telemetry.reading import Reading
from experiments.watch.ledger import Bound, Entry
from experiments.watch.told import exposition
from experiments.workload.requests import load_workload
from reports.commands import ROOT
from tests.load_fakes import ToneEngine
from tests.test_serve_metrics import CONFIG, HOST, service_of

FOLDER = ROOT / "experiments" / "monitoring"
RULES = ROOT / "experiments" / "watch" / "alerts.yaml"
PANELS = [panel for panels in ROWS.values() for panel in panels]
EXPRS = [query.expr for panel in PANELS for query in panel.queries]
NAME = re.compile(r"\b(?:f5bench|process)[a-z0-9_:]*|\bALERTS\b")
LABELS = re.compile(r"\{\{(\w+)\}\}")


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def names_in(expr: str) -> set[str]:
    """Of metrics; label values in quotes and labels in braces are none."""
    return set(NAME.findall(re.sub(r'"[^"]*"', '""', expr)))


@contextmanager
def told() -> Iterator[Callable[[], tuple[str, str]]]:
    """At each look: what a service tells that spoke once more, with power and a canary, and what a watch tells."""
    entry = Entry(
        baseline="main", folder="a", started_unix_s=1e9, ended_unix_s=1e9 + 60, exit_code=0, outcome="PASS",
        host_class="here", findings=(Bound(metric="wall_time", outcome="PASS", ratio=1.0, low=0.9, high=1.1),),
        courses={"rtf": "PASS"},
    )  # fmt: skip
    joules = iter(range(1, 1_000_000))
    with service_of(ToneEngine()) as service:
        request = load_workload(CONFIG).requests[0]
        reading = Reading(rails_w={"VDD": 3.5}, total_w=9.0, counters_j={"package-0": 0.0})

        def power() -> Reading:
            return Reading(rails_w=reading.rails_w, total_w=9.0, counters_j={"package-0": float(next(joules))})

        counters = ServiceCounters(service.facts, HOST, service.counts, power)
        canary = Canary(service, request, 60, None)
        counters.add(canary)
        service.watch = counters.observe

        def look() -> tuple[str, str]:
            canary.check()
            return counters.exposition().decode(), exposition([entry], 2e9).decode()

        yield look


def labels_told() -> dict[str, set[str]]:
    """Name of a sample -> its labels, after two looks."""
    found: dict[str, set[str]] = {}
    with told() as look:
        look()
        for text in look():
            for family in families(text):
                for sample in family.samples:
                    found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_dashboard_and_alerts_ask_for_what_a_scrape_has() -> None:
    scraped, recorded = labels_told(), {rule["record"] for rule in alert_rules() if "record" in rule}
    assert "f5bench_rtf_sum" in scraped, "the scrape is a real one"
    for expr in [*EXPRS, *(rule["expr"] for rule in alert_rules())]:
        assert names_in(expr) - recorded - {"ALERTS"} <= set(scraped), expr
    assert names_in('rate(f5bench_nothing{a="f5bench_rtf"}[5m])') == {"f5bench_nothing"}


def test_a_legend_names_labels_that_its_query_has() -> None:
    scraped = labels_told()
    for panel in PANELS:
        for query in panel.queries:
            known = {label for name in names_in(query.expr) for label in scraped.get(name, ())}
            own = {"alertname"} if "ALERTS" in query.expr else set()
            assert set(LABELS.findall(query.legend)) <= known | own | {"instance"}, panel.title


def test_every_metric_of_ours_is_shown_or_alerted_on() -> None:
    shown = {name for expr in [*EXPRS, *(rule["expr"] for rule in alert_rules())] for name in names_in(expr)}
    ours = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in labels_told() if name.startswith("f5bench")}
    left_out = {name for name in ours if not any(one.startswith(name) for one in shown)}
    assert left_out == {
        "f5bench_service_seconds",
        "f5bench_canary_last_check_timestamp_seconds",
        "f5bench_watch_exit_code",
    }


def test_the_dashboard_file_has_the_panels_on_one_grid() -> None:
    board = json.loads(PATH.read_text())
    shown = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in shown] == [panel.title for panel in PANELS]
    assert [[one["expr"] for one in panel["targets"]] for panel in shown] == [
        [query.expr for query in panel.queries] for panel in PANELS
    ]
    assert {panel["datasource"]["uid"] for panel in shown} == {SOURCE}
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert {panel["gridPos"]["w"] for panel in shown} == set(WIDTHS.values())
    assert board["uid"] == "f5bench"


def test_the_dashboard_file_is_what_the_sdk_makes_of_the_panels() -> None:
    if importlib.util.find_spec("grafana_foundation_sdk") is None:
        pytest.skip("needs the extra monitoring, for Python from 3.11; the test above holds the file to its panels")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    assert PATH.read_text() == rendered(), "make dashboard"
    register_default_plugins()
    board = json.loads(PATH.read_text())
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
    assert lost(board, read) == [], "the types of Grafana's schema have a place for everything"
    assert lost({"a": [{"b": 1}]}, {"a": [{"c": 1}]}) == [".a[0].b"]


def lost(before: Any, after: Any, where: str = "") -> list[str]:
    """What of JSON is not in other JSON any more."""
    if isinstance(before, dict) and isinstance(after, dict):
        pairs = [(f"{where}.{key}", value, after.get(key)) for key, value in before.items()]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = [(f"{where}[{i}]", *both) for i, both in enumerate(zip(before, after, strict=True))]
    else:
        return [] if before == after else [where]
    return [name for where, one, other in pairs for name in lost(one, other, where)]


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return content


def test_everything_listens_on_loopback_and_grafana_asks_for_a_password() -> None:
    services = compose()["services"]
    assert set(services) == {"service", "prometheus", "node-exporter", "grafana"}
    assert {one["network_mode"] for one in services.values()} == {"host"}
    assert not any("ports" in one for one in services.values())
    addresses = [
        word.split("=", 1)[1] for name in ("prometheus", "node-exporter") for word in services[name]["command"]
        if "listen-address" in word
    ]  # fmt: skip
    assert addresses == ["127.0.0.1:9090", "127.0.0.1:9100"]
    grafana = services["grafana"]["environment"]
    assert grafana["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert grafana["GF_SECURITY_ADMIN_PASSWORD"].startswith("${F5BENCH_GRAFANA_PASSWORD:?"), (
        "without one it does not start"
    )
    assert grafana["GF_AUTH_ANONYMOUS_ENABLED"] == "false"


def test_the_service_is_started_by_words_that_it_takes() -> None:
    verb, *words = compose()["services"]["service"]["command"]
    mine, rest = SERVE.split(words)
    assert (verb, SERVE.made(mine).host, SERVE.made(mine).port) == ("serve", "127.0.0.1", 8000)
    compose_run(rest)
    assert (ROOT / compose()["services"]["service"]["build"]["dockerfile"]).is_file()


def test_every_file_is_where_the_others_look_for_it() -> None:
    services = compose()["services"]
    mounts = {}
    for one in services.values():
        for volume in one.get("volumes", ()):
            if volume.startswith("."):
                here, there, mode = volume.split(":")
                assert (FOLDER / here).is_file(), here
                assert mode == "ro"
                mounts[there] = here
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    targets = [
        target for job in scraped["scrape_configs"] for one in job["static_configs"] for target in one["targets"]
    ]
    assert targets == ["127.0.0.1:8000", "127.0.0.1:9100"]
    (rules,) = scraped["rule_files"]
    assert (FOLDER / rules).resolve() == RULES
    inside = os.path.normpath(f"/etc/prometheus/monitoring/{rules}")
    assert (mounts["/etc/prometheus/monitoring/prometheus.yml"], mounts[inside]) == ("./prometheus.yml", rules)
    (source,) = yaml.safe_load((FOLDER / "grafana" / "datasources.yaml").read_text())["datasources"]
    assert (source["uid"], source["url"]) == (SOURCE, "http://127.0.0.1:9090")
    (provider,) = yaml.safe_load((FOLDER / "grafana" / "dashboards.yaml").read_text())["providers"]
    assert mounts[f"{provider['options']['path']}/f5bench.json"] == "./grafana/f5bench.json"


def test_promtool_takes_configuration_rules_and_every_query(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    rules = [{"record": f"panel:{i}", "expr": filled(expr, "5m")} for i, expr in enumerate(EXPRS)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    for words in (
        ["check", "config", str(FOLDER / "prometheus.yml")],
        ["check", "rules", str(tmp_path / "panels.yaml")],
    ):
        done = subprocess.run([promtool, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def filled(expr: str, interval: str) -> str:
    return expr.replace("$instance", ".*").replace("$__rate_interval", interval)


def free_port() -> int:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return int(server.server_address[1])


@contextmanager
def pages(*texts: Callable[[], str]) -> Iterator[list[int]]:
    """An HTTP server each, whose every page is what the function says."""
    servers = []
    for text in texts:

        class Page(BaseHTTPRequestHandler):
            say = staticmethod(text)

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(self.say().encode())

            def log_message(self, *_: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Page))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
    try:
        yield [int(server.server_address[1]) for server in servers]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def asked(port: int, expr: str) -> list[Any]:
    """The series that Prometheus answers with, empty while it does not."""
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expr})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: list[Any] = json.load(answer)["data"]["result"]
            return found
    except (urllib.error.URLError, ConnectionError):
        return []


@pytest.mark.enable_socket
def test_prometheus_answers_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """By the configuration of the compose file, on other ports and faster, with a real service's text and a watch's."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("Prometheus is not installed (apt-get install prometheus)")
    port = free_port()
    with told() as look, pages(lambda: look()[0], lambda: look()[1]) as ports:
        text = (FOLDER / "prometheus.yml").read_text()
        for old, new in (("8000", ports[0]), ("9100", ports[1])):
            text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
        text = text.replace("15s", "200ms").replace("1m", "200ms").replace("../watch/alerts.yaml", str(RULES))
        (tmp_path / "prometheus.yml").write_text(text)
        words = ["--config.file", tmp_path / "prometheus.yml", "--storage.tsdb.path", tmp_path / "data"]
        listen = f"--web.listen-address=127.0.0.1:{port}"
        with (tmp_path / "log").open("wb") as log:
            running = subprocess.Popen([prometheus, *map(str, words), listen], stdout=log, stderr=log)
            try:
                left = {expr: filled(expr, "5s") for expr in EXPRS if "ALERTS" not in expr}
                until_s = time.monotonic() + 30
                while left and time.monotonic() < until_s and running.poll() is None:
                    left = {expr: query for expr, query in left.items() if not asked(port, query)}
            finally:
                running.kill()
                running.wait()
    assert sorted(left) == [], (tmp_path / "log").read_text()[-2000:]

"""Telemetry: sources on faked boards and made-up cards, the sampler's file."""

from __future__ import annotations

import errno
import itertools
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.jetson.tree import NoValue, Tree, read_once
from experiments.telemetry.backends import choose
from experiments.telemetry.board_state import read_slowed, read_state
from experiments.telemetry.rails import JetsonRails
from experiments.telemetry.rapl import Rapl
from experiments.telemetry.reading import Reading
from experiments.telemetry.sampler import TELEMETRY, Sampler
from experiments.telemetry.watch import watching
from metrics.power.energy import unwrapped
from tests.jetson_trees import AGX_JP6, AGX_W, BOARDS, ORIN_NX, THOR_JP71, VIN, plant, throttles
from tests.test_jetson_board import FAILURES


@pytest.fixture(autouse=True)
def no_nvpmodel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.parametrize(
    ("name", "rule", "watts", "rails"),
    [
        ("agx-orin-jp5", "agx-orin-rails", AGX_W, 3),
        ("agx-orin-jp6", "agx-orin-rails", AGX_W, 4),
        ("agx-orin-jp7", "agx-orin-rails", AGX_W, 4),
        ("orin-nx", "vdd-in", 4.984 * 1.856, 3),
        ("orin-nano", "vdd-in", 5.040 * 1.042, 3),
        ("thor-jp71", "thor-vin", 19.78, 4),
        ("thor-jp72", "thor-rails", 12 * 0.461 + 5.04, 3),
    ],
)
def test_the_total_of_each_board_goes_by_its_rule(
    name: str, rule: str, watts: float, rails: int, tmp_path: Path
) -> None:
    backend = choose("cuda", plant(tmp_path, BOARDS[name]))
    assert (backend.source, backend.head()["rule"]) == ("rails", rule)
    reading = backend.read()
    assert reading.total_w == pytest.approx(watts)
    assert len(reading.rails_w) == rails
    assert reading.missing == {}


def test_what_is_no_rail_is_not_read_as_one_and_the_filter_is_told(tmp_path: Path) -> None:
    backend = JetsonRails.find(plant(tmp_path, AGX_JP6), "agx-orin")
    assert set(backend.read().rails_w) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}
    head = backend.head()
    assert head["total_of"] == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"], "VDDQ is inside one of them"
    assert head["chips"][0] == {"name": "ina3221", "samples": 512, "update_interval_ms": 430}
    assert backend.update_interval_s == 0.43
    assert list(head["missing"].values()) == ["/sys/class/hwmon/hwmon4/in3_label: has no name"]


def failing(tmp_path: Path, name: str, error: Exception) -> Tree:
    def read(path: Path) -> bytes:
        if path == tmp_path / name:
            raise error
        return read_once(path)

    return Tree(tmp_path, read)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"), BlockingIOError(errno.EAGAIN, "again"),
        PermissionError(errno.EACCES, "denied"), FileNotFoundError(errno.ENOENT, "gone"),
        TypeError("can't concat NoneType to bytes"),
    ],
)  # fmt: skip
def test_a_rail_that_fails_while_running_leaves_no_total(error: Exception, tmp_path: Path) -> None:
    plant(tmp_path, AGX_JP6)
    whole = JetsonRails.find(Tree(tmp_path), "agx-orin")
    broken = failing(tmp_path, "sys/class/hwmon/hwmon3/curr1_input", error)
    backend = JetsonRails(
        tree=broken, rails=whole.rails, rule=whole.rule, rule_missing=None, chips=whole.chips, unreadable={}
    )
    reading = backend.read()
    assert reading.total_w is None
    assert "VDD_GPU_SOC" not in reading.rails_w
    assert "/sys/class/hwmon/hwmon3/curr1_input" in reading.missing["VDD_GPU_SOC"]
    assert len(reading.rails_w) == 3


@pytest.mark.parametrize("offset", [0, 1, 2])
@pytest.mark.parametrize("name", BOARDS)
def test_whatever_fails_there_is_a_value_or_a_reason_and_never_another_number(
    name: str, offset: int, tmp_path: Path
) -> None:
    """Every file of every board, from the start on and while running; the ways of failing take turns."""
    whole_tree = plant(tmp_path, BOARDS[name])
    whole, whole_state = choose("cuda", whole_tree), read_state(whole_tree)
    assert isinstance(whole, JetsonRails)
    total_w, rails_w = whole.read().total_w, whole.read().rails_w
    ways = itertools.islice(itertools.cycle(FAILURES.values()), offset, None)
    for broken, fails in zip(BOARDS[name], ways, strict=False):
        tree = failing(tmp_path, broken, fails(tmp_path / broken))
        backend = choose("cuda", tree)
        for one in (backend, replace(whole, tree=tree)):
            reading, head = one.read(), one.head()
            assert all(rails_w[label] == watts for label, watts in reading.rails_w.items()), broken
            if reading.total_w is None:
                assert head["missing"] or reading.missing, broken
            else:  # where a sensor of the whole board is not there, another rule has another name
                assert (reading.total_w == total_w) is (head["rule"] == whole.head()["rule"]), broken
        state = read_state(tree)
        for key, value in state.items():
            known = whole_state[key]
            assert value.items() <= known.items() if isinstance(value, dict) else value == known, (broken, key)


def test_a_rail_that_fails_from_the_start_has_no_rule_and_says_which_it_was(tmp_path: Path) -> None:
    plant(tmp_path, AGX_JP6)
    broken = failing(tmp_path, "sys/class/hwmon/hwmon3/in1_input", OSError(errno.EIO, "Input/output error"))
    head = choose("cuda", broken).head()
    assert head["rule"] is None
    assert head["missing"]["VDD_GPU_SOC"] == "/sys/class/hwmon/hwmon3/in1_input: cannot be read (EIO)"
    assert head["missing"]["total"].startswith("the total of agx-orin is VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0")


def test_a_power_below_zero_is_no_value(tmp_path: Path) -> None:
    tree = plant(tmp_path, {**ORIN_NX, "sys/class/hwmon/hwmon1/curr1_input": "-8"})
    backend = JetsonRails.find(tree, "orin-nx")
    assert "which no rail uses" in backend.unreadable["VDD_IN"]
    assert backend.read().total_w is None


def test_jetpack_4_has_its_rails_elsewhere(tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1"
    tree = plant(tmp_path, {f"{folder}/rail_name_0": "VDD_IN", f"{folder}/in_power0_input": "4321"})
    assert JetsonRails.find(tree, "orin-nano").read().total_w == pytest.approx(4.321)


def test_two_rails_of_one_name_are_refused(tmp_path: Path) -> None:
    tree = plant(tmp_path, {**ORIN_NX, "sys/class/hwmon/hwmon1/in3_label": "VDD_IN"})
    with pytest.raises(NoValue, match="is called VDD_IN, as another rail is"):
        JetsonRails.find(tree, "orin-nx")


def test_a_jetson_without_sensors_says_so_and_reads_no_zero(tmp_path: Path) -> None:
    files = {name: text for name, text in AGX_JP6.items() if "hwmon" not in name}
    backend = choose("cuda", plant(tmp_path, files))
    assert backend.source == "none"
    assert backend.read() == Reading()
    assert "holds no power sensor of a Jetson" in backend.head()["missing"]["rails"]


def test_a_processors_packages_are_read_and_what_is_inside_them_is_not(tmp_path: Path) -> None:
    folder = "sys/class/powercap/intel-rapl"
    files = {
        f"{folder}:0/name": "package-0", f"{folder}:0/energy_uj": "65000000",
        f"{folder}:0/max_energy_range_uj": "65532610987", f"{folder}:1/name": "psys", f"{folder}:1/energy_uj": "9",
        f"{folder}:0:0/name": "core", f"{folder}:0:0/energy_uj": "7",
    }  # fmt: skip
    tree = plant(tmp_path, files)
    backend = choose("cpu", tree)
    assert (backend.source, backend.read().counters_j) == ("rapl", {"package-0": 65.0})
    span_j = backend.head()["span_j"]["package-0"]
    assert unwrapped([65_532.0, 1.5], span_j) == [65_532.0, pytest.approx(span_j + 1.5)]
    plant(tmp_path, {f"{folder}:0/energy_uj": ""})
    with pytest.raises(NoValue, match="no whole number"):
        Rapl.find(tree)
    assert choose("cpu", Tree(tmp_path / "nothing")).head() == {
        "missing": {"rapl": "/sys/class/powercap: holds no package of a processor"}
    }


def test_the_state_of_a_board_has_what_can_be_read(tmp_path: Path) -> None:
    tree = plant(tmp_path, AGX_JP6)
    state = read_state(tree)
    assert state["zones_c"] == {"cpu-thermal": 63.625, "tj-thermal": 63.781}, "a gated zone and a constant are none"
    assert (state["events"], state["gpu_hz"], state["gpu_load_frac"]) == (
        {"oc1": 0, "oc2": 0, "oc3": 2},
        1300500000,
        0.873,
    )
    assert state["fan_frac"] == 0.2
    assert state["mem_available_bytes"] == 32_174_500 * 1024
    assert state["swap_used_bytes"] == 100_000 * 1024
    assert read_state(Tree(tmp_path / "nothing")) == {}, "nobody has looked whether anything throttles"
    assert state["throttles"] == [], "somebody has"
    plant(tmp_path, throttles((0, 0, 2), acting=True))
    assert read_slowed(tree).acting == ("cpu-throttle-alert",)
    (tmp_path / "sys/class/thermal/cooling_device1/cur_state").unlink()
    assert read_slowed(tree).acting is None
    assert "throttles" not in read_state(tree)


class Counting:
    """A source whose n-th reading is n watts, and which wakes up whoever waits for the third."""

    source = "counting"

    def __init__(self) -> None:
        self.num, self.enough = 0, threading.Event()

    def head(self) -> dict[str, Any]:
        return {"rule": "one", "total_of": ["one"]}

    def read(self) -> Reading:
        self.num += 1
        if self.num == 3:
            self.enough.set()
        return Reading(rails_w={"one": float(self.num)}, total_w=float(self.num))


def test_the_file_has_a_head_and_samples_with_both_clocks(tmp_path: Path) -> None:
    source, path = Counting(), tmp_path / TELEMETRY
    with Sampler(path, source, lambda: {"fan_frac": 0.5}, power_hz=200, state_hz=100) as sampler:
        assert source.enough.wait(10)
    assert sampler.problem is None
    head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert (head["kind"], head["source"], head["rule"]) == ("head", "counting", "one")
    power = [line for line in lines if line["kind"] == "power"]
    assert [line["total_w"] for line in power] == [float(i + 1) for i in range(source.num)]
    assert [line["t_s"] for line in power] == sorted(line["t_s"] for line in power)
    assert all(abs(line["unix_s"] - line["t_s"] - (head["unix_s"] - head["t_s"])) < 1 for line in lines)
    assert [line["fan_frac"] for line in lines if line["kind"] == "state"][:1] == [0.5]


def test_a_disk_that_is_full_ends_the_samples_and_not_the_run() -> None:
    source = Counting()
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space left"), Sampler(full, source, dict, power_hz=100):
        pytest.fail("the head was written")


def test_a_sensor_that_never_answers_holds_nobody_up_for_a_second(tmp_path: Path) -> None:
    """A pipe that nobody writes to is a file whose reading does not come back."""
    source, asked = Counting(), threading.Event()
    pipe = tmp_path / "in1_input"
    os.mkfifo(pipe)

    def hangs() -> dict[str, Any]:
        asked.set()
        return {"value": read_once(pipe).decode()}

    with Sampler(tmp_path / TELEMETRY, source, hangs, power_hz=50) as sampler:
        assert asked.wait(10)
        before_s = time.monotonic()
    assert time.monotonic() - before_s < 1.0
    assert sampler.problem == "a sensor has not answered for 0.7 s"
    pipe.write_text("0")  # the thread that was left behind comes to its end


@pytest.mark.parametrize("rates", [(0.0, 1.0), (1.0, -1.0)])
def test_a_rate_that_means_nothing_is_refused(rates: tuple[float, float], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Sampler(tmp_path / "x", Counting(), dict, *rates)


def test_elsewhere_nothing_is_watched(tmp_path: Path) -> None:
    with watching(tmp_path, Tree(tmp_path / "pc")) as watch:
        assert watch is None
        assert not [one for one in threading.enumerate() if one.name == "telemetry"]
    assert not (tmp_path / TELEMETRY).exists()


def test_thor_takes_what_its_carrier_measures(tmp_path: Path) -> None:
    backend = choose("cuda", plant(tmp_path, THOR_JP71))
    assert backend.head()["rails"]["VIN"] == [VIN]
    assert backend.read().rails_w["VDD_GPU"] == 0, "the GPU is gated: that is a power, not a missing one"

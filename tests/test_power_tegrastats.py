"""Lines of tegrastats: recorded ones to known values, in any order, with any field missing; the unknown is named."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.power.rails import RULES, NoRule, rule_of, total
from metrics.power.tegrastats import Rail, Tegrastats, UnknownForm, parse_tegrastats
from tests.tegrastats_lines import LINES

# line -> RAM, cores on of, GPU % and MHz, EMC % and MHz, zones with a value, rule, total mW
TABLE: dict[str, tuple[Any, ...]] = {
    "01": ((3276, 7859), (6, 6), (0, (114,)), (1, (1866,)), 8, "vdd-in", 5297),
    "02": ((1903, 15692), (8, 8), (0, ()), (0, ()), 8, "agx-xavier-rails", 3113),
    "04": ((1282, 62795), (12, 12), (0, (0,)), (0, (2133,)), 7, "agx-orin-rails", 6831),
    "05": ((4321, 62801), (12, 12), (0, (0, 0)), (0, (2133,)), 7, "agx-orin-rails", 6755),
    "06": ((1438, 30622), (8, 8), (0, ()), (0, ()), 7, None, None),
    "07": ((1205, 30623), (12, 12), (0, (114,)), (0, (204,)), 6, "agx-orin-rails", 9428),
    "08": ((18207, 62841), (12, 12), (0, (0, 0)), (3, (2133,)), 5, "agx-orin-rails", 8726),
    "10": ((1343, 7620), (6, 6), (0, (305,)), (15, (204,)), 6, "vdd-in", 5251),
    "11": ((6712, 7620), (6, 6), (99, (612,)), (61, (2133,)), 6, "vdd-in", 16321),
    "14": ((17842, 125772), (14, 14), None, None, 4, "thor-vin", 16802),
    "15": ((4208, 125773), (14, 14), (None, (0, 0, 0)), (0, (665,)), 4, "thor-rails", 8291),
    "16": ((9101, 125811), (14, 14), (None, (314, 314, 314)), (7, (3200,)), 5, "thor-rails", 20402),
    "17": ((9091, 125811), (14, 14), (None, (314, 314, 314)), (7, (3200,)), 5, "thor-rails", 19545),
    "18": ((36529, 125749), (14, 14), None, None, 5, "thor-vin", 87426),
}


def ruled(line: Tegrastats) -> tuple[str | None, float | None]:
    try:
        rule = rule_of(line.rails)
    except NoRule:
        return None, None
    return rule.name, total(line.rails_mw, rule)


@pytest.mark.parametrize("number", TABLE)
def test_every_recorded_line_says_what_it_says(number: str) -> None:
    line = parse_tegrastats(LINES[number])
    loads = [line.loads.get(name) for name in ("GR3D_FREQ", "EMC_FREQ")]
    found = (
        line.ram_mb, (sum(core is not None for core in line.cores), len(line.cores)),
        *(None if load is None else (load.percent, load.mhz) for load in loads), len(line.temperatures_c), *ruled(line),
    )  # fmt: skip
    assert found == TABLE[number]


def test_the_details_of_lines_that_trip_parsers() -> None:
    xavier = parse_tegrastats(LINES["02"])
    assert (xavier.rails["GPU"].now_mw, xavier.temperatures_c["GPU"], xavier.rails["CPU"].now_mw) == (0, 32, 216)
    orin = parse_tegrastats(LINES["04"])
    assert orin.gated == ("CV0", "CV1", "GPU", "CV2")
    assert orin.date == datetime(2023, 4, 24, 0, 1, 24)
    assert set(orin.rails) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}
    assert orin.loads["APE"].mhz == (174,)
    busy = parse_tegrastats(LINES["08"])
    assert (busy.loads["NVENC"].percent, busy.loads["NVENC"].mhz) == (79, (166,))
    assert busy.off == ("NVDEC", "NVJPG", "NVJPG1", "OFA", "NVDLA0", "NVDLA1", "PVA0_FREQ")
    assert (busy.cores[4].percent, busy.cores[4].mhz) == (46, (1267,))  # type: ignore[union-attr]
    assert busy.swap_mb == (86, 31420)
    thor = parse_tegrastats(LINES["17"])
    assert thor.rails["VDD_CPU_SOC_MSS"] == Rail(now_mw=7953, average_mw=8332, most_mw=8710)
    assert thor.temperatures_c["cpu"] == 34.312


def test_two_rules_of_one_board_differ_by_half_so_the_rule_is_part_of_the_figure() -> None:
    thor = parse_tegrastats(LINES["14"])
    inside = next(rule for rule in RULES if rule.name == "thor-rails")
    assert (ruled(thor), total(thor.rails_mw, inside)) == (("thor-vin", 16802), 10575)


@pytest.mark.parametrize(
    ("fragment", "rails"),
    [
        ("VDD_GPU 5517mW VDD_CPU_SOC_MSS 7484mW VIN_SYS_5V0 6309mW VIN 28548mW",
         {"VDD_GPU": 5517, "VDD_CPU_SOC_MSS": 7484, "VIN_SYS_5V0": 6309, "VIN": 28548}),
        ("NC 0mW/0mW NC 0mW/0mW VDD_NEW_2027 12mW/13mW", {"VDD_NEW_2027": 12}),
        ("VIN_SYS_5V0 4607mW/4657mW", {"VIN_SYS_5V0": 4607}),
    ],
)  # fmt: skip
def test_rails_without_an_average_unconnected_and_new_ones(fragment: str, rails: dict[str, float]) -> None:
    assert parse_tegrastats(fragment).rails_mw == rails


@pytest.mark.parametrize(
    "fragment",
    [
        "RAM 1/2MB (lfb 1x512kB)", "RAM 1/2MB (lfb 3x2048kB)", "IRAM 0/255kB(lfb 255kB)",
        "GR3D_FREQ 99%@[1098,1098,1098]", "EMC_FREQ @1600", "CPU [off,3%@729,off]", "MTS fg 1% bg 1%",
    ],
)  # fmt: skip
def test_forms_that_were_seen_elsewhere(fragment: str) -> None:
    assert parse_tegrastats(fragment) == parse_tegrastats(f"  {fragment}\n")


def test_a_core_that_is_off_is_none_and_keeps_its_place() -> None:
    cores = parse_tegrastats("CPU [off,3%@729,off]").cores
    assert [core is None for core in cores] == [True, False, True]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("", "an empty line"),
        ("hello world", "'hello world' is no field"),
        (f"{LINES['10']} VDD_X 5W/5W", "'VDD_X 5W/5W' is no field"),
        ("VDD_IN 5mW/6mW/7mW/8mW", "'VDD_IN 5mW/6mW/7mW/8mW' is no field"),
        ("VDD_IN -5mW/6mW", "'VDD_IN -5mW/6mW' is no field"),
        ("VDD_IN 5.5mW", "is no field"),
        ("VDD_IN 5mW VDD_IN 6mW", "rail VDD_IN stands twice"),
        ("RAM 1/2MB (lfb 1x4MB) RAM 1/2MB (lfb 1x4MB)", "RAM stands twice"),
        ("CPU [5%@729,?]", r"CPU \[\?\]: a core is off or PERCENT%@MHZ"),
        ("13-40-2023 00:01:24 VDD_IN 5mW", "'13-40-2023 00:01:24' is no month-day-year"),
        ("cpu@40C/41C/42C", "'cpu@40C/41C/42C' is no field"),
    ],
)
def test_an_unknown_form_is_refused_by_name(line: str, named: str) -> None:
    with pytest.raises(UnknownForm, match=named):
        parse_tegrastats(line)


def fields_of(line: str) -> list[str]:
    """Cut between fields by hand: what stands in brackets and "NAME VALUE" stay together."""
    found = re.findall(
        r"\d\d-\d\d-\d{4} \S+|RAM \S+ \([^)]*\)|SWAP \S+ \([^)]*\)|CPU \[[^\]]*\]|MTS fg \S+ bg \S+|\S+@-?[\d.]+C\S*"
        r"|\S+ \S+", line,
    )  # fmt: skip
    assert " ".join(found) == line
    return found


@given(st.sampled_from(sorted(TABLE)), st.data())
def test_any_order_of_fields_says_the_same(number: str, data: st.DataObject) -> None:
    fields = fields_of(LINES[number])
    whole, mixed = parse_tegrastats(LINES[number]), parse_tegrastats(" ".join(data.draw(st.permutations(fields))))
    assert mixed.rails == whole.rails
    assert mixed.temperatures_c == whole.temperatures_c
    assert (mixed.cores, mixed.ram_mb, mixed.swap_mb, mixed.date) == (
        whole.cores, whole.ram_mb, whole.swap_mb, whole.date
    )  # fmt: skip
    assert (mixed.loads, set(mixed.off), set(mixed.gated)) == (whole.loads, set(whole.off), set(whole.gated))


@given(st.sampled_from(sorted(TABLE)), st.data())
def test_any_missing_field_leaves_the_others(number: str, data: st.DataObject) -> None:
    fields = fields_of(LINES[number])
    missing = data.draw(st.integers(0, len(fields) - 1))
    whole = parse_tegrastats(LINES[number])
    line = parse_tegrastats(" ".join(field for i, field in enumerate(fields) if i != missing))
    assert line.rails.items() <= whole.rails.items()
    assert line.temperatures_c.items() <= whole.temperatures_c.items()
    lost = len(whole.rails) - len(line.rails) + len(whole.temperatures_c) - len(line.temperatures_c)
    assert lost <= 1
    if len(line.rails) < len(whole.rails) and ruled(whole)[0] not in (None, "thor-vin"):
        assert ruled(line) in ((None, None), ruled(whole)), "a rail that is missing is never made up for"


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(UnknownForm):
        assert isinstance(parse_tegrastats(text), Tegrastats)


def test_a_board_takes_its_own_rule_and_no_other() -> None:
    orin = {"VDD_GPU_SOC": 1.0, "VDD_CPU_CV": 2.0, "VIN_SYS_5V0": 4.0, "VDDQ_VDD2_1V8AO": 8.0}
    rule = rule_of(orin, "agx-orin")
    assert (rule.name, total(orin, rule)) == ("agx-orin-rails", 7.0), "VDDQ is inside VIN_SYS_5V0"
    assert total({"VDD_GPU_SOC": 1.0}, rule) is None
    with pytest.raises(NoRule, match=r"the total of agx-orin is VDD_GPU_SOC \+ VDD_CPU_CV \+ VIN_SYS_5V0; the rails"):
        rule_of({"VDD_IN": 1.0}, "agx-orin")
    with pytest.raises(NoRule, match="no rule is known for the board orin-max"):
        rule_of(orin, "orin-max")
    with pytest.raises(NoRule, match="no board is known whose total these rails make: VIN, VIN_SYS_5V0"):
        rule_of({"VIN": 1.0, "VIN_SYS_5V0": 1.0})
    assert rule_of({"VDD_IN": 1.0, "VDD_CPU_GPU_CV": 2.0, "VDD_SOC": 3.0}, "orin-nx").rails == ("VDD_IN",)

"""Faked file systems of Jetson boards, as their kernels show them; numbers are shapes, not measurements.

The boards: AGX Orin with JetPack 5, 6 and 7, Orin NX, Orin Nano, Thor with and without its carrier's sensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from experiments.jetson.tree import Tree

ARM_CPU = "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\nFeatures\t: fp asimd asimdhp asimddp\n"
AGX_MODES = "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=MODE_15W >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n"
NANO_MODES = "".join(
    f"< POWER_MODEL ID={number} NAME={name} >\n" for number, name in enumerate(("15W", "25W", "MAXN_SUPER", "7W"))
)


def release(major: int, revision: str) -> str:
    return f"# R{major} (release), REVISION: {revision}, GCID: 41062509, BOARD: generic, EABI: aarch64, DATE: ...\n"


def board(l4t: str, model: str, compatible: str, mem_kib: int, modes: str, mode: int) -> dict[str, str]:
    return {
        "etc/nv_tegra_release": release(int(l4t.partition(".")[0]), l4t.partition(".")[2]),
        "proc/device-tree/model": f"NVIDIA {model}\0",
        "proc/device-tree/compatible": "".join(f"{one}\0" for one in compatible.split()),
        "proc/cpuinfo": ARM_CPU,
        "proc/meminfo": f"MemTotal: {mem_kib} kB\nMemAvailable: {mem_kib // 2} kB\n"
        "SwapTotal: 4000000 kB\nSwapFree: 3900000 kB\n",
        "var/lib/nvpmodel/status": f"pmode:{mode:04d}",
        "etc/nvpmodel.conf": f"{modes}< PM_CONFIG DEFAULT=2 >\n",
    }


def clocks(gpu: str, gpu_hz: tuple[int, int], cpu_khz: tuple[int, int], num: int = 3) -> dict[str, str]:
    """The last policy is of cores that the mode has switched off."""
    found = {f"sys/class/devfreq/{gpu}/{name}_freq": str(hz) for name, hz in zip(("min", "max"), gpu_hz, strict=True)}
    found[f"sys/class/devfreq/{gpu}/cur_freq"] = str(gpu_hz[0])
    for number in range(num):
        folder = f"sys/devices/system/cpu/cpufreq/policy{4 * number}"
        is_off = number == num - 1
        found[f"{folder}/affected_cpus"] = "" if is_off else f"{4 * number} {4 * number + 1}\n"
        if not is_off:
            found[f"{folder}/scaling_min_freq"], found[f"{folder}/scaling_max_freq"] = map(str, cpu_khz)
    return found


def ina3221(number: int, *channels: tuple[str, int, int]) -> dict[str, str]:
    folder = f"sys/class/hwmon/hwmon{number}"
    found = {f"{folder}/name": "ina3221\n", f"{folder}/samples": "512\n", f"{folder}/update_interval": "430\n"}
    for channel, (label, millivolt, milliampere) in enumerate(channels, start=1):
        found[f"{folder}/in{channel}_label"] = f"{label}\n"
        found[f"{folder}/in{channel}_input"] = f"{millivolt}\n"
        found[f"{folder}/curr{channel}_input"] = f"{milliampere}\n"
    return found


AGX_RAILS = (("VDD_GPU_SOC", 12008, 280), ("VDD_CPU_CV", 12008, 40), ("VIN_SYS_5V0", 4968, 980))
AGX_W = (12008 * 280 + 12008 * 40 + 4968 * 980) / 1e6  # 8.711
SUMS = {
    "sys/class/hwmon/hwmon3/in7_label": "sum of shunt voltages\n",
    "sys/class/hwmon/hwmon3/in7_input": "760\n",
    "sys/class/hwmon/hwmon3/curr4_input": "360\n",
}
SECOND_CHIP = ina3221(4, ("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 4968, 80)) | {"sys/class/hwmon/hwmon4/in3_input": "0\n"}
LOCKED_AGX = clocks("17000000.gpu", (1300500000, 1300500000), (2201600, 2201600))
AGX = "nvidia,p3737-0000+p3701-0005 nvidia,p3701-0005 nvidia,tegra234"
AGX_MODEL = "Jetson AGX Orin Developer Kit"


def throttles(oc: tuple[int, int, int], acting: bool = False) -> dict[str, str]:
    folder = "sys/devices/platform/soctherm-oc-event/hwmon/hwmon5"
    found = {f"{folder}/oc{number}_event_cnt": f"{count}\n" for number, count in enumerate(oc, start=1)}
    found |= {
        "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
        "sys/class/thermal/cooling_device0/cur_state": "3\n",
        "sys/class/thermal/cooling_device1/type": "cpu-throttle-alert\n",
        "sys/class/thermal/cooling_device1/cur_state": f"{int(acting)}\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "63625\n",
        "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",
        "sys/class/thermal/thermal_zone2/temp": "-256000\n",
        "sys/class/thermal/thermal_zone8/type": "tj-thermal\n",
        "sys/class/thermal/thermal_zone8/temp": "63781\n",
        "sys/class/thermal/thermal_zone9/type": "PMIC-Die\n",
        "sys/class/thermal/thermal_zone9/temp": "100000\n",
    }
    return found


AGX_JP6 = (
    board("36.4.4", AGX_MODEL, AGX, 64_349_000, AGX_MODES, 0)
    | LOCKED_AGX | ina3221(3, *AGX_RAILS) | SUMS | SECOND_CHIP | throttles((0, 0, 2))
    | {"sys/devices/platform/bus@0/17000000.gpu/load": "873\n",
       "sys/class/hwmon/hwmon6/name": "pwmfan\n", "sys/class/hwmon/hwmon6/pwm1": "51\n"}
)  # fmt: skip
AGX_JP5 = (
    board("35.4.1", AGX_MODEL, AGX.replace("0005", "0004"), 31_357_000, AGX_MODES, 2)
    | clocks("17000000.ga10b", (306000000, 612000000), (729600, 1728000)) | ina3221(1, *AGX_RAILS)
)  # fmt: skip
AGX_JP7 = AGX_JP6 | {"etc/nv_tegra_release": release(39, "2.0")}
ORIN_NX = (
    board("36.4.7", "Jetson Orin NX Engineering Reference Developer Kit",
          "nvidia,p3768-0000+p3767-0000-super nvidia,p3767-0000 nvidia,tegra234", 15_900_000, NANO_MODES, 2)
    | clocks("17000000.gpu", (1173000000, 1173000000), (1984000, 1984000)) | throttles((1, 0, 2))
    | ina3221(1, ("VDD_IN", 4984, 1856), ("VDD_CPU_GPU_CV", 4984, 500), ("VDD_SOC", 4984, 400))
)  # fmt: skip
ORIN_NANO = (
    board("36.5.0", "Jetson Orin Nano Engineering Reference Developer Kit Super",
          "nvidia,p3768-0000+p3767-0005-super nvidia,p3767-0005 nvidia,tegra234", 7_803_000, NANO_MODES, 1)
    | clocks("17000000.gpu", (306000000, 918000000), (729600, 1344000))
    | ina3221(1, ("VDD_IN", 5040, 1042), ("VDD_CPU_GPU_CV", 5040, 101), ("VDD_SOC", 5040, 540))
)  # fmt: skip
THOR_RAILS = (("VDD_GPU", 12000, 0), ("VDD_CPU_SOC_MSS", 12000, 461), ("VIN_SYS_5V0", 5040, 1000))
VIN = "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon2/power1_input"
THOR_JP71 = (
    board("38.4", "Jetson AGX Thor Developer Kit", "nvidia,p4071-0000+p3834-0008 nvidia,p3834-0008 nvidia,tegra264",
          128_790_000, "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n", 1)
    | clocks("gpu-gpc-0", (1575000000, 1575000000), (2601000, 2601000)) | ina3221(1, *THOR_RAILS)
    | {VIN: "19780000\n", "sys/class/devfreq/bwmgr/cur_freq": "665000000",
       "sys/class/devfreq/gpu-nvd-0/min_freq": "1", "sys/class/devfreq/gpu-nvd-0/max_freq": "2",
       "sys/class/devfreq/gpu-gpc-0/cur_freq": "0"}
)  # fmt: skip
THOR_JP72 = {name: text for name, text in THOR_JP71.items() if name != VIN} | {
    "etc/nv_tegra_release": release(39, "2.0"), "var/lib/nvpmodel/status": "pmode:0000",
}  # fmt: skip

BOARDS: Mapping[str, Mapping[str, str]] = {
    "agx-orin-jp5": AGX_JP5, "agx-orin-jp6": AGX_JP6, "agx-orin-jp7": AGX_JP7, "orin-nx": ORIN_NX,
    "orin-nano": ORIN_NANO, "thor-jp71": THOR_JP71, "thor-jp72": THOR_JP72,
}  # fmt: skip


def plant(root: Path, files: Mapping[str, str]) -> Tree:
    """What is there already and is not named stays."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Tree(root)

"""One product and one convolution in half precision on the GPU, in a process of its own: `python -m
experiments.doctor.kernel [DEVICE]`.

A wheel without kernels for this GPU imports, finds it and lists no architecture that fits, and one that lists none may
run all the same (those for sm_80 do on sm_87): only a kernel that ran says that kernels run.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from experiments.doctor.probe import FAILURES, MAX_ERROR_CHARS, REPOSITORY, ended, error_line

WIDTH = 64
COMMAND = (sys.executable, "-m", "experiments.doctor.kernel")


def refused(patience_s: float, command: Sequence[str] = COMMAND) -> str | None:
    """Why no kernel ran, in one line; None where both did."""
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            encoding="utf-8", errors="replace", timeout=patience_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no answer for {patience_s:g} s"
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return (said[-1] if said and done.returncode > 0 else f"it {ended(done.returncode)}")[:MAX_ERROR_CHARS]


def compute(device: str) -> None:
    """Raises what torch raises, and ArithmeticError for another result than arithmetic has."""
    import torch

    ones = torch.ones(WIDTH, WIDTH, dtype=torch.float16, device=device)
    product = ones @ ones
    sound = torch.nn.functional.conv1d(ones[None], torch.ones(1, WIDTH, 3, dtype=torch.float16, device=device))
    for found, right in ((product, WIDTH), (sound, 3 * WIDTH)):
        if not bool((found == right).all()):
            raise ArithmeticError(f"{float(found.flatten()[0])} instead of {right}")


def main(device: str) -> None:
    """Ends with 1 and one line where nothing ran: torch's own errors have several, of which the first says why."""
    try:
        compute(device)
    except (*FAILURES, ArithmeticError, AssertionError) as error:
        sys.exit(error_line(error))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cuda")

"""A worker that leaves a small, whole record and nothing else, in a few hundredths of a second: the sweep's own cost
can then be seen. `python -m tests.stub_worker JOBDIR`. STUB_WAIT_S: it waits so long first, without a processor."""

import json
import os
import sys
import time
from pathlib import Path

from metrics.record import RunRecord, Trial, save_record, to_json


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    time.sleep(float(os.environ.get("STUB_WAIT_S", "0")))
    trials = [
        Trial(
            utterance_id="en03", repeat=repeat, wall_s=0.2, cpu_s=0.2, audio_s=1.0, frontend_s=0.01, denoise_s=0.15,
            vocoder_s=0.03, join_s=0.01, num_evals=7, peak_bytes=1 << 28, started_unix_s=1.0, is_warmup=False,
        )
        for repeat in range(5)
    ]  # fmt: skip
    lines = [to_json({"kind": "trial", **{name: getattr(one, name) for name in Trial.__slots__}}) for one in trials]
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    record = RunRecord(
        run_id=job["run_id"], created="2026-01-01T00:00:00+00:00", status="ok", reason=None, remedy=None,
        label=job["label"], config=job["config"], facts=None, environment={"host_class": "stub"},
        workload={"name": "smoke", "identity_sha256": "0" * 64, "reference_s": 1.5, "generated_s": 1.0},
        build_s=0.1, first_call_s=0.3, peak_rss_bytes=1 << 28, peak_pss_bytes=None, peak_device_bytes=None,
        trials=tuple(trials),
    )  # fmt: skip
    save_record(record, folder / "result.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

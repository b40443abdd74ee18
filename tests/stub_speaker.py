"""A worker that leaves a whole run of one sentence, audio and mel included, in a few tenths of a second.
`python -m tests.stub_speaker JOBDIR`. STUB_SPEAKER_LOG: a file that gets a line for every run."""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import soundfile

from metrics.record import RunRecord, Utterance, save_record

RATE_HZ = 24000


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    audio_S = np.sin(np.arange(RATE_HZ, dtype=np.float32) / 30).astype(np.float32)
    for name in ("audio", "mel"):
        (folder / name).mkdir(exist_ok=True)
    soundfile.write(folder / "audio/en03.wav", audio_S, RATE_HZ, subtype="FLOAT")
    np.save(folder / "mel/en03.npy", np.ones((94, 100), np.float32))
    utterance = Utterance(
        utterance_id="en03", category="short", text="Good day.", sample_rate_hz=RATE_HZ, num_samples=len(audio_S),
        num_frames=94, num_chunks=1, noise_sha256="0" * 64, audio_sha256=hashlib.sha256(audio_S.tobytes()).hexdigest(),
        audio_path="audio/en03.wav", mel_path="mel/en03.npy",
    )  # fmt: skip
    record = RunRecord(
        run_id=job["run_id"], created="2026-01-01T00:00:00+00:00", status="ok", reason=None, remedy=None,
        label=job["label"], config=job["config"], facts=None, environment={"host_class": "stub"},
        workload={"name": "smoke", "identity_sha256": "0" * 64, "reference_s": 1.5, "generated_s": 1.0},
        build_s=0.1, first_call_s=0.3, peak_rss_bytes=1 << 28, peak_pss_bytes=None, peak_device_bytes=None,
        utterances=(utterance,),
    )  # fmt: skip
    save_record(record, folder / "result.json")
    if "STUB_SPEAKER_LOG" in os.environ:
        with Path(os.environ["STUB_SPEAKER_LOG"]).open("a") as file:
            file.write(f"{job['run_id']}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

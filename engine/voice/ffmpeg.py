"""What libsndfile cannot read (m4a, webm, AAC), decoded by an ffmpeg child: no shell, no network, within limits."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

from engine.contract import InvalidRequest

KEY = "reference.audio"
TIMEOUT_S = 60
MAX_SECONDS = 600
MAX_WAV_BYTES = 256 << 20
MAX_MEMORY_BYTES = 4 << 30
INSTALL = "install it (apt-get install ffmpeg, brew install ffmpeg), or convert the clip to WAV elsewhere"
# First bytes -> ffmpeg's name of the container. Only what is known is given to it: it would also follow lists of URLs
MAGIC = (
    (4, b"ftyp", "mov"), (0, b"\x1aE\xdf\xa3", "matroska"), (0, b"OggS", "ogg"), (0, b"ID3", "mp3"),
    (0, b"\xff\xfb", "mp3"), (0, b"\xff\xf3", "mp3"), (0, b"\xff\xf2", "mp3"), (0, b"\xff\xf1", "aac"),
    (0, b"\xff\xf9", "aac"), (0, b"#!AMR", "amr"), (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
)  # fmt: skip


def demuxer_of(content: bytes) -> str | None:
    """Which of ffmpeg's readers a file begins like; None for what is nothing for ffmpeg."""
    return next((name for at, magic, name in MAGIC if content[at : at + len(magic)] == magic), None)


def decoded_wav(path: Path, demuxer: str) -> bytes:
    """The first audio stream as a WAV of 16 bits, as upstream has AAC decoded. Raises InvalidRequest."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise InvalidRequest(KEY, path, f"{demuxer} audio is read by ffmpeg, which is not installed", INSTALL)
    with tempfile.TemporaryDirectory(prefix="f5bench-") as folder:
        out = Path(folder) / "decoded.wav"
        _run(path, [
            program, "-nostdin", "-v", "error", "-xerror", "-protocol_whitelist", "file", "-f", demuxer,
            "-i", f"file:{path.resolve()}", "-map", "0:a:0", "-vn", "-t", str(MAX_SECONDS),
            "-c:a", "pcm_s16le", "-f", "wav", f"file:{out}",
        ])  # fmt: skip
        return out.read_bytes() if out.is_file() else b""


def _run(path: Path, command: list[str]) -> None:
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as child:
        _limit(child.pid)
        try:
            _, said = child.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            raise InvalidRequest(
                KEY, path, f"ffmpeg did not decode it in {TIMEOUT_S} s", "convert it to WAV yourself"
            ) from None
    lines = said.decode(errors="replace").strip().splitlines()
    if child.returncode or lines:
        reason = re.sub(r"^\[[^]]*\]", "", lines[-1]).strip() if lines else f"exit code {child.returncode}"
        raise InvalidRequest(KEY, path, f"ffmpeg could not decode it whole ({reason})", "export it again, as WAV")


def _limit(pid: int) -> None:
    """Of the child alone. It may have ended already, and then there is nothing to limit."""
    limits = {
        resource.RLIMIT_CPU: TIMEOUT_S,
        resource.RLIMIT_FSIZE: MAX_WAV_BYTES,
        resource.RLIMIT_AS: MAX_MEMORY_BYTES,
    }
    for what, limit in limits.items():
        try:
            resource.prlimit(pid, what, (limit, limit))
        except ProcessLookupError:
            return

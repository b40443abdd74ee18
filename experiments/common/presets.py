"""Where presets lie: conf/ of this program, and the folder of --config-dir beside it, the person's own.

The own folder stands in F5BENCH_CONFIG_DIR while a verb runs, so that every process that it starts reads it too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, wraps
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from engine.contract import ConfigError
from engine.paths import ROOT
from experiments.common.written import NotWritten, items_of, read_document, refuse_unwritten, text_of

CONF = ROOT / "conf"
CONFIG_DIR = ("--config-dir", "-cd")
FIXED = ("--config-path", "-cp", "--config-name", "-cn")
OWN = "F5BENCH_CONFIG_DIR"
SENTENCES = ("text", "cut_text")  # keys of a `reference` preset that hold what is spoken
NULL = "tag:yaml.org,2002:null"

Verb = Callable[[Sequence[str]], int]


def own_folder() -> Path | None:
    """The person's own presets. Raises ConfigError for what is no folder, or hides presets of this program."""
    given = os.environ.get(OWN)
    return None if not given else _checked(Path(given))


def folders() -> tuple[Path, ...]:
    own = own_folder()
    return (CONF,) if own is None else (CONF, own)


def presets(group: str) -> list[str]:
    """The choices of a group: the files of its folders."""
    return sorted(path.stem for folder in folders() for path in (folder / group).glob("*.yaml"))


def preset_file(group: str, name: str) -> Path | None:
    """None where no folder has it."""
    paths = (folder / group / f"{name}.yaml" for folder in folders())
    return next((path for path in paths if path.is_file()), None)


@lru_cache(maxsize=1)
def groups() -> tuple[str, ...]:
    """The configuration groups that the defaults list names."""
    defaults = OmegaConf.load(CONF / "config.yaml").defaults
    return tuple(str(key) for entry in defaults if not isinstance(entry, str) for key in entry)


def with_presets(verb: Verb) -> Verb:
    """A verb that takes --config-dir DIR beside its overrides."""

    @wraps(verb)
    def taking(argv: Sequence[str]) -> int:
        rest, given = split_config_dir(argv)
        with config_dir(given):
            return verb(rest)

    return taking


def split_config_dir(argv: Sequence[str]) -> tuple[list[str], Path | None]:
    """(what is left, DIR of --config-dir DIR or None). Raises ConfigError."""
    rest: list[str] = []
    found: list[str] = []
    left = list(argv)
    while left:
        word = left.pop(0)
        flag, equals, value = word.partition("=")
        if flag in FIXED:
            raise ConfigError(
                "option", word, "the configuration itself is fixed",
                "put own presets into DIR/GROUP/NAME.yaml and give --config-dir DIR",
            )  # fmt: skip
        if flag not in CONFIG_DIR:
            rest.append(word)
        elif not equals and not left:
            raise ConfigError("option", word, "needs a folder", "write --config-dir DIR")
        else:
            found.append(value if equals else left.pop(0))
    if len(set(found)) > 1:
        raise ConfigError("--config-dir", " ".join(found), "is one folder", "put all own presets into one")
    return rest, _checked(Path(found[0]).absolute()) if found else None


@contextmanager
def config_dir(folder: Path | None) -> Iterator[None]:
    """The own presets while this lasts; None: those of the environment, if any."""
    before = os.environ.get(OWN)
    if folder is not None:
        os.environ[OWN] = str(folder)
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop(OWN)
            os.environ.update({} if before is None else {OWN: before})


def _checked(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError("--config-dir", folder, "no such folder", "give one that holds GROUP/NAME.yaml")
    for path in sorted(path for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}*.yaml")):
        inside = path.relative_to(folder)
        if (CONF / inside).exists():
            raise ConfigError(
                "--config-dir", folder, f"{inside} is the name of a preset of this program, which stays what it is",
                "give yours another name",
            )  # fmt: skip
        if inside.parts[0] == "reference":
            _check_sentences(path, path.stat().st_mtime_ns)
    return folder


@lru_cache(maxsize=64)
def _check_sentences(path: Path, mtime_ns: int) -> None:
    """Transcripts in a preset of one's own: Hydra reads the file, and would cut an unquoted one at a #."""
    try:
        document = read_document(path)
        for node in _mappings(document.root):
            for key, value in items_of(node):
                if key in SENTENCES and value.tag != NULL:
                    text_of(document, value, key, is_sentence=True)
    except NotWritten as error:
        raise refuse_unwritten("--config-dir", path, error) from error


def _mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
    below = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else node.value
    for child in below if isinstance(node, yaml.CollectionNode) else ():
        yield from _mappings(child)

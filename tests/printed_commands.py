"""Every command that this repository prints or shows: where it stands, and its words as somebody would type them.

Read from README and workflows, and from every text of our sources (docstrings and messages, with samples in the place
of what is filled in). What stands for the reader's own value (DIR, NAME, KEY=VALUE) gets a sample too.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from experiments.__main__ import MODULES
from reports.commands import ROOT, verbs_in

ROOMS = ("engine", "metrics", "baselines", "reports", "experiments")
START = re.compile(
    r"(?<![\w./$-])(?:"
    r"(?:\.venv/bin/|[A-Z]+=\S+ )*python3? -m \S|\.venv/bin/[a-z]|huggingface-cli|nvpmodel -"
    r"|(?:make|hf|mlflow|locust|curl) [-a-z.]|(?:sudo )?(?:apt|apt-get) install|pip3? (?:un)?install"
    r"|git (?:-C \S+ )?(?:config|fetch|restore|log|clone|worktree) )"
)
F5BENCH = re.compile(r"(?<!\S)f5bench (?!completion )([a-z][a-z-]*)")
# Verbs are called by their name alone in prose: `quality_gate RUN_A RUN_B`
VERBS = frozenset(verbs_in(ROOT / "experiments"))
SUBCOMMANDS = {
    "experiments.fleet": ("head", "join", "status"),
    "experiments.baseline": ("record", "list", "show", "approve", "diff"),
    "experiments.telemetry": ("watch", "import"),
    "experiments.tracking": ("sync", "status"),
    "reports.listening": ("build", "serve", "collect"),
}
# What follows a command in a sentence and is none of its words
PROSE = (
    "or and makes make measures prints prints it does is was where in on for from beside which that with by does again "
    "several: the to (on (needs (or (11 (extra must there as at could must"
).split()
NAMES = re.compile(r"[a-z0-9][\w.+-]*(?:[<>=!~]=?[\w.,<>=]+)?")  # of packages
SAMPLES = {
    "KEY=VALUE": "seed=1", "KEY=..": "engine=fp32", "engine=..": "engine=fp32", "model=NAME": "model=pocket",
    "fp32,NAME": "fp32,bf16", "minutes=M": "minutes=10", "CLIP": "clip.wav", "RUN:RUN": "a:b", "steps=DIR": "steps=3",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Printed:
    """where: FILE:LINE. words: as a shell splits them."""

    where: str
    text: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def printed() -> list[Printed]:
    """All of them, without repetition."""
    found = [*_of_pages(), *_of_workflows(), *_of_sources()]
    return list({(one.where, one.text): one for one in found}.values())


def _of_pages() -> Iterator[Printed]:
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]:
        yield from _of_page(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))


def _of_page(name: str, text: str) -> Iterator[Printed]:
    for number, line in _joined(text):
        spans = re.findall(r"`([^`]+)`", line) if "`" in line else [re.sub(r"\s{2,}#.*$", "", line)]
        for span in spans:
            is_verb = len(span.split()) > 1 and span.split()[0] in VERBS
            typed = f"python -m experiments.{span}" if is_verb else F5BENCH.sub(_as_module, span)
            yield from _commands(f"{name}:{number}", typed, whole=True)


def _as_module(match: re.Match[str]) -> str:
    """A verb that there is not becomes a module that there is not."""
    return f"python -m {MODULES.get(match.group(1), 'f5bench_' + match.group(1))}"


def _of_workflows() -> Iterator[Printed]:
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        for number, line in _joined(path.read_text("utf-8")):
            line = re.sub(r'"\$\([^)]*\)"', "HEAD", line).partition(" || ")[0]
            if not line.strip().startswith("#"):
                yield from _commands(f"{path.name}:{number}", re.sub(r'"?\$\w+"?', "bf16", line), whole=True)


def _of_sources() -> Iterator[Printed]:
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        for node, text in _texts(ast.parse(path.read_text("utf-8"))):
            where = f"{name}:{node.lineno}"
            for span in re.findall(r"`([^`]+)`", text):
                yield from _commands(where, " ".join(span.split()), whole=True)
            for line in re.sub(r"`[^`]+`", "``", text).splitlines():
                is_example = bool(re.match(r"  +(?!make )\S", line))
                yield from _commands(where, line, whole=is_example, is_code=False)


def _texts(tree: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Every string of a module, `f"..."` and `typed(...)` filled with samples."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "prog":
            inside.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            inside.update(ast.walk(node))
            yield node, "".join(_filled(part) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield node, node.value


def _filled(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    value = part.value
    name = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
    if name == "here" and isinstance(value, ast.Call) and isinstance(value.args[0], ast.Call):
        value, name = value.args[0], ast.unparse(value.args[0].func)
    if name in ("typed", "shlex.quote") and isinstance(value, ast.Call):
        return " ".join([*(["python -m"] if name == "typed" else []), *map(_word, value.args)])
    return "pocket" if ast.unparse(value) == "name" else "DIR"


def _word(word: ast.expr) -> str:
    if isinstance(word, ast.Constant):
        return shlex.quote(str(word.value))
    return "".join(map(_filled, word.values)) if isinstance(word, ast.JoinedStr) else "DIR"


def _joined(text: str) -> list[tuple[int, str]]:
    """(number, line) with lines that end in a backslash put together."""
    found: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if found and found[-1][1].endswith("\\"):
            found[-1] = (found[-1][0], found[-1][1][:-1].rstrip() + " " + line.strip())
        else:
            found.append((number, line))
    return found


def _commands(where: str, line: str, *, whole: bool, is_code: bool = True) -> Iterator[Printed]:
    """The commands of a line. whole: it is one command and nothing else. is_code: marked as such, so no word of it is a
    word of a sentence."""
    places = [match.start() for match in START.finditer(line)]
    if places and re.match(r"(?:sudo )?apt|pip", line[places[0] :]) and whole:
        places = places[:1]  # names of packages are no programs
    if not is_code:
        places = [at for at in places if not re.match(r"make |mlflow (?!ui|experiments)|\.venv", line[at:])]
    for start, end in zip(places, [*places[1:], len(line)], strict=False):
        text = line[start:end].strip()
        if "install" not in text:
            text = re.sub(r"\s\[[^\]]*\]", "", text)
        text = re.split(r"\s{2,}|\s\|\s|\s&&\s|\s->|\s>\s", text)[0]
        if text.count('"') % 2 or text.count("'") % 2 or text.endswith((")", ",", ";", ":")):
            text = text.rstrip("`)\"';,: ")
        for sample, value in SAMPLES.items():
            text = text.replace(sample, value)
        text = re.sub(r"=(\w+)\|[\w|.]+", r"=\1", text).replace(" ...", "")
        try:
            words = shlex.split(text)
        except ValueError:
            words = text.split()
        taken = words if whole else _arguments(words)
        yield Printed(where, text if whole else " ".join(text.split()[: len(taken)]), tuple(taken))


def _arguments(words: list[str]) -> list[str]:
    """The words of a command inside a sentence, up to the first one that is no argument."""
    taken: list[str] = []
    is_install = any(word == "install" for word in words[:4])
    for word in words:
        plain = word.rstrip(",;:.)")
        is_path_or_setting = "=" in plain or "/" in plain or plain.startswith("-") or plain.isupper() or ".[" in plain
        is_name = is_install and NAMES.fullmatch(plain) is not None and plain not in PROSE
        is_head = len(taken) < 3 or (len(taken) == 3 and plain in SUBCOMMANDS.get(taken[2], ()))
        if not (is_head or is_path_or_setting or is_name):
            break
        taken.append(plain)
        if plain != word:
            break
    return taken

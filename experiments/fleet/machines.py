"""A machine of a fleet as the sweep sees it: it is asked in lines and carries jobs out into folders of ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from experiments.common.journal import JOURNAL, set_aside
from experiments.fleet.facts import Facts, HostClass
from experiments.fleet.relay import END
from experiments.fleet.travel import absolute, contents, expected_of, small_files
from experiments.fleet.wire import Inbox, Job, News, Request, packed
from experiments.measuring.job import ERROR, LOG, RESULT, JobResult, JobSpec, Launcher, write_job
from metrics.parts.environment import Commit
from metrics.record import RecordError, load_record

DEFAULT_COMMAND = Launcher().command


class MachineLost(Exception):
    """It does not answer, or is no longer what it was: what runs there is to be done elsewhere."""


class HeadLost(Exception):
    """Who knows of all machines does not answer: none is found any more, and none is told to be gone."""


@dataclass(slots=True, eq=False)
class Machine:
    """name: for people. talk: a request line -> the lines of the answer; raises MachineLost. close: let it go. git: the
    commit of the code that it runs."""

    name: str
    talk: Callable[[str], Iterator[str]]
    close: Callable[[], None]
    git: Commit
    classes: dict[str, Facts] = field(default_factory=dict)  # by host class
    cpu_flags: tuple[str, ...] = ()
    boot_id: str | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)  # of a machine with two host classes, one at a time

    def ask(self, request: Request) -> Iterator[News]:
        """The pieces of the answer but its end. Raises MachineLost."""
        for line in self.talk(json.dumps(request, ensure_ascii=False, allow_nan=False)):
            news: News = json.loads(line)
            if news["kind"] != END:
                yield news

    def introduce(self, kinds: Sequence[str]) -> None:
        """Ask what it is. kinds: cpu, cuda:0."""
        for news in self.ask({"ask": "about", "kinds": list(kinds)}):
            if news["kind"] == "class":
                self.classes[news["host_class"]] = news["facts"]
            else:
                self.cpu_flags, self.boot_id = tuple(news["cpu_flags"]), news["boot_id"]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A machine as one of a host class: what a launcher's `elsewhere` is. say: who hears that it waits."""

    machine: Machine
    host: HostClass
    say: Callable[[str], None]

    def __call__(self, spec: JobSpec, launcher: Launcher) -> JobResult:
        """As job.launch: the folder holds afterwards what it would hold if the job had been done here.

        Raises MachineLost; the folder then holds what had come back.
        """
        for name in (RESULT, ERROR, LOG):
            (spec.folder / name).unlink(missing_ok=True)
        set_aside(spec.folder / JOURNAL)
        write_job(spec)
        with self.machine.turn:
            done = self._followed(spec, launcher)
        return self._result(spec, done)

    def _followed(self, spec: JobSpec, launcher: Launcher) -> News | None:
        """The last piece of news; everything before it is in the folder."""
        inbox, done = Inbox(spec.folder), None
        for news in self.machine.ask(self._request(spec, launcher)):
            if news["kind"] == "said":
                self.say(f"{self.machine.name}: {news['line']}")
            elif news["kind"] == "changed":
                raise MachineLost(f"{self.machine.name} is not what it was when the sweep began: {news['reason']}")
            elif news["kind"] == "done":
                done = news
            else:
                self._take(inbox, news)
                if launcher.on_tick is not None:
                    launcher.on_tick(spec.folder / JOURNAL)
        return done

    def _take(self, inbox: Inbox, news: News) -> None:
        try:
            inbox.take(news)
        except ValueError as error:
            raise MachineLost(f"{self.machine.name} sent what does not fit: {error}") from error

    def _result(self, spec: JobSpec, done: News | None) -> JobResult:
        try:
            record = load_record(spec.folder / RESULT)
        except RecordError as error:
            raise MachineLost(f"{self.machine.name} left no record: {error}") from error
        if done is None or record.run_id != spec.run_id:
            raise MachineLost(f"{self.machine.name} answered for another job ({record.run_id})")
        return JobResult(
            record=record, failure=done["failure"], exit_code=done["exit_code"], log_tail=tuple(done["log_tail"])
        )

    def _request(self, spec: JobSpec, launcher: Launcher) -> Job:
        config = absolute(spec.config)
        files = small_files(config, config["launcher"]["small_bytes"])
        self._send_files(spec, files)
        return {
            "ask": "job", "run_id": spec.run_id, "label": spec.label, "kind": spec.kind, "config": config,
            "asked": spec.config,
            "files": files, "expected": expected_of(config), "machine": self.machine.name,
            "command": None if launcher.command == DEFAULT_COMMAND else list(launcher.command),
            "environment": self.host.environment, "facts": self.host.facts, "git": self.machine.git,
        }  # fmt: skip

    def _send_files(self, spec: JobSpec, files: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """Those that are not there yet."""
        wanted = sorted({sha256 for entries in files.values() for _, sha256 in entries})
        if not wanted:
            return
        (answer,) = self.machine.ask({"ask": "lacking", "hashes": wanted})
        found = contents(absolute(spec.config), answer["hashes"])
        if found:
            packs = {sha256: packed(content) for sha256, content in found.items()}
            list(self.machine.ask({"ask": "keep", "files": packs}))

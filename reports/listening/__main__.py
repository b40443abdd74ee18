"""Blind listening sets.

  python -m reports.listening build RUN_A RUN_B ... [method=ab|abx|ccr|dcr|mushra] [pairs=30] [out=DIR]
  python -m reports.listening serve DIR [port=8710]
  python -m reports.listening collect DIR [RESULT ...] [key=FILE] [out=DIR]

build     one HTML file that opens from disk without a network, and its key; give listeners the HTML only. A RUN is what
          experiments.run or experiments.sweep left (a sweep's folder stands for all of its cells).
          More settings: reference=LABEL, text=hide, title=TEXT, seed=N.
serve     the same page on this machine, every answer on disk before the page goes on
collect   checks the key, screens the listeners, analyses, draws, and writes the verdict beside the runs

exit codes: 0 done, 2 usage or files that do not fit, 11 collect: no verdict, 130 interrupted
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from metrics.process import accept_any_terminal, settle
from metrics.record import RecordError
from reports.commands import here
from reports.listening.study.settings import METHODS, ListeningError, build_settings, split_words
from reports.words import plural

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_UNSURE = 11  # of collect: there is no verdict
EXIT_INTERRUPTED = 130
OUTPUTS = Path("outputs")


def main(argv: Sequence[str] | None = None) -> int:
    """0 done, 11 without a verdict, 2 with one line on stderr for a mistake of the user's, a wrong key among them."""
    words = list(sys.argv[1:] if argv is None else argv)
    verb = VERBS.get(words[0]) if words else None
    accept_any_terminal()
    if not words or {"-h", "--help"} & set(words):
        print(here(str(__doc__)))
        return EXIT_OK if words else EXIT_USAGE
    try:
        settle(words)
        if verb is None:
            raise ListeningError(f"{words[0]}: not a verb; use one of {', '.join(VERBS)} (--help says more)")
        return verb(words[1:])
    except (ListeningError, RecordError) as error:
        print(f"error: {here(' '.join(str(error).split()))}", file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"error: {error.filename or 'the output'}: {error.strerror}; give another path", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _build(words: Sequence[str]) -> int:
    from reports.listening.judging.inference import power_of, votes_needed, votes_to_win
    from reports.listening.making.build import build_set, trials_by_kind

    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    settings = build_settings(words, OUTPUTS / f"{stamp}-listening")
    built = build_set(settings)
    kinds = trials_by_kind(built.plan.trials)
    shown = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    print(built.page)
    print(built.key)
    print(f"{METHODS[built.plan.method]}: {shown}; about {plural(built.minutes, 'minute')} a listener", file=sys.stderr)
    print(f"every clip at {built.target_lufs:.1f} LUFS, {built.num_bytes / 1e6:.1f} MB", file=sys.stderr)
    num_pairs = kinds["pair"]
    if num_pairs < settings.num_pairs:
        num_sentences = len(built.material.sentences)
        wanted = f"{settings.num_pairs} were asked for; the runs share {num_sentences} sentences (try workload=en_core)"
        print(f"note: only {num_pairs} screens that count, {wanted}", file=sys.stderr)
    if built.plan.method == "ab" and len(built.material.systems) == 2 and votes_to_win(num_pairs):
        print(
            f"{num_pairs} votes find a true preference of 60 % {power_of(num_pairs, 0.6):.0%} of the time; four times "
            f"in five takes {votes_needed(0.6)}, about {math.ceil(votes_needed(0.6) / num_pairs)} listeners, at best",
            file=sys.stderr,
        )
    for utterance_id, reason in built.material.dropped.items():
        print(f"left out: {utterance_id}, {reason}", file=sys.stderr)
    print(f"give listeners {built.page.name} only; whoever has {built.key.name} is not blind", file=sys.stderr)
    return EXIT_OK


def _serve(words: Sequence[str]) -> int:
    from reports.listening.serve import DEFAULT_PORT, open_server

    paths, values = split_words(words, ("port",))
    port = values.get("port", str(DEFAULT_PORT))
    if len(paths) != 1 or not port.isdecimal():
        raise ListeningError("serve: give the folder that build left, and port=N for another port")
    with open_server(paths[0], int(port)) as server:
        print(f"http://{server.server_address[0]!s}:{server.server_address[1]}/", flush=True)
        print(f"answers go to {paths[0] / 'answers'}; Ctrl-C ends it", file=sys.stderr, flush=True)
        server.serve_forever()
    return EXIT_OK


def _collect(words: Sequence[str]) -> int:
    from reports.listening.judging.collect import collect

    collected = collect(words)
    for sentence in collected.sentences or (f"no verdict: {collected.findings.reason}",):
        print(sentence)
    for path in collected.paths:
        print(path)
    for note in collected.findings.notes:
        print(f"note: {note}", file=sys.stderr)
    left_out = [s for s in collected.findings.screened if s.reasons]
    for screened in left_out:
        print(f"left out: {screened.listener.name}, {'; '.join(screened.reasons)}", file=sys.stderr)
    gone = len(collected.findings.key.systems) - len(collected.beside)
    if gone:
        print(f"note: the folders of {gone} runs are gone; their verdict is here only", file=sys.stderr)
    return EXIT_OK if collected.sentences else EXIT_UNSURE


VERBS: dict[str, Callable[[Sequence[str]], int]] = {"build": _build, "serve": _serve, "collect": _collect}


if __name__ == "__main__":
    sys.exit(main())

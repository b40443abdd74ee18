"""`python -m reports.listening serve DIR`: the page on this machine; every answer is on disk before the page goes on.

Only the page and the place for answers are served, never the key; only to this machine, and only for pages that it sent
(the Host header must name the loopback, so that another site cannot reach it through a rebound name).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from metrics.journal_lines import LineWriter
from reports.listening.judging.collect import ANSWERS
from reports.listening.judging.results import Key, load_key
from reports.listening.judging.sessions import RESULT_ID
from reports.listening.making.build import KEY_FILE, PAGE_FILE
from reports.listening.study.settings import ListeningError, bad_setting
from reports.words import slug

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8710
MAX_BODY_BYTES = 64 * 1024
TIMEOUT_S = 30.0
ALLOWED_HOSTS = ("127.0.0.1", "localhost")
KINDS = ("answer", "session")


class Refused(Exception):
    """A request that is not from this page; the text goes back to it."""


class AnswerBook:
    """The folder of answers: one journal a session, one line an answer, on the disk before `write` returns."""

    def __init__(self, folder: Path, key: Key):
        self._folder = folder
        self._key = key
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, body: bytes) -> Path:
        """Append one line, whole or not at all (OSError). Raises Refused for anything but a line of this set."""
        line = self._checked(body)
        listener = str(line["listener"])
        # Two sessions of one name, or of names that no file name can tell apart, keep journals of their own
        identity = "\0".join([listener, *([str(line["result_id"])] if "result_id" in line else [])])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
        path = self._folder / f"{slug(listener)}-{digest}.jsonl"
        stamped = {**line, "received": datetime.now(timezone.utc).isoformat()}
        with LineWriter(path) as lines:
            lines.append(json.dumps(stamped, allow_nan=False, ensure_ascii=False))
        return path

    def _checked(self, body: bytes) -> Mapping[str, object]:
        try:
            line = json.loads(body)
        except ValueError as error:
            raise Refused("not JSON") from error
        if not isinstance(line, dict) or line.get("kind") not in KINDS:
            raise Refused("neither an answer nor a session")
        if (line.get("set_sha256"), line.get("key_sha256")) != (self._key.set_sha256, self._key.sha256):
            raise Refused("the page is of another listening set; reload it")
        if not isinstance(line.get("listener"), str) or not 0 < len(line["listener"]) <= 40:
            raise Refused("no listener id")
        result_id = line.get("result_id", "0" * 32)  # pages of an earlier version have none
        if not isinstance(result_id, str) or not RESULT_ID.fullmatch(result_id):
            raise Refused("no result id")
        answer = line.get("answer")
        if line["kind"] == "answer" and (not isinstance(answer, dict) or answer.get("trial") not in self._key.trials):
            raise Refused("an answer to no trial of this set")
        return line


def page_with_collector(page: str) -> str:
    """The page told where to send answers. Its commitment covers the trials and the audio, not this line."""
    return page.replace("<head>", '<head>\n<meta name="collect" content="/answers">', 1)


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, POST /answers one line. Set `page` and `book` in a subclass."""

    page: bytes
    book: AnswerBook
    timeout = TIMEOUT_S
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._is_local():
            self._reply(HTTPStatus.FORBIDDEN, b"only for this machine")
        elif self.path.split("?")[0] == "/":
            self._reply(HTTPStatus.OK, self.page, "text/html; charset=utf-8")
        else:
            self._reply(HTTPStatus.NOT_FOUND, b"nothing here")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            return self._reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"too long")
        body = self.rfile.read(int(length))
        # A form of another site cannot send this type without asking first, and it would be refused
        if not self._is_local() or self.headers.get_content_type() != "application/json":
            return self._reply(HTTPStatus.FORBIDDEN, b"only for pages of this machine")
        if self.path != "/answers":
            return self._reply(HTTPStatus.NOT_FOUND, b"nothing here")
        try:
            self.book.write(body)
        except Refused as error:
            return self._reply(HTTPStatus.BAD_REQUEST, str(error).encode())
        except OSError as error:
            return self._reply(HTTPStatus.INSUFFICIENT_STORAGE, f"the disk refused it ({error.strerror})".encode())
        self._reply(HTTPStatus.OK, b"saved")

    def _is_local(self) -> bool:
        return self.headers.get("Host", "").rpartition(":")[0] in ALLOWED_HOSTS

    def _reply(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        # A browser that left before the end of the page is no fault of anybody
        with suppress(ConnectionError):
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: what counts is in the journals."""


def handler_for(folder: Path) -> type[Handler]:
    """The handler of one set. Raises ListeningError where the folder holds none."""
    key = load_key(folder / KEY_FILE)
    path = folder / PAGE_FILE
    if not path.is_file() or key.sha256 not in (page := path.read_text(encoding="utf-8")):
        raise ListeningError(f"{path}: is not the page of this key; give the folder that build left")
    book = AnswerBook(folder / ANSWERS, key)
    return type("SetHandler", (Handler,), {"page": page_with_collector(page).encode(), "book": book})


def open_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Bound, not yet serving. Raises ListeningError where the port is taken."""
    try:
        return ThreadingHTTPServer((LOOPBACK, port), handler_for(folder))
    except OSError as error:
        raise bad_setting("port", port, f"cannot be opened ({error.strerror})", "give another port=N") from error

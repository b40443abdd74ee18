"""The collecting server over a socket file: the page goes out, answers reach the disk, everything else is refused."""

import contextlib
import http.client
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reports.listening.making.build import build_set
from reports.listening.serve import MAX_BODY_BYTES, handler_for
from reports.listening.study.settings import BuildSettings, ListeningError
from tests.listening_runs import answered, two_runs


class SocketFileServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The same handler, reached through a file: nothing but a process of this machine can."""

    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("local", 0)


class SocketFileConnection(http.client.HTTPConnection):
    def __init__(self, path: Path):
        super().__init__("127.0.0.1:8710")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("serve")
    runs = tuple(two_runs(base / "runs", 3, 0.2))
    return build_set(BuildSettings(runs=runs, out=base / "set", seed=1)).page.parent


@pytest.fixture
def ask(folder: Path, tmp_path: Path) -> Iterator[Any]:
    path = tmp_path / "s"
    server = SocketFileServer(str(path), handler_for(folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def request(method: str, where: str, body: Any = None, **headers: str) -> tuple[int, str]:
        connection = SocketFileConnection(path)
        kind = {"Content-Type": "application/json"} if body is not None else {}
        content = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
        with contextlib.suppress(BrokenPipeError):  # who refuses by the headers may hang up before the body has come
            connection.request(method, where, content, {**kind, **{k.replace("_", "-"): v for k, v in headers.items()}})
        reply = connection.getresponse()
        return reply.status, reply.read().decode()

    yield request
    server.shutdown()
    thread.join()
    server.server_close()


def lines_of(folder: Path, listener: str) -> list[dict[str, Any]]:
    found = list((folder / "answers").glob(f"{listener}-*.jsonl"))
    return [json.loads(line) for path in found for line in path.read_text().splitlines()]


def message(folder: Path, listener: str) -> dict[str, Any]:
    result = answered(folder, listener, lambda kind, clips, rng: {"preference": "none", "rating_a": 3, "rating_b": 3})
    answers = result.pop("answers")
    return {**result, "kind": "answer", "answer": answers[0]}


def test_the_page_goes_out_and_the_key_does_not(ask: Any, folder: Path) -> None:
    status, page = ask("GET", "/")
    assert status == 200
    assert '<meta name="collect" content="/answers">' in page
    assert ask("GET", "/key.json")[0] == 404
    assert ask("GET", "/../key.json")[0] == 404
    assert ask("GET", "/answers")[0] == 404


def test_an_answer_is_on_disk_when_the_reply_comes(ask: Any, folder: Path) -> None:
    assert ask("POST", "/answers", message(folder, "Ana")) == (200, "saved")
    (line,) = lines_of(folder, "Ana")
    assert line["answer"]["response"] == {"preference": "none", "rating_a": 3, "rating_b": 3}
    assert line["received"].endswith("+00:00")
    # A second word on the same screen is a second line; the last one counts when results are collected
    assert ask("POST", "/answers", message(folder, "Ana"))[0] == 200
    assert len(lines_of(folder, "Ana")) == 2


def test_listeners_with_odd_names_stay_apart_and_inside_the_folder(ask: Any, folder: Path) -> None:
    for name in ("../../up", "..-..-up"):
        assert ask("POST", "/answers", message(folder, name))[0] == 200
    assert len(list((folder / "answers").glob("*up-*.jsonl"))) == 2
    assert not list(folder.parent.glob("*.jsonl"))


def test_what_is_not_an_answer_of_this_set_is_refused(ask: Any, folder: Path) -> None:
    good = message(folder, "Eve")
    bad = [
        b"{", {**good, "kind": "key"}, {**good, "key_sha256": "0" * 64}, {**good, "listener": ""},
        {**good, "answer": {"trial": "none"}}, [1, 2],
    ]  # fmt: skip
    assert [ask("POST", "/answers", body)[0] for body in bad] == [400] * len(bad)
    assert ask("POST", "/answers", good, Host="evil.example:8710")[0] == 403
    assert ask("GET", "/", Host="evil.example")[0] == 403
    assert ask("POST", "/answers", good, Content_Type="text/plain")[0] == 403
    assert ask("POST", "/answers", b"x", Content_Length=str(MAX_BODY_BYTES + 1))[0] == 413
    assert lines_of(folder, "Eve") == []


def test_a_page_of_another_key_is_not_served(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text((folder / "key.json").read_text().replace("ab", "ba", 1))
    (tmp_path / "listening.html").write_text((folder / "listening.html").read_text())
    with pytest.raises(ListeningError, match="not the page of this key"):
        handler_for(tmp_path)


def test_it_listens_on_the_loopback_only() -> None:
    from reports.listening import serve

    assert serve.LOOPBACK == "127.0.0.1"
    assert issubclass(ThreadingHTTPServer, socketserver.TCPServer)

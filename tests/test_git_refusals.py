"""Why git gives no commit: a folder it does not trust, a shallow clone, no repository, no program. Told apart, each
with a way out that works, in `compare` and in the record."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from engine.contract import ConfigError
from experiments.common import repository
from experiments.common.environment import fingerprint
from experiments.common.repository import commit_of, git_state
from experiments.compare.revision import refuse_uncommitted, worktree

KEY = "candidate.revision"


def run(folder: Path, *words: str) -> str:
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of whoever runs this, and a home that may be written."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "A")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@b")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Three commits in a folder whose name a shell would split."""
    folder = tmp_path / "Ann's clone"
    folder.mkdir()
    run(folder, "git", "init", "--quiet")
    for number in range(3):
        (folder / "engine").mkdir(exist_ok=True)
        (folder / "engine" / "build.py").write_text(f"x = {number}\n")
        run(folder, "git", "add", ".")
        run(folder, "git", "commit", "--quiet", "--message", str(number))
    return folder


@pytest.fixture
def untrusted(origin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if another user owned it: git's own switch for its own tests of this."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    return origin


def type_remedy(remedy: str) -> None:
    """In a shell, up to the word `or`."""
    first = remedy.partition(", or ")[0]
    subprocess.run(["sh", "-c", first], check=True, capture_output=True)


def test_a_repository_has_a_commit_and_no_reason(origin: Path) -> None:
    head = run(origin, "git", "rev-parse", "HEAD")
    assert git_state(origin) == {"git_commit": head, "git_dirty": False, "git_reason": None}
    (origin / "engine" / "build.py").write_text("y\n")
    assert git_state(origin)["git_dirty"] is True


def test_a_folder_of_another_user_is_trusted_by_the_command_that_is_printed(untrusted: Path) -> None:
    found = git_state(untrusted)
    assert (found["git_commit"], found["git_dirty"]) == (None, None)
    assert "dubious ownership" in found["git_reason"]
    with pytest.raises(ConfigError, match="dubious ownership") as refused:
        commit_of(KEY, "HEAD~1", untrusted)
    for check in (refuse_uncommitted, lambda key, root: worktree(key, "HEAD", root).__enter__()):
        with pytest.raises(ConfigError, match="dubious ownership"):
            check(KEY, untrusted)
    type_remedy(refused.value.remedy)
    assert commit_of(KEY, "HEAD~1", untrusted) == run(untrusted, "git", "rev-parse", "HEAD~1")
    assert git_state(untrusted)["git_reason"] is None


def test_without_a_home_the_remedy_is_for_this_shell(untrusted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    with pytest.raises(ConfigError) as refused:
        commit_of(KEY, "HEAD", untrusted)
    for setting in shlex.split(refused.value.remedy)[1:]:
        monkeypatch.setenv(*setting.split("=", 1))
    assert commit_of(KEY, "HEAD", untrusted)


def test_a_shallow_clone_is_deepened_by_the_command_that_is_printed(origin: Path, tmp_path: Path) -> None:
    clone = tmp_path / "shallow"
    run(tmp_path, "git", "clone", "--quiet", "--depth=1", f"file://{origin}", str(clone))
    assert git_state(clone)["git_reason"] is None, "the commit itself is known"
    with pytest.raises(ConfigError, match="shallow") as refused:
        commit_of(KEY, "HEAD~1", clone)
    type_remedy(refused.value.remedy)
    assert commit_of(KEY, "HEAD~1", clone) == run(origin, "git", "rev-parse", "HEAD~1")
    with pytest.raises(ConfigError, match="no such commit"):
        commit_of(KEY, "HEAD~7", clone)


def test_no_repository_is_said_as_that(tmp_path: Path) -> None:
    assert "is no git repository" in git_state(tmp_path)["git_reason"]
    for check in (lambda: commit_of(KEY, "HEAD", tmp_path), lambda: refuse_uncommitted(KEY, tmp_path)):
        with pytest.raises(ConfigError, match=r"is no git repository; make it with git clone"):
            check()


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    run(tmp_path, "git", "init", "--quiet")
    assert "no commit yet" in git_state(tmp_path)["git_reason"]
    with pytest.raises(ConfigError, match="no commit yet"):
        commit_of(KEY, "HEAD", tmp_path)


def test_no_git_program(origin: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(origin) == {
        "git_commit": None, "git_dirty": None, "git_reason": "git is not installed; apt-get install git",
    }  # fmt: skip
    for check in (lambda: commit_of(KEY, "HEAD", origin), lambda: refuse_uncommitted(KEY, origin)):
        with pytest.raises(ConfigError, match=f"{KEY}=.*git is not installed"):
            check()


@pytest.mark.parametrize("revision", ["", "nonsense", "HEAD~3", "--upload-pack=x", "'; rm -rf", "HEAD:engine"])
def test_what_is_no_commit_is_refused_in_one_line(origin: Path, revision: str) -> None:
    with pytest.raises(ConfigError, match="git knows no such commit here") as refused:
        commit_of(KEY, revision, origin)
    assert "\n" not in str(refused.value)


def test_other_words_of_git_are_passed_on(origin: Path) -> None:
    (origin / ".git" / "config").write_text("[core\n")
    assert "git says: bad config line 1" in git_state(origin)["git_reason"]


def test_the_record_and_the_report_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.common.environment.ROOT", tmp_path)
    environment = fingerprint({"kind": "cpu", "threads": 1})
    assert environment["git_commit"] is None
    assert environment["git_reason"] == git_state(tmp_path)["git_reason"]


def test_git_speaks_english_to_us(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words are read, so whoever runs it in another language must get the same."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    assert "is no git repository" in git_state(origin.parent / "home")["git_reason"]
    assert repository.git(origin, "rev-parse", "HEAD").returncode == 0

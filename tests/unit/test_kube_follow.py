"""Logs that are read as they are written, from a real HTTP server on this machine."""

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from tasks.lib.errors import ClusterGone
from tasks.lib.kube import follow
from tasks.lib.kube.api import Ref
from tasks.lib.kube.client import Kube
from tests.api_server import in_turn, running, write

POD = Ref("v1", "Pod", "app", "one")
PATH = "/api/v1/namespaces/app/pods/one/log"


def test_lines_are_whole_and_asked_for_as_they_come(tmp_path: Path) -> None:
    with running() as server:
        server.routes[f"GET {PATH}"] = (200, "first\nsecond\nhalf a li")
        kube = Kube(write(tmp_path / "config", server.url))
        assert list(kube.follow(POD, "envoy", since_s=7, silence_s=5)) == ["first", "second"]
        (_, _, query, headers, _) = server.requests[-1]
    assert query == {"container": ["envoy"], "follow": ["true"], "sinceSeconds": ["7"]}
    assert headers["authorization"] == "Bearer first"


def test_a_refusal_has_no_lines_and_no_answer_is_an_error(tmp_path: Path) -> None:
    with running() as server:
        kube = Kube(write(tmp_path / "config", server.url))
        assert list(kube.follow(POD, "envoy", since_s=7, silence_s=5)) == []
    with pytest.raises(ClusterGone):
        list(kube.follow(POD, "envoy", since_s=7, silence_s=5))


def test_a_follower_goes_on_after_an_end_and_a_failure_until_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PAUSE_S", 0.01)
    taken: list[str] = []
    enough = threading.Event()

    def take(line: str) -> None:
        taken.append(line)
        if "third" in taken:
            enough.set()

    with running() as server:
        server.routes[f"GET {PATH}"] = in_turn((200, "first\n"), (0, ""), (500, "no\n"), (200, "third\n"))
        follower = follow.Follower(Kube(write(tmp_path / "config", server.url)), POD, "envoy", take)
        assert enough.wait(10)
        follower.stop()
        follower.join()
    assert taken[0] == "first"
    assert "no" not in taken


def test_a_recording_has_the_lines_with_its_word_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PAUSE_S", 0.01)
    with running() as server:
        server.routes[f"GET {PATH}"] = in_turn((200, "mine 1\nother\n"), (200, "mine 1\nmine 2\n"))
        kube = Kube(write(tmp_path / "config", server.url))
        with closing(follow.Recording(kube, [(POD, "envoy")], "mine")) as recording:
            until = time.monotonic() + 10
            while len(recording.lines()) < 2 and time.monotonic() < until:
                time.sleep(0.01)
            assert recording.lines() == ["mine 1", "mine 2"]

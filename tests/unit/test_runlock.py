"""The lock of this machine: real processes, real flock."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.lib import runlock
from tasks.lib.errors import Busy, NotAvailable
from tasks.lib.runlock import Holder, hold

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tasks.lib import runlock, shell
with runlock.hold(Path({folder!r}), "box", command="invoke up", say=print):
    shell.run(["sh", "-c", "echo $$ > {child}; exec sleep 600"])
"""


def other_run(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Start another process that holds the lock and has a child of its own; return both once they are there."""
    child = folder / "child"
    script = SCRIPT.format(root=str(ROOT), folder=str(folder), child=str(child))
    process = subprocess.Popen([sys.executable, "-c", script], text=True)
    until(lambda: child.exists() and child.read_text().strip() != "")
    return process, int(child.read_text())


def until(true: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def end(process: subprocess.Popen[str], child: int) -> None:
    process.kill()
    process.wait()
    if runlock.alive(child):
        os.kill(child, signal.SIGKILL)


def test_the_second_says_who_holds_it_and_leaves(tmp_path: Path) -> None:
    process, child = other_run(tmp_path)
    try:
        with pytest.raises(Busy, match="another run is at work on box") as caught:
            take(tmp_path, wait=False)
        assert caught.value.facts["holder"] == f"pid {process.pid} on {Holder.me('').host}"
        assert str(caught.value.facts["since"]).startswith("20")
        assert caught.value.facts["command"] == "invoke up"
        assert caught.value.code == 5
    finally:
        end(process, child)


def test_the_second_waits_says_so_once_and_gives_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlock, "_POLL_S", 0.02)
    process, child = other_run(tmp_path)
    said: list[str] = []
    try:
        with pytest.raises(Busy), hold(tmp_path, "box", command="me", say=said.append, timeout_s=0.2):
            pytest.fail("the lock was given twice")
        assert len(said) == 1
        assert f"pid {process.pid} on" in said[0]
    finally:
        end(process, child)


def test_the_second_gets_it_when_the_first_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlock, "_POLL_S", 0.02)
    process, child = other_run(tmp_path)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        os.kill(child, signal.SIGTERM)  # its work fails, and it goes

    try:
        with hold(tmp_path, "box", command="me", say=say, timeout_s=60):
            assert said
    finally:
        end(process, child)


def test_kill_9_frees_the_lock_although_a_child_lives_on(tmp_path: Path) -> None:
    process, child = other_run(tmp_path)
    try:
        process.kill()
        process.wait()
        assert runlock.alive(child)
        take(tmp_path, wait=False)
    finally:
        end(process, child)


def test_what_is_written_names_us_while_we_hold_it_and_nobody_after(tmp_path: Path) -> None:
    with hold(tmp_path, "box", command="invoke up", say=print):
        written = json.loads((tmp_path / "box.lock").read_text())
        assert written["pid"] == os.getpid()
        assert written["command"] == "invoke up"
        take(tmp_path, wait=False)  # inside one process it may be taken again
        with pytest.raises(BlockingIOError):
            another_descriptor(tmp_path / "box.lock")
    assert (tmp_path / "box.lock").read_text() == ""
    take(tmp_path, wait=False)


def test_an_error_inside_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path, "box", command="me", say=print):
        _ = 1 / 0
    another_descriptor(tmp_path / "box.lock")


def test_other_clusters_have_other_locks(tmp_path: Path) -> None:
    with hold(tmp_path, "a/b", command="me", say=print), hold(tmp_path, "a:b", command="me", say=print):
        files = sorted(path.name for path in tmp_path.iterdir())
    assert len(files) == 2
    assert all(name.startswith("a_b-") and name.endswith(".lock") for name in files)


def test_a_holder_that_has_not_written_is_called_unnamed(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "box.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(Busy, match="it has not said who it is"):
            take(tmp_path, wait=False)
        os.write(descriptor, b'{"host": "h", "pi')
        with pytest.raises(Busy, match="it has not said who it is"):
            take(tmp_path, wait=False)
    finally:
        os.close(descriptor)


def test_a_place_without_room_for_locks_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotAvailable, match=r"file/locks/box.lock: no lock can be taken here"):
        take(tmp_path / "file" / "locks", wait=False)


def test_a_holder_is_gone_only_when_that_is_certain() -> None:
    me = Holder.me("x")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert not me.gone
    assert replace(me, pid=dead.pid).gone
    assert not replace(me, pid=dead.pid, place="another machine").gone
    assert not replace(me, pid=dead.pid, place="").gone


def take(folder: Path, *, wait: bool) -> None:
    with hold(folder, "box", command="me", say=print, wait=wait):
        pass


def another_descriptor(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)

"""The only place where programs are started.

Commands are argument lists. Each child leads its own process group, so that an interrupted run can end all of it.
"""

import codecs
import contextlib
import io
import math
import os
import select
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from tasks.lib.errors import CommandFailed, NotAvailable

GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL for a child of an interrupted run."""

_LAST_LINES = 20
_CHUNK = 1 << 16
_TICK_S = 0.2
"""How soon the end of a child is noticed whose streams somebody else still holds."""

_running: set[subprocess.Popen[bytes]] = set()
_running_lock = threading.Lock()

OnLine = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a program left: exit status, standard output and standard error."""

    returncode: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str | Path],
    *,
    check: bool = True,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout_s: float | None = None,
    on_line: OnLine | None = None,
) -> Result:
    """Run a program to its end and return what it printed.

    `env` is added to this process's environment. `on_line` receives each line of both streams as it comes; what it
    raises ends the program, and is raised here. `timeout_s` is in seconds and bounds reading and writing too. Whatever
    the program leaves running may keep its streams open: that is not waited for.

    Raises NotAvailable when the program does not exist, CommandFailed when `check` and it exits non-zero or runs
    longer than `timeout_s`.
    """
    words = [str(word) for word in argv]
    given = (stdin or "").encode()
    process = _start(words, cwd, env, has_stdin=stdin is not None)
    talk = _Talk(process, given, on_line)
    try:
        code = talk.to_the_end(timeout_s)
        if code is None:
            end(process)
        talk.last_words()
    except BaseException:
        end(process)
        raise
    finally:
        talk.close()
        with _running_lock:
            _running.discard(process)
    out, err = talk.out.lines, talk.err.lines
    if code is None:
        raise _failed(words, f"did not end within {timeout_s:g} s", -1, out + err)
    if check and code != 0:
        raise _failed(words, f"exit status {code}", code, err or out)
    return Result(returncode=code, stdout="".join(out), stderr="".join(err))


def end(process: subprocess.Popen[bytes]) -> None:
    """End a child and everything it started: SIGTERM, a short grace, SIGKILL."""
    if process.returncode is not None:
        return  # its number may be another's by now
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_S)
            return


def end_all() -> None:
    """End every child still running (Ctrl-C)."""
    with _running_lock:
        processes = list(_running)
    for process in processes:
        end(process)


def _start(
    words: list[str], cwd: Path | None, env: Mapping[str, str] | None, *, has_stdin: bool
) -> subprocess.Popen[bytes]:
    try:
        process = subprocess.Popen(  # noqa: S603 (argument list, no shell)
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE if has_stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise NotAvailable(f"{words[0]}: cannot be run: {error.strerror}") from error
    with _running_lock:
        _running.add(process)
    return process


class _Lines:
    """A stream's lines as they come, a progress bar's among them. What is not UTF-8 is replaced."""

    def __init__(self, on_line: OnLine | None) -> None:
        self.lines: list[str] = []
        self._on_line = on_line
        self._decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
        self._begun = ""

    def take(self, data: bytes) -> None:
        """Take what was read; nothing means that the stream has ended."""
        *whole, self._begun = (self._begun + self._decoder.decode(data, final=not data)).split("\n")
        for line in whole:
            self._add(line, "\n")
        if not data and self._begun:
            self._add(self._begun, "")
            self._begun = ""

    def _add(self, line: str, end_of_line: str) -> None:
        self.lines.append(line + end_of_line)
        if self._on_line:
            self._on_line(line)


class _Talk:
    """What goes to a child and comes from it, all of it in one thread, so that nothing can hang or fail unseen."""

    def __init__(self, process: subprocess.Popen[bytes], given: bytes, on_line: OnLine | None) -> None:
        self._process = process
        self._input = memoryview(given)
        self._selector = selectors.DefaultSelector()
        self.out, self.err = _Lines(on_line), _Lines(on_line)
        for stream, lines in ((process.stdout, self.out), (process.stderr, self.err)):
            if stream:
                self._selector.register(stream, selectors.EVENT_READ, partial(self._read, stream, lines))
        if process.stdin:
            self._selector.register(process.stdin, selectors.EVENT_WRITE, partial(self._write, process.stdin))

    def to_the_end(self, timeout_s: float | None) -> int | None:
        """Talk until the child has ended; return its exit status, or None when that takes too long."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while (code := self._process.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if self._selector.get_map():
                self._turn(min(left, _TICK_S))
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(None if left == math.inf else left)
        return code

    def last_words(self) -> None:
        """Read what a child that has ended left in its streams, and no more: who else holds them may go on for ever."""
        if self._process.stdin:
            self._leave(self._process.stdin)
        until = time.monotonic() + GRACE_S
        while self._selector.get_map() and self._turn(0) and time.monotonic() < until:
            pass
        for lines in (self.out, self.err):
            lines.take(b"")

    def close(self) -> None:
        """Let go of every stream."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream:
                self._leave(stream)
        self._selector.close()

    def _turn(self, within_s: float) -> bool:
        """Read and write what is possible by then; return whether anything was."""
        ready = self._selector.select(within_s)
        for key, _ in ready:
            key.data()
        return bool(ready)

    def _read(self, stream: IO[bytes], lines: _Lines) -> None:
        if data := os.read(stream.fileno(), _CHUNK):
            lines.take(data)
        else:
            self._leave(stream)

    def _write(self, stream: IO[bytes]) -> None:
        try:
            # A pipe that can be written to takes this much without blocking.
            self._input = self._input[os.write(stream.fileno(), self._input[: select.PIPE_BUF]) :]
        except BrokenPipeError:  # it ended before reading all; its exit status says why
            self._input = self._input[:0]
        if not self._input:
            self._leave(stream)

    def _leave(self, stream: IO[bytes]) -> None:
        if not stream.closed:
            self._selector.unregister(stream)
            stream.close()


def _failed(words: list[str], why: str, code: int, lines: list[str]) -> CommandFailed:
    tail = "".join(lines[-_LAST_LINES:]).rstrip()
    return CommandFailed(
        f"{Path(words[0]).name}: {why}",
        returncode=code,
        output=tail,
        facts={"command": " ".join(words), "output": tail or "(none)"},
    )

"""The only place where programs are started.

Commands are argument lists. Each child leads its own process group, so that an interrupted run can end all of it;
secrets are named by the caller and never reach a log, an argument list or an error.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks.lib.errors import CommandFailed, NotAvailable

GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL for a child of an interrupted run."""

_LAST_LINES = 20

_running: set[subprocess.Popen[str]] = set()
_running_lock = threading.Lock()


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
    on_line: Callable[[str], None] | None = None,
    secrets: Iterable[str] = (),
) -> Result:
    """Run a program to its end and return what it printed.

    `env` is added to this process's environment. `on_line` receives each line of both streams as it comes (secrets
    already removed). `timeout_s` is in seconds.

    Raises NotAvailable when the program does not exist, CommandFailed when `check` and it exits non-zero or runs
    longer than `timeout_s`.
    """
    words = [str(word) for word in argv]
    hide = _hider(secrets)
    process = _start(words, cwd, env, has_stdin=stdin is not None)
    out: list[str] = []
    err: list[str] = []
    readers = [
        threading.Thread(target=_drain, args=(stream, lines, hide, on_line), daemon=True)
        for stream, lines in ((process.stdout, out), (process.stderr, err))
    ]
    for reader in readers:
        reader.start()
    try:
        _feed(process, stdin)
        code = process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        end(process)
        for reader in readers:
            reader.join(GRACE_S)  # its last words; bounded, for who else still holds the pipe
        raise _failed(words, hide, f"did not end within {timeout_s:g} s", -1, out + err) from None
    except BaseException:
        end(process)
        raise
    finally:
        with _running_lock:
            _running.discard(process)
    for reader in readers:
        reader.join()
    if check and code != 0:
        raise _failed(words, hide, f"exit status {code}", code, err or out)
    return Result(returncode=code, stdout="".join(out), stderr="".join(err))


def end(process: subprocess.Popen[str]) -> None:
    """End a child and everything it started: SIGTERM, a short grace, SIGKILL."""
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
) -> subprocess.Popen[str]:
    try:
        process = subprocess.Popen(  # noqa: S603 (argument list, no shell)
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE if has_stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise NotAvailable(f"{words[0]}: cannot be run: {error.strerror}") from error
    with _running_lock:
        _running.add(process)
    return process


def _feed(process: subprocess.Popen[str], stdin: str | None) -> None:
    if stdin is not None and process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it ended before reading all; its exit status says why
            process.stdin.write(stdin)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _drain(
    stream: IO[str] | None, lines: list[str], hide: Callable[[str], str], on_line: Callable[[str], None] | None
) -> None:
    if stream is None:
        return
    with stream:  # closed here: another thread that closes it would wait for this one's read
        for line in stream:
            lines.append(line)
            if on_line:
                on_line(hide(line).rstrip("\n"))


def _hider(secrets: Iterable[str]) -> Callable[[str], str]:
    known = sorted({secret for secret in secrets if secret}, key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in known:
            text = text.replace(secret, "***")
        return text

    return hide


def _failed(words: list[str], hide: Callable[[str], str], why: str, code: int, lines: list[str]) -> CommandFailed:
    tail = hide("".join(lines[-_LAST_LINES:])).rstrip()
    return CommandFailed(
        f"{Path(words[0]).name}: {why}",
        returncode=code,
        output=tail,
        facts={"command": hide(" ".join(words)), "output": tail or "(none)"},
    )

"""Programs: what they print, how they end, and that nothing they do holds us up or is lost."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.lib import shell
from tasks.lib.errors import CommandFailed, NotAvailable

LONG = "0123456789abcdef" * (1 << 16)
"""More than any pipe holds."""


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def within(seconds: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


def test_both_streams_and_the_exit_status_come_back() -> None:
    found = shell.run(["sh", "-c", "echo out; printf err >&2; exit 3"], check=False)
    assert found == shell.Result(returncode=3, stdout="out\n", stderr="err")
    assert shell.run(["sh", "-c", "echo $BOX_TEST; pwd"], env={"BOX_TEST": "1"}, cwd=Path("/")).stdout == "1\n/\n"


def test_a_failure_has_the_command_and_its_last_lines() -> None:
    with pytest.raises(CommandFailed, match="sh: exit status 3") as caught:
        shell.run(["sh", "-c", "echo out; for i in $(seq 30); do echo $i >&2; done; exit 3"])
    assert caught.value.returncode == 3
    assert caught.value.output == "\n".join(map(str, range(11, 31)))
    assert str(caught.value.facts["command"]).startswith("sh -c echo out")


def test_one_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="no-such-program: cannot be run: No such file"):
        shell.run(["no-such-program"])
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF no program")
    broken.chmod(0o755)
    with pytest.raises(NotAvailable, match="broken: cannot be run: Exec format error"):
        shell.run([broken])


def test_lines_come_one_by_one_from_both_streams() -> None:
    seen: list[str] = []
    text = (
        "import sys, time; e = sys.stderr; e.write('a'); e.flush(); time.sleep(0.05); e.write('b\\nc\\rd'); print('x')"
    )
    found = shell.run(python(text), on_line=seen.append)
    assert sorted(seen) == ["ab", "c", "d", "x"]
    assert (found.stdout, found.stderr) == ("x\n", "ab\nc\nd")


def test_letters_that_come_in_pieces_are_whole_and_nonsense_is_replaced() -> None:
    text = (
        "import sys, time; o = sys.stdout.buffer\n"
        "for each in 'é✓'.encode(): o.write(bytes([each])); o.flush(); time.sleep(0.02)\n"
        "o.write(b'\\xff')"
    )
    assert shell.run(python(text)).stdout == "é✓�"


def test_what_an_observer_raises_ends_the_program_and_is_raised() -> None:
    pids: list[int] = []

    def observe(line: str) -> None:
        pids.append(int(line))
        raise BrokenPipeError("nobody reads this")

    with within(20), pytest.raises(BrokenPipeError, match="nobody reads this"):
        shell.run(["sh", "-c", "echo $$; exec sleep 60"], on_line=observe)
    assert not alive(pids[0])


def test_who_stays_behind_with_the_streams_is_not_waited_for() -> None:
    with within(20):
        found = shell.run(["sh", "-c", "sleep 60 & echo $!; echo done >&2"])
    left = int(found.stdout)
    assert found.stderr == "done\n"
    assert alive(left), "a daemon that was meant to stay"
    os.kill(left, signal.SIGKILL)


def test_not_even_when_it_goes_on_talking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "GRACE_S", 0.2)
    with within(20):
        found = shell.run(["sh", "-c", "echo first; yes & exit 0"])
    assert found.stdout.startswith("first\n")


def test_all_that_was_printed_before_the_end_is_read() -> None:
    assert shell.run(python("import os; os.write(1, b'x' * 60000); os._exit(0)")).stdout == "x" * 60000


def test_input_larger_than_a_pipe_goes_through() -> None:
    assert shell.run(["cat"], stdin=LONG, timeout_s=60).stdout == LONG
    assert shell.run(["cat"], stdin="").stdout == ""
    assert shell.run(["true"], stdin=LONG).returncode == 0, "it need not be read"


def test_the_time_limit_holds_for_input_that_nobody_reads() -> None:
    with within(20), pytest.raises(CommandFailed, match=r"did not end within 0\.2 s"):
        shell.run(["sleep", "60"], stdin=LONG, timeout_s=0.2)


def test_the_time_limit_holds_for_a_program_without_streams_and_its_last_words_are_kept() -> None:
    with within(20), pytest.raises(CommandFailed, match=r"did not end within 0\.3 s") as caught:
        shell.run(["sh", "-c", "echo busy; exec >&- 2>&-; exec sleep 60"], timeout_s=0.3)
    assert caught.value.output == "busy"
    assert caught.value.returncode == -1


def test_an_interrupt_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shell.run(["sh", "-c", "sleep 60 & echo $!; wait"], on_line=interrupt)
    deadline = time.monotonic() + 20
    while alive(pids[0]):
        assert time.monotonic() < deadline, "what it started is ended too"
        time.sleep(0.01)

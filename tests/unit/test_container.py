"""The container engine: which fault is which, what may be installed, and what a daemon of ours is given."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.lib import container, daemon, shell
from tasks.lib.container import ContainerEngine, Fault, explain, read
from tasks.lib.errors import CommandFailed, NotAvailable
from tasks.lib.packages.store import Store

NO_DAEMON = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
REFUSED = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: "
    'Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.50/version": dial unix /var/run/docker.sock: connect: permission denied'
)
EVERYTHING = "CapInh:\t0000000000000000\nCapBnd:\t000001ffffffffff\n"
WITHOUT_RESOURCE = "CapInh:\t0000000000000000\nCapBnd:\t000001fffeffffff\n"


def failed(output: str) -> CommandFailed:
    """Return the failure of a command that said `output`."""
    return CommandFailed("docker: exit status 1", returncode=1, output=output, facts={"output": output})


@pytest.mark.parametrize(
    ("code", "stdout", "stderr", "fault"),
    [
        (0, "20.10.24+dfsg1\n", "", None),
        (1, "", NO_DAEMON, Fault.NO_DAEMON),
        (1, "", "error during connect: dial tcp 10.0.0.1:2375: connect: connection refused", Fault.NO_DAEMON),
        (1, "", REFUSED, Fault.REFUSED),
        (0, "5.4.2\n", "Emulate Docker CLI using podman.", Fault.OTHER_ENGINE),
        (1, "", "Error response from daemon: client version 1.24 is too old", Fault.BROKEN),
        (0, "\n", "", Fault.BROKEN),
    ],
)
def test_each_answer_of_the_daemon_is_told_apart(code: int, stdout: str, stderr: str, fault: Fault | None) -> None:
    found = read(shell.Result(returncode=code, stdout=stdout, stderr=stderr))

    assert found.fault is fault
    assert found.version == (stdout.strip() if fault is None else "")


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_says_what_to_type(fault: Fault) -> None:
    error = container.Probe(fault=fault, said="its own words").error()

    assert error.what == fault.value
    assert error.hint
    assert error.facts["it said"] == "its own words"


@pytest.mark.parametrize("fault", [None, *Fault])
@pytest.mark.parametrize("reason", ["", "this needs root"])
def test_an_engine_can_be_had_where_one_runs_or_may_be_made(
    fault: Fault | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ContainerEngine(Store(tmp_path))
    monkeypatch.setattr(engine, "probe", lambda: container.Probe(fault=fault))
    monkeypatch.setattr(container, "cannot_install", lambda *, install: reason)

    found = engine.why_not(install=True)

    if fault in (Fault.NO_CLIENT, Fault.NO_DAEMON):
        assert found == (f"{fault} (this needs root)" if reason else None)
    else:
        assert found == (str(fault) if fault else None)


def test_without_a_client_the_other_engines_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    engine = ContainerEngine(Store(tmp_path))

    assert engine.probe().fault is Fault.NO_CLIENT

    podman = folder / "podman"
    podman.write_text("#!/bin/sh\n")
    podman.chmod(0o755)
    assert engine.probe().fault is Fault.OTHER_ENGINE
    assert "podman" in engine.probe().said


def test_nothing_is_installed_when_it_is_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(container, "apt_install", lambda _: pytest.fail("installed something"))

    with pytest.raises(NotAvailable) as caught:
        ContainerEngine(Store(tmp_path)).ensure(install=False, say=pytest.fail)

    assert "--no-install" in str(caught.value)


def test_a_daemon_somewhere_else_is_never_replaced_by_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")

    assert "DOCKER_HOST" in container.cannot_install(install=True)


def test_installing_needs_root_and_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "root" in container.cannot_install(install=True)

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert "apt-get" in container.cannot_install(install=True)

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert container.cannot_install(install=True) == ""


def test_what_is_installed_at_once_refreshes_the_lists_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine by the run, debootstrap by the source that has begun: apt-get does not wait for the other's update."""
    calls, at_work = list[str](), threading.Lock()

    def run(argv: list[str], *, check: bool = True, **_: object) -> shell.Result:
        assert at_work.acquire(blocking=False), "two at once"
        calls.append(" ".join(argv[:2]))
        time.sleep(0.01)
        at_work.release()
        return shell.Result(returncode=0 if check else 100, stdout="", stderr="")

    monkeypatch.setattr(shell, "run", run)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(container.apt_install, [["docker.io"], ["debootstrap"]]))
    assert calls == ["apt-get install", "apt-get update", "apt-get install"] * 2


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("OCI runtime create failed: unable to apply caps: operation not permitted", "privileged"),
        ("Bind for 127.0.0.1:8080 failed: port is already allocated.", "port"),
        ("write /var/lib/docker/tmp/x: no space left on device", "disk is full"),
    ],
)
def test_what_the_machine_lacks_is_told_apart_from_what_a_command_got_wrong(output: str, words: str) -> None:
    meaning = explain(failed(output))

    assert isinstance(meaning, NotAvailable)
    assert words in meaning.what
    assert meaning.hint
    assert meaning.facts["output"] == output


def test_any_other_failure_stays_what_it_is() -> None:
    error = failed("Error: No such container: x")

    assert explain(error) is error


def test_the_wrapper_is_for_a_root_without_sys_resource() -> None:
    assert daemon.has_sys_resource(EVERYTHING)
    assert not daemon.has_sys_resource(WITHOUT_RESOURCE)


def test_a_process_id_used_again_is_not_taken_for_our_daemon(tmp_path: Path) -> None:
    pidfile = tmp_path / "dockerd.pid"
    assert not daemon.is_dockerd(pidfile)

    pidfile.write_text("1")
    assert not daemon.is_dockerd(pidfile)

    pidfile.write_text("not a number")
    assert not daemon.is_dockerd(pidfile)

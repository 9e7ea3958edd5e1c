"""`versions.lock` and `versions.list`: what is written, what is said of what cannot be had, and what is shown."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.lib import lockfile, locking, lockwants, versions
from tasks.lib.errors import BadInput, FetchFailed, NotAvailable
from tasks.lib.lockfile import Entry, Lock
from tasks.lib.packages import gomodule, pypi, recipes
from tasks.lib.packages.recipes import Python

ROOT = Path(__file__).parents[2]
A = "a" * 64
H1 = "h1:" + "A" * 43 + "="


class Reached:
    """Fetchers that reach everything but what is in `away`."""

    def __init__(self, away: str = "nothing", value: str = A) -> None:
        self.away, self.value = away, value

    def file(self, url: str) -> str:
        if self.away in url:
            raise FetchFailed(f"{url}: cannot be reached", facts={"cause": "no route to host"})
        return self.value

    published = file

    def chart(self, repo: str, chart: str, version: str) -> str:
        return self.file(f"{repo} {chart} {version}")

    def image(self, ref: str) -> str:
        return f"sha256:{self.file(ref)}"

    def module(self, module: str, version: str) -> str:
        self.file(f"{module} {version}")
        return H1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with our files and no lock."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / lockfile.FILE).unlink(missing_ok=True)
    return tmp_path


def make(root: Path, monkeypatch: pytest.MonkeyPatch, fetch: Reached, *, refresh: bool = False) -> None:
    monkeypatch.setattr(locking, "Published", lambda _: fetch)
    locking.lock(root, root / "cache", refresh=refresh)


def test_everything_in_reach_is_locked(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(root, monkeypatch, Reached())
    lock = lockfile.load(root)
    assert lockfile.compare(lock, lockwants.everything(root)) == []
    assert lock.unlocked() == {}
    count = len(lock.entries)
    assert capsys.readouterr().out == (
        f"config/versions.lock.yaml: {count} of {count} locked, {count} new; written\n"
        "config/packages-python.txt: as it was\n"
    )

    make(root, monkeypatch, Reached("everything"))
    assert f"{count} of {count} locked; as it was" in capsys.readouterr().out


def test_what_is_out_of_reach_is_said_and_never_invented(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(root, monkeypatch, Reached("kiali"))
    said = capsys.readouterr()
    assert "not locked: 2\n" in said.out
    assert "  images.kiali: quay.io/kiali/kiali:v2.11.0: cannot be reached (no route to host)\n" in said.out
    assert "charts.kiali" in said.err
    assert lockfile.load(root).entries["images.kiali"].value == ""


def test_other_bytes_under_a_locked_name_stop_a_refresh(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "resolve", lambda _: pytest.fail("went on"))
    make(root, monkeypatch, Reached())
    before = (root / lockfile.FILE).read_text()
    with pytest.raises(BadInput, match="is not what it was when it was locked"):
        make(root, monkeypatch, Reached(value="b" * 64), refresh=True)
    assert (root / lockfile.FILE).read_text() == before


def test_what_is_no_longer_pinned_leaves_the_lock(root: Path) -> None:
    old = Lock(entries={"charts.x": Entry(of="x", kind="sha256", value=A)})
    assert locking.summary(old, Lock(), written=True) == "config/versions.lock.yaml: 0 of 0 locked, 1 gone; written\n"


def test_modules_are_asked_of_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = recipes.load(ROOT)
    module = found.modules["kind"]

    def sums(_: object, wanted: Iterable[recipes.Module]) -> dict[str, str]:
        return {f"{each.module}@{each.version}": H1 for each in wanted}

    monkeypatch.setattr(gomodule, "sums", sums)
    ask = locking.module_sums(found, tmp_path)
    assert ask(module.module, module.version) == H1

    def without_go(*_: object) -> Any:
        raise NotAvailable("there is no `go` on PATH")

    monkeypatch.setattr(gomodule, "sums", without_go)
    with pytest.raises(FetchFailed, match=r"sigs.k8s.io/kind@.*: there is no `go` on PATH"):
        ask(module.module, module.version)


# The Python packages

PYTHON = replace(recipes.load(ROOT).python, requirements=("kserve[storage]==0.15.0", "scikit_learn~=1.5", "numpy<2"))
LOCK = "# made\nkserve==0.15.0 --hash=sha256:a\nnumpy==1.26.4 --hash=sha256:b\nscikit-learn==1.5.2 --hash=sha256:c\n"


@pytest.mark.parametrize(
    ("lock", "fits"),
    [(LOCK, True), ("", False), (LOCK.replace("0.15.0", "0.15.1"), False), (LOCK.replace("numpy", "numba"), False),
     (LOCK.replace("1.5.2", "1.5.9"), True)],
)  # fmt: skip
def test_a_lock_of_packages_fits_what_is_required(lock: str, fits: bool) -> None:
    assert pypi.fits(PYTHON, lock) is fits


def test_the_one_of_this_project_fits() -> None:
    found = recipes.load(ROOT).python
    assert pypi.fits(found, (ROOT / "config" / found.lock).read_text())


def resolved(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    def resolve(_: Python) -> str:
        if not answer:
            raise FetchFailed("pip could not fetch what the images need")
        return answer

    monkeypatch.setattr(pypi, "resolve", resolve)


def test_packages_are_resolved_anew_where_their_lock_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, file = replace(recipes.load(ROOT), python=PYTHON), tmp_path / "lock.txt"
    resolved(monkeypatch, "")
    with pytest.raises(FetchFailed):
        locking.python_packages(found, file, refresh=False)
    resolved(monkeypatch, LOCK)
    assert locking.python_packages(found, file, refresh=False)
    assert file.read_text() == LOCK
    resolved(monkeypatch, LOCK + "more==1 --hash=sha256:d\n")
    assert not locking.python_packages(found, file, refresh=False)
    assert locking.python_packages(found, file, refresh=True)
    assert not locking.python_packages(found, file, refresh=True), "the same is not written again"
    resolved(monkeypatch, "")
    assert not locking.python_packages(found, file, refresh=True), "a lock that fits is not lost"
    assert [each.name for each in tmp_path.iterdir()] == ["lock.txt"]


# The list


def test_every_pin_is_listed_with_what_holds_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(root, monkeypatch, Reached("kiali"))
    lock = lockfile.load(root)
    stale = replace(lock.entries["charts.grafana"], of="https://grafana.github.io/helm-charts grafana 7.0.0")
    without = {key: entry for key, entry in lock.entries.items() if key != "tools.helm"}
    lockfile.save(root, Lock(entries={**without, "charts.grafana": stale}))

    found = {each.key: each for each in locking.rows(root)}

    assert list(found) == [each.key for each in lockwants.everything(root)]
    assert (found["charts.kserve"].state, found["charts.kserve"].value) == (locking.LOCKED, A)
    assert (found["charts.kiali"].state, found["charts.kiali"].value) == (locking.UNLOCKED, "")
    assert "no route to host" in found["charts.kiali"].why
    assert (found["tools.helm"].state, found["tools.helm"].why) == (locking.UNLOCKED, "not in the lock")
    assert found["charts.grafana"].state == locking.STALE
    assert "locked for https://grafana.github.io/helm-charts grafana 7.0.0, now" in found["charts.grafana"].why
    assert found["modules.kind"].version == recipes.load(root).modules["kind"].version


def test_the_overlay_is_beside_the_pin(root: Path) -> None:
    found = {each.key: each for each in locking.rows(root)}
    overlaid = {each.key: each for each in versions.load(root, "packages").overlaid}
    assert found["kubernetes"].packages["version"] == overlaid["kubernetes.version"].used
    assert found["kubernetes"].packages_why == overlaid["kubernetes.version"].why
    assert found["images.net-istio-webhook"].packages == {"image": "nothing"}
    assert found["charts.kserve"].packages == {}


def test_the_list_as_text_and_as_values(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    locking.show(root, as_json=False)
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["NAME", "VERSION", "WITH", "PACKAGES", "LOCKED"]
    assert "  tools.helm: not in the lock\n" in out
    assert f"\nwith --source packages:\n{locking.packages(root).text()}\n" in out
    assert out.endswith("invoke versions.lock   locks what is in reach\n")

    make(root, monkeypatch, Reached())
    capsys.readouterr()
    locking.show(root, as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{len(locking.rows(root))} of {len(locking.rows(root))} are locked"
    )
    locking.show(root, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert {each["state"] for each in rows} == {"locked"}
    outside = {each["key"]: each["packages_outside"] for each in rows if each["packages_outside"]}
    assert set(outside) == {each.key for each in versions.load(root, "packages").outside}
    helm = next(each for each in rows if each["key"] == "tools.helm")
    assert helm["value"] == dict.fromkeys(lockfile.PLATFORMS, A)


def test_the_lock_of_this_project_is_of_what_is_pinned() -> None:
    """Otherwise: `invoke versions.lock`. What is built from packages is locked whole."""
    lock = lockfile.load(ROOT)
    lockfile.check(lock, lockwants.everything(ROOT))
    assert not [key for key in lock.unlocked() if key.startswith(("modules.", "wheels."))]

"""Runs the comparison: `up` and the baseline, each on a fresh cluster of the benchmark's own, then `up` again."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.figures import Figures
from tasks.lib import shell
from tasks.lib.errors import NotAvailable

CLUSTER = "inference-in-a-box-bench"
HTTP_PORT, HTTPS_PORT = 28080, 28443

COLD_S = 2 * 60 * 60.0
"""Seconds for a command that may have to build everything."""

WARM_S = 30 * 60.0


class Bench:
    """The commands, for a cluster that nothing else uses. `given` are settings that the user named (source, mirror)."""

    def __init__(self, root: Path, given: Mapping[str, str]) -> None:
        self._root = root
        settings = {
            "PROVIDER": "kind", "CLUSTER": CLUSTER, "HTTP_PORT": str(HTTP_PORT), "HTTPS_PORT": str(HTTPS_PORT),
            **{name.upper(): value for name, value in given.items() if value},
        }  # fmt: skip
        self.environment = {f"INVOKE_BOX_{name}": value for name, value in settings.items()}

    def compare(self, *, warm: bool) -> Figures:
        """Measure everything, and delete the cluster in the end. With `warm`, images are known to be here already."""
        try:
            self.down()
            if not warm:
                tell("warming up: up and down once, not counted")
                self.up(COLD_S)
                self.down()
            serial = self.serial()
            self.down()
            first, outcome = self.up()
            again, _ = self.up()
        finally:
            self.down()
        return figures(first, again, outcome, serial)

    def up(self, timeout_s: float = WARM_S) -> tuple[float, dict[str, Any]]:
        """Run `up`; return the seconds, and what the run left about itself."""
        begun = time.time()
        seconds = self._run(["./scripts/invoke", "up"], timeout_s)[0]
        return seconds, newest(self._root, begun)

    def down(self) -> None:
        """Delete the cluster. What was fetched or built stays."""
        self._run(["./scripts/invoke", "down"], WARM_S)

    def serial(self) -> dict[str, Any]:
        """Run the baseline; return its seconds, whole and by component."""
        out = self._run([sys.executable, "-m", "bench.serial"], COLD_S)[1]
        return dict(json.loads(out.splitlines()[-1]))

    def _run(self, argv: list[str], timeout_s: float) -> tuple[float, str]:
        tell(f"== {' '.join(argv[-2:])}")
        begun = time.monotonic()
        found = shell.run(argv, cwd=self._root, env=self.environment, timeout_s=timeout_s, on_line=tell)
        return time.monotonic() - begun, found.stdout


def newest(root: Path, since: float) -> dict[str, Any]:
    """Return the outcome of the benchmark's run that ended last. Raises NotAvailable when there is none since then."""
    fresh = [each for each in (root / ".box/runs").glob("*/outcome.json") if each.stat().st_mtime >= since]
    for path in sorted(fresh, key=lambda each: each.stat().st_mtime, reverse=True):
        outcome = json.loads(path.read_text())
        if outcome.get("cluster") == CLUSTER:
            return dict(outcome)
    raise NotAvailable("the run left no outcome.json", facts={"looked in": root / ".box/runs"})


def figures(first_s: float, again_s: float, outcome: Mapping[str, Any], serial: Mapping[str, Any]) -> Figures:
    """Put the figures together."""
    return Figures(
        up_s=first_s,
        serial_s=serial["seconds"],
        again_s=again_s,
        critical_s=outcome["critical"]["seconds"],
        critical=tuple(outcome["critical"]["components"]),
        peak_mib=outcome["peak_mib"],
        up_components={name: each["elapsed_s"] for name, each in outcome["outcomes"].items() if each["elapsed_s"]},
        serial_components=serial["components"],
    )


def tell(line: str) -> None:
    """Pass on a line of a command, or say what is run."""
    sys.stderr.write(f"{line}\n")

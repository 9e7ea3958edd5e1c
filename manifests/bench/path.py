"""Runs beside fortio in the pod of `invoke bench.path`, with nothing but Python's own library.

Its one argument is a file with an order as JSON. It has fortio, which listens on the pod's loopback alone, send each
load over each way in turn, round after round, and prints one line of JSON for each: what fortio measured. So the
tokens are in a Secret and in requests that never leave the pod, and on no command line.

`most_per_minute` bounds the requests over the ways that are `limited`, in any minute, whichever minutes the limiter
counts by. The last line says {"end": true}, or {"failed": WHY}.
"""

import collections
import json
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

MINUTE_S = 60.0
RETRY_S = 0.5
OK, REFUSALS = "200", {"401", "403"}


class Pace:
    """What went over the limited ways within the last minute."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sent: collections.deque[tuple[float, int]] = collections.deque()

    def wait_s(self, count: int, now: float) -> float:
        """Return the seconds after which so many more may go. One load alone may go whatever its size."""
        while self._sent and self._sent[0][0] <= now - MINUTE_S:
            self._sent.popleft()
        left, free_at = sum(each for _, each in self._sent), now
        for ended, each in self._sent:
            if left + count <= self._most:
                break
            left, free_at = left - each, ended + MINUTE_S
        return max(0.0, free_at - now)

    def note(self, count: int, now: float) -> None:
        """Count what was sent until now."""
        self._sent.append((now, count))


def post(url: str, options: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Have fortio make one run, and return what it says."""
    request = urllib.request.Request(  # noqa: S310 (the order names fortio's own address)
        url, data=json.dumps(options).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310 (as above)
        return dict(json.load(reply))


def wait_for(url: str, within_s: float) -> None:
    """Wait until fortio answers."""
    until = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=RETRY_S):  # noqa: S310 (as above)
                return
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(RETRY_S)


def options(way: dict[str, Any], load: dict[str, Any]) -> dict[str, Any]:
    """Return a run in fortio's words: all values are texts."""
    return {
        "url": way["url"], "headers": way["headers"], "payload": way["payload"],
        "qps": str(load["rate"] or -1), "n": str(load["requests"]), "c": str(load["connections"]),
        "uniform": "on", "p": "50,95,99", "r": "0.0001", "timeout": "30s",
    }  # fmt: skip


def told(found: dict[str, Any]) -> dict[str, Any]:
    """Return of fortio's result what is reported."""
    times = found["DurationHistogram"]
    at = {each["Percentile"]: each["Value"] * 1000 for each in times.get("Percentiles") or []}
    return {
        "requests": times["Count"], "codes": found["RetCodes"], "per_s": found["ActualQPS"],
        "mean_ms": times["Avg"] * 1000, "p50_ms": at.get(50), "p95_ms": at.get(95), "p99_ms": at.get(99),
    }  # fmt: skip


def turned(names: list[str], by: int) -> list[str]:
    """Return the ways in another order each round, so that none always follows the same one."""
    by %= len(names)
    return names[by:] + names[:by]


def answers(order: dict[str, Any], way: dict[str, Any], headers: list[str]) -> list[str]:
    """Return the statuses of one request."""
    once = {"rate": 0, "requests": 1, "connections": 1}
    found = post(order["fortio"], options({**way, "headers": headers}, once), order["run_s"])
    return sorted(found["RetCodes"])


def unproven(order: dict[str, Any], way: dict[str, Any]) -> str:
    """Return what is not so yet: a way answers, and not without the token where it is to be guarded by one."""
    found = answers(order, way, way["headers"])
    if found != [OK]:
        return f"answers {', '.join(found)}"
    bare = [each for each in way["headers"] if not each.startswith("Authorization:")]
    if way["guarded"] and not set(found := answers(order, way, bare)) <= REFUSALS:
        return f"answers {', '.join(found)} without a token"
    return ""


def prove(order: dict[str, Any]) -> None:
    """Wait until each way is what it is measured as. Raises ValueError when one is not."""
    until = time.monotonic() + order["ready_s"]
    for name, way in order["ways"].items():
        while why := unproven(order, way):
            if time.monotonic() > until:
                raise ValueError(f"{name}: {why}")
            time.sleep(RETRY_S)


def measure(order: dict[str, Any]) -> None:
    """Go round after round."""
    pace = Pace(order["most_per_minute"])
    ways, loads = order["ways"], order["loads"]
    for number in range(order["rounds"]):
        for name in turned(list(ways), number):
            for kind, load in loads.items():
                # fortio opens each connection with a request of its own.
                count = load["requests"] + load["connections"]
                if ways[name]["limited"]:
                    time.sleep(pace.wait_s(count, time.monotonic()))
                found = post(order["fortio"], options(ways[name], load), order["run_s"])
                if ways[name]["limited"]:
                    pace.note(count, time.monotonic())
                print(json.dumps({"round": number + 1, "load": kind, "way": name, **told(found)}), flush=True)


def main(path: str) -> None:
    """Do what the order says. The first process of a container ignores SIGTERM unless it handles it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    order = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        wait_for(order["status"], order["run_s"])
        prove(order)
        measure(order)
    except urllib.error.HTTPError as error:
        print(json.dumps({"failed": f"fortio: HTTP {error.code} {error.read(500).decode(errors='replace')}"}))
    except (OSError, KeyError, ValueError) as error:
        print(json.dumps({"failed": f"{type(error).__name__}: {error}"}))
    else:
        print(json.dumps({"end": True}))


if __name__ == "__main__":
    main(sys.argv[1])

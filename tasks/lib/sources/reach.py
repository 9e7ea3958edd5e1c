"""Can these addresses be reached? Asked of all of them at once, answered within seconds."""

import queue
import re
import threading
import time
from collections.abc import Mapping

EACH_S = 3.0
ALL_S = 6.0

_REFUSED = (403, 407)


def probe(addresses: Mapping[str, str]) -> dict[str, str]:
    """Ask every address (name → URL). Return the names that cannot be used, with the reason.

    An answer is an answer: a registry that wants a login, or a page that is elsewhere, is reached. A proxy's refusal
    (403, 407) and a server's own error are not.
    """
    answers: queue.Queue[tuple[str, str]] = queue.Queue()
    for name, url in addresses.items():
        # Daemons: name resolution cannot be bounded, and must not hold up the end of the program.
        threading.Thread(target=lambda n=name, u=url: answers.put((n, _ask(u))), daemon=True).start()
    return _collect(answers, list(addresses))


def _collect(answers: "queue.Queue[tuple[str, str]]", wanted: list[str]) -> dict[str, str]:
    deadline = time.monotonic() + ALL_S
    failed = dict.fromkeys(wanted, f"no answer within {ALL_S:g} s")
    for _ in wanted:
        try:
            name, reason = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if reason:
            failed[name] = reason
        else:
            del failed[name]
    return failed


def _ask(url: str) -> str:
    import requests

    try:
        reply = requests.head(url, timeout=EACH_S, allow_redirects=False)
    except requests.exceptions.SSLError as error:
        return f"the certificate is not trusted ({innermost(error)})"
    except requests.exceptions.ProxyError as error:
        return f"the proxy refuses ({innermost(error)})"
    except requests.exceptions.Timeout:
        return f"no answer within {EACH_S:g} s"
    except requests.exceptions.RequestException as error:
        return f"no connection ({innermost(error)})"
    refused = reply.status_code in _REFUSED or reply.status_code >= 500  # noqa: PLR2004 (HTTP's own boundary)
    return f"HTTP {reply.status_code}" if refused else ""


def innermost(error: BaseException) -> str:
    """Return the system's own words: the library's wrapping says little."""
    text = str(error)
    found = re.findall(r"\[Errno -?\d+\] ([^()'\"]+)", text)
    return found[-1].strip() if found else text.rpartition(": ")[2].strip("'\") ")[:120]

"""HTTP to one API server: connections, credentials, time limits, and every failure to get an answer as ClusterGone."""

import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.lib.errors import ClusterGone
from tasks.lib.kube import kubeconfig as kubeconfigs

CONNECT_S = 5.0
READ_S = 30.0

_UNAUTHORIZED = 401


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class NoAnswer(ClusterGone):
    """No answer came. `sent`: the request may have been carried out. `passing`: it can be different in a moment."""

    def __init__(self, what: str, *, facts: Mapping[str, object], hint: str, sent: bool, passing: bool) -> None:
        super().__init__(what, facts=facts, hint=hint)
        self.sent, self.passing = sent, passing


class Connection:
    """One context of a kubeconfig. Shared by all threads.

    Raises BadInput at once when the kubeconfig is not there, is malformed or has no such context.
    """

    def __init__(self, kubeconfig: Path, context: str | None) -> None:
        self._path = kubeconfig
        self.context = kubeconfigs.context_name(kubeconfig, context)
        self._lock = threading.Lock()
        self._age = 0
        self._open()

    def _open(self) -> None:
        from kubernetes.client.rest import RESTClientObject

        self._configuration = kubeconfigs.load(self._path, self.context)
        self.server: str = self._configuration.host
        self._pool = RESTClientObject(self._configuration).pool_manager

    def send(
        self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> Reply:
        """Send one request and return the answer, whatever its status. No redirects, no retries.

        Credentials that are refused are loaded anew once (an exec plugin may have fresh ones).
        """
        age = self._age
        reply = self._send(method, path, body, headers, timeout_s)
        if reply.status != _UNAUTHORIZED or b'"Status"' not in reply.data:
            return reply
        with self._lock:
            if self._age == age:
                self._open()
                self._age += 1
        return self._send(method, path, body, headers, timeout_s)

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float) -> Reply:
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        wait = Timeout(connect=min(CONNECT_S, timeout_s), read=timeout_s)
        try:
            answer = self._pool.request(
                method, self.server + path, body=body, headers={**headers, **self._credentials()}, timeout=wait,
                retries=False, redirect=False,
            )  # fmt: skip
        except (HTTPError, ssl.SSLError, OSError) as error:
            raise self._no_answer(error, timeout_s) from error
        return Reply(status=answer.status, headers=answer.headers, data=answer.data)

    def stream(self, path: str, *, timeout_s: float) -> Iterator[bytes]:
        """Yield what an answer goes on to say, until its end or until it is silent for that long.

        Raises NoAnswer when none comes, nothing for one that is a refusal: there is nothing to read in it.
        """
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        wait = Timeout(connect=CONNECT_S, read=timeout_s)
        try:
            answer = self._pool.request(
                "GET", self.server + path, headers=self._credentials(), timeout=wait, retries=False, redirect=False,
                preload_content=False,
            )  # fmt: skip
            try:
                if answer.status < 300:  # noqa: PLR2004
                    yield from answer.stream(65536)
            finally:
                answer.close()
        except ReadTimeoutError:
            return
        except (HTTPError, ssl.SSLError, OSError) as error:
            raise self._no_answer(error, timeout_s) from error

    def _credentials(self) -> dict[str, str]:
        """Return the headers that say who we are; a token that has expired is replaced first."""
        if not self._configuration.api_key:  # a client certificate, or nobody
            return {}
        with kubeconfigs.complaints() as said:
            settings: dict[str, Any] = self._configuration.auth_settings()
        if said:
            raise self.refused("\n".join(said))
        return {each["key"]: each["value"] for each in settings.values() if each["in"] == "header" and each["value"]}

    @property
    def facts(self) -> dict[str, object]:
        """What names this cluster in an error."""
        return {"server": self.server, "context": self.context, "kubeconfig": self._path}

    def refused(self, cause: str) -> ClusterGone:
        """Return the error for credentials that the API server does not take."""
        return ClusterGone(
            f"{self.server} does not accept our credentials",
            facts={**self.facts, "cause": cause},
            hint=kubeconfigs.login_hint(self._path, self.context),
        )

    def _no_answer(self, error: Exception, timeout_s: float) -> NoAnswer:
        cause, sent, passing = _judge(error, timeout_s)
        look = f"kubectl --kubeconfig {self._path} --context {self.context} get nodes"
        return NoAnswer(
            f"{self.server} does not answer",
            facts={**self.facts, "cause": cause},
            hint=f"invoke cluster   if it is ours and gone; otherwise   {look}",
            sent=sent,
            passing=passing,
        )


def _judge(error: Exception, timeout_s: float) -> tuple[str, bool, bool]:  # noqa: PLR0911 (a table)
    """Return the cause in words, whether the request may have been carried out, and whether it may pass."""
    from urllib3 import exceptions as http

    text = str(error).rpartition("object at 0x")[2].partition(">: ")[2] or str(error)
    if isinstance(error, http.NameResolutionError):
        return f"no such host: {text}", False, False
    if isinstance(error, http.NewConnectionError):
        return text.removeprefix("Failed to establish a new connection: "), False, True
    if isinstance(error, http.ConnectTimeoutError):
        return f"no connection within {min(CONNECT_S, timeout_s):g} s", False, False
    if isinstance(error, http.ReadTimeoutError):
        return f"no answer within {timeout_s:g} s", True, False
    if isinstance(error, http.SSLError | ssl.SSLError):
        return f"TLS: {error}", False, False
    if isinstance(error, http.ProxyError):
        return f"the proxy: {error}", False, False
    return text, True, isinstance(error, http.ProtocolError | ConnectionError)

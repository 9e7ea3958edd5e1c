"""Reads one context of a kubeconfig, with the `kubernetes` package (certificates, tokens, exec plugins, OIDC).

What is wrong with the file is BadInput with the place; a plugin that gives no credentials is ClusterGone.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from tasks.lib.errors import BadInput, ClusterGone

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_POOL = 64
"""Connections kept open: the components that run side by side, times the threads of each."""

_loading = threading.Lock()


def load(path: Path, context: str | None) -> Any:  # noqa: ANN401 (a kubernetes.client.Configuration, imported lazily)
    """Return the configuration of a context (None: the current one), with its credentials."""
    document = _document(path)
    name = _context(document, path, context)
    import kubernetes.config
    from kubernetes.client import Configuration

    configuration, read = Configuration(), cast("Any", kubernetes.config.load_kube_config)
    configuration.connection_pool_maxsize = _POOL
    with complaints() as said:
        try:
            read(config_file=str(path), context=name, client_configuration=configuration, persist_config=False)
        except (kubernetes.config.ConfigException, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            raise BadInput(f"kubeconfig {path}: context {name}: {_words(error)}") from error
    if said:
        facts = {"server": configuration.host, "context": name, "kubeconfig": path, "cause": "\n".join(said)}
        raise ClusterGone(f"no credentials for {configuration.host}", facts=facts, hint=login_hint(path, name))
    if urlsplit(configuration.host).hostname in _LOOPBACK:
        configuration.proxy = None  # as kubectl does; a proxy on the way to a cluster on this machine is never meant
    return configuration


def context_name(path: Path, context: str | None) -> str:
    """Return the name of the context that will be used, or raise BadInput."""
    return _context(_document(path), path, context)


def login_hint(path: Path, context: str) -> str:
    """What to type to see whether the credentials work."""
    return f"kubectl --kubeconfig {path} --context {context} auth whoami   and log in again if it is refused"


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """Collect what the `kubernetes` package logs instead of raising it (a failed exec plugin)."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.module == "kube_config":
                said.append(record.getMessage())

    listener = Listener(level=logging.ERROR)
    with _loading:
        logging.getLogger().addHandler(listener)
        try:
            yield said
        finally:
            logging.getLogger().removeHandler(listener)


def _document(path: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise BadInput(
            f"kubeconfig {path}: no such file", hint="invoke cluster   makes one; or set KUBECONFIG"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"kubeconfig {path}: cannot be read: {_words(error)}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise BadInput(f"kubeconfig {path}{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(document, dict):
        raise BadInput(f"kubeconfig {path}: empty, or not a kubeconfig", hint="invoke cluster   writes it anew")
    return document


def _context(document: dict[str, Any], path: Path, context: str | None) -> str:
    contexts = _named(document, "contexts", path)
    known = {"known": ", ".join(contexts) or "none"}
    name = context or document.get("current-context")
    if not name:
        raise BadInput(f"kubeconfig {path}: no current context", facts=known, hint="name one with --context")
    if name not in contexts:
        raise BadInput(f"kubeconfig {path}: no context {name!r}", facts=known)
    cluster = (contexts[name].get("context") or {}).get("cluster")
    entry = _named(document, "clusters", path).get(str(cluster))
    if entry is None:
        raise BadInput(f"kubeconfig {path}: context {name!r} names the cluster {cluster!r}, which is not in it")
    server = urlsplit(str((entry.get("cluster") or {}).get("server") or ""))
    if server.scheme not in {"http", "https"} or not server.hostname:
        raise BadInput(f"kubeconfig {path}: cluster {cluster!r} has no server that is an http(s) URL")
    return str(name)


def _named(document: dict[str, Any], section: str, path: Path) -> dict[str, dict[str, Any]]:
    entries = document.get(section) or []
    if not isinstance(entries, list) or not all(isinstance(each, dict) and "name" in each for each in entries):
        raise BadInput(f"kubeconfig {path}: {section} is not a list of named entries")
    return {each["name"]: each for each in entries}


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"

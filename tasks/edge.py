"""The edge between commands and the library: options in, errors out.

Everything below imports the library inside its functions, so that `invoke --list` stays quick.
"""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from invoke import Context, Exit

if TYPE_CHECKING:
    from tasks.lib.session import Session

F = TypeVar("F", bound=Callable[..., Any])

BOX = Path(__file__).resolve().parents[1] / ".box"

HELP = {
    "source": "Where charts and images come from: upstream, mirror, packages. Default: auto, the first that works.",
    "provider": "Where the cluster comes from: kind (made here), existing. Default: kind, unless a context is named.",
    "context": "Use the cluster of this kubeconfig context (provider existing).",
    "mirror": "HOST:PORT of a registry that has everything (source mirror).",
    "jobs": "How many components may be at work at the same time. Default: 6.",
    "force": "Apply again what is needed, even where it is ready.",
    "wait": "--no-wait: leave at once when another run is at work, instead of waiting.",
    "install": "--no-install: never install or start a container engine.",
    "fail-fast": "Start nothing more after a failure.",
    "json": "Print the result as JSON on standard output.",
}


def about(*names: str, **more: str) -> dict[str, str]:
    """Return the help texts of these options, and those given."""
    return {**{name: HELP[name] for name in names}, **more}


def edge(body: F) -> F:
    """Turn every failure into a message and an exit status: never a bare traceback."""

    @functools.wraps(body)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return _answer(body, *args, **kwargs)
        except KeyboardInterrupt:
            raise Exit("interrupted; the same command again goes on from here", code=130) from None

    return wrapped  # type: ignore[return-value]


def _answer(body: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    from tasks.lib import crash
    from tasks.lib.errors import BoxError

    try:
        found = body(*args, **kwargs)
        sys.stdout.flush()
    except Exit:
        raise
    except BoxError as error:
        raise Exit(f"error: {error}", code=error.code) from error
    except BrokenPipeError:
        raise Exit(code=141) from None
    except Exception as error:
        told = crash.unexpected(error, BOX)
        raise Exit(f"error: {told}", code=told.code) from error
    finally:
        _let_go()
    return found


def _let_go() -> None:
    """Hand on what was printed, and drop it when nobody reads it (`| head -1`): Python's own end would complain."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def needed(option: str, value: str) -> str:
    """Return the value of an option that has to be given. Raises BadInput when it was not.

    Such options have a default all the same: Invoke would take the `--help` after `tenant.add` for the name.
    """
    from tasks.lib.errors import BadInput

    if not value:
        raise BadInput(f"{option} is missing", hint="--help after a command lists its options")
    return value


def session(c: Context, **options: Any) -> "Session":
    """Open a session from Invoke's configuration and the options of the command line."""
    from tasks.lib.session import open_session

    return open_session(c.config.get("box", {}), **{key: value for key, value in options.items() if value != ""})

"""The edge between commands and the library: options in, errors out.

Everything below imports the library inside its functions, so that `invoke --list` stays quick.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from invoke import Context, Exit

if TYPE_CHECKING:
    from tasks.lib.session import Session

F = TypeVar("F", bound=Callable[..., Any])

HELP = {
    "source": "Where things come from: auto, upstream, mirror or packages.",
    "provider": "Where the cluster comes from: auto, kind or existing.",
    "context": "The kubeconfig context of provider existing.",
    "mirror": "HOST:PORT of a registry that has everything (source mirror).",
    "jobs": "How many components may be at work at the same time.",
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
        from tasks.lib.errors import BoxError

        try:
            return body(*args, **kwargs)
        except Exit:
            raise
        except BoxError as error:
            raise Exit(f"error: {error}", code=error.code) from error
        except KeyboardInterrupt:
            raise Exit("interrupted; the same command again goes on from here", code=130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(code=141) from None

    return wrapped  # type: ignore[return-value]


def session(c: Context, **options: Any) -> "Session":
    """Open a session from Invoke's configuration and the options of the command line."""
    from tasks.lib.session import open_session

    return open_session(c.config.get("box", {}), **{key: value for key, value in options.items() if value != ""})

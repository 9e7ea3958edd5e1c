"""What the command line offers, read once: Invoke hands out the help of an option only the first time."""

import functools
from collections.abc import Mapping
from typing import Any

import tasks


@functools.cache
def arguments() -> Mapping[str, list[Any]]:
    """Return every command with its arguments (invoke.parser.Argument)."""
    return {name: tasks.ns[name].get_arguments() for name in tasks.ns.task_names}

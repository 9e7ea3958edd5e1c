"""A failure that nobody foresaw: the traceback goes to a file, and an error says where."""

import shlex
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

from tasks.lib.errors import Unexpected

FILE = "crash.log"

_LONGEST = 300


def unexpected(error: Exception, folder: Path) -> Unexpected:
    """Write down where an error came from, and return the one to tell. Where nothing can be written, it has it all."""
    path, trace = folder / FILE, "".join(traceback.format_exception(error))
    facts: dict[str, object] = {"traceback": path}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        head = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}  {shlex.join(sys.argv)}"
        path.write_text(f"{head}\n\n{trace}", encoding="utf-8", errors="backslashreplace")
    except OSError as problem:
        facts = {"traceback": trace, "not kept": f"{path}: {problem.strerror}"}
    said = " ".join(str(error).split())[:_LONGEST]
    return Unexpected(f"unexpected {type(error).__name__}: {said} (this is a fault of the pipeline)", facts=facts)

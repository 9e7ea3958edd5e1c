"""Every failure a user can meet, as one tree.

BoxError
├── BadInput          what was typed or configured is wrong; nothing was touched
├── NotAvailable      something the machine must offer is missing (engine, memory, port, route)
├── FetchFailed       bytes could not be had, or were not the locked ones
├── CommandFailed     a program we ran ended with an error
├── ClusterGone       the API server does not answer, or the cluster is not there
├── Refused           the API server or a webhook said no to an object
├── NotOurs           an object that we would apply is there already, and somebody else's
├── NotReady          something applied did not become ready in time
├── Busy              another run holds the lock
├── Interrupted       a signal ended the run (in schedule.py: it carries the outcomes)
├── NotInThisVersion  a stage that has its place in the graph but is not built yet
└── Unexpected        a fault of the pipeline itself; the traceback is in a file

Raise near the cause, with facts; only the task edge (`tasks.edge`) catches and prints.
"""

from collections.abc import Mapping


class BoxError(Exception):
    """A failure with what a user needs: what failed, facts about it, and what to type next.

    `what` names the failure and the object in one line. `facts` are printed below it, one per line, in order (usual
    keys: object, status, cause, tried, skipped, log). `hint` is a command or an action. Exit status is `code`.
    """

    code = 1

    def __init__(self, what: str, *, facts: Mapping[str, object] | None = None, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.facts = dict(facts or {})
        self.hint = hint

    def __str__(self) -> str:
        width = max((len(key) for key in self.facts), default=0)
        lines = [self.what]
        for key, value in self.facts.items():
            head, *rest = str(value).splitlines() or [""]
            lines.append(f"  {key:<{width}}  {head}".rstrip())
            lines.extend(f"  {'':<{width}}  {line}".rstrip() for line in rest)
        if self.hint:
            lines += ["", f"  try: {self.hint}"]
        return "\n".join(lines)


class BadInput(BoxError):
    """What was typed or configured is wrong; nothing was touched."""

    code = 2


class NotAvailable(BoxError):
    """Something the machine must offer is missing."""

    code = 3


class FetchFailed(BoxError):
    """Bytes could not be had, or were not the ones the lock names."""

    code = 4


class CommandFailed(BoxError):
    """A program we ran ended with an error. `output` holds its last lines, secrets removed."""

    def __init__(
        self, what: str, *, returncode: int, output: str, facts: Mapping[str, object] | None = None, hint: str = ""
    ) -> None:
        super().__init__(what, facts=facts, hint=hint)
        self.returncode = returncode
        self.output = output


class ClusterGone(BoxError):
    """The API server does not answer, or the cluster is not there."""


class Refused(BoxError):
    """The API server, or an admission webhook, refused an object. `status` is the HTTP status."""

    def __init__(self, what: str, *, status: int, facts: Mapping[str, object] | None = None, hint: str = "") -> None:
        super().__init__(what, facts=facts, hint=hint)
        self.status = status


class NotOurs(BoxError):
    """An object that we would apply is there already, and was made by somebody else."""


class NotReady(BoxError):
    """Something that was applied did not become ready in time."""


class Busy(BoxError):
    """Another run holds the lock of this cluster."""

    code = 5


class NotInThisVersion(BoxError):
    """A stage that has its place in the graph but is not built yet."""

    code = 6


class Unexpected(BoxError):
    """A fault of the pipeline itself (EX_SOFTWARE of sysexits.h). The traceback is in a file."""

    code = 70

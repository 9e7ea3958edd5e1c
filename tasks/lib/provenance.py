"""What a report is worth: where things came from, which versions differ from the pins, and what stands in for what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.lib.box import Box
from tasks.lib.versions import Overlaid


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Part of every report. `standins` holds what is stood for, and what stays untested because of it."""

    source: str
    overlaid: tuple[Overlaid, ...] = ()
    standins: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return it as lines for people."""
        lines = [f"source: {self.source}"]
        if self.overlaid:
            lines.append("versions that differ from the pins:")
            lines += [f"  {each.key}: {each.used} instead of {each.pin}: {each.why}" for each in self.overlaid]
        if self.standins:
            lines.append("stand-ins, and what they leave untested:")
            lines += [f"  {what}: {untested}" for what, untested in self.standins.items()]
        return "\n".join(lines) + "\n"

    def facts(self) -> dict[str, Any]:
        """Return it as data."""
        return {
            "source": self.source,
            "overlaid": [{key: str(value) for key, value in vars(each).items()} for each in self.overlaid],
            "standins": dict(self.standins),
        }


def of(box: Box) -> Provenance:
    """Return where the things of this run come from."""
    return Provenance(
        source=box.source.describe(), overlaid=tuple(box.versions.overlaid), standins=dict(box.source.standins())
    )

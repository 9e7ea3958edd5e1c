"""What a report is worth: where things came from, which versions differ from the pins, and what stands in for what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.lib.box import Box
from tasks.lib.versions import Outside, Overlaid


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Part of every report. `standins` holds what is stood for, and what stays untested because of it.

    `outside` are the versions that a vendor does not support together, because of those that differ.
    """

    source: str
    name: str = ""
    overlaid: tuple[Overlaid, ...] = ()
    outside: tuple[Outside, ...] = ()
    standins: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return it as lines for people."""
        lines = [f"source: {self.source}"]
        if self.overlaid:
            lines.append("versions that differ from the pins:")
            lines += [f"  {each.key}: {each.used} instead of {each.pin}: {each.why}" for each in self.overlaid]
        if self.outside:
            lines.append("because of that outside what vendors support:")
            lines += [f"  {each.says}" for each in self.outside]
        if self.standins:
            lines.append("stand-ins, and what they leave untested:")
            lines += [f"  {what}: {untested}" for what, untested in self.standins.items()]
        return "\n".join(lines) + "\n"

    def line(self) -> str:
        """Return it in one line; empty when nothing differs from what the vendors publish and the pins say."""
        pins = len({each.entry for each in self.overlaid})
        parts = [f"{_count(pins, 'version')} differ{'s' if pins == 1 else ''} from the pins"] if pins else []
        if self.outside:
            parts[-1] += f" ({_count(len(self.outside), 'time')} outside what vendors support)"
        if self.standins:
            parts.append(_count(len(self.standins), "stand-in"))
        return f"source {self.name}: {', '.join(parts)}; invoke versions.list   shows them" if parts else ""

    def facts(self) -> dict[str, Any]:
        """Return it as data."""
        return {
            "source": self.source,
            "overlaid": [_texts(each) for each in self.overlaid],
            "outside": [_texts(each) for each in self.outside],
            "standins": dict(self.standins),
        }


def of(box: Box) -> Provenance:
    """Return where the things of this run come from."""
    return Provenance(
        source=box.source.describe(), name=box.source.name, overlaid=tuple(box.versions.overlaid),
        outside=box.versions.outside, standins=dict(box.source.standins()),
    )  # fmt: skip


def _texts(record: Overlaid | Outside) -> dict[str, str]:
    return {key: str(value) for key, value in vars(record).items()}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

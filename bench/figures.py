"""What was measured, the ratios, and how far they are from the aims. Pure; nothing here fails a run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks.lib.report import duration


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One comparison. `critical` is the longest chain of components in the first `up`."""

    up_s: float
    serial_s: float
    again_s: float
    critical_s: float
    critical: tuple[str, ...]
    peak_mib: float
    up_components: Mapping[str, float] = field(default_factory=dict)
    serial_components: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Aim:
    """A figure and what it should be at most. `found` is None when it was not measured."""

    name: str
    found: float | None
    most: float

    @property
    def met(self) -> bool:
        """Whether it is as it should be."""
        return self.found is not None and self.found <= self.most


def aims(figures: Figures) -> list[Aim]:
    """Return every figure that has an aim."""
    return [
        Aim(name="up / one after another", found=_ratio(figures.up_s, figures.serial_s), most=0.6),
        Aim(name="up / critical path", found=_ratio(figures.up_s, figures.critical_s), most=1.2),
        Aim(name="second up / first", found=_ratio(figures.again_s, figures.up_s), most=0.1),
        Aim(name="peak memory in MiB", found=figures.peak_mib or None, most=150),
    ]


def text(figures: Figures) -> str:
    """Return the figures for people."""
    lines = [
        f"  up, on a fresh cluster  {duration(figures.up_s):>8}",
        f"  one after another       {duration(figures.serial_s):>8}",
        f"  up again                {duration(figures.again_s):>8}",
        f"  critical path of up     {duration(figures.critical_s):>8}  {' > '.join(figures.critical)}",
        f"  peak memory of up       {figures.peak_mib:>4.0f} MiB",
        "",
        f"  {'':<24}{'found':>8}{'aim':>10}",
    ]
    for each in aims(figures):
        found = "-" if each.found is None else f"{each.found:.2f}" if each.most < 10 else f"{each.found:.0f}"  # noqa: PLR2004
        lines.append(f"  {each.name:<24}{found:>8}{f'<= {each.most:g}':>10}  {'yes' if each.met else 'no'}")
    return "\n".join(lines) + "\n"


def values(figures: Figures) -> dict[str, Any]:
    """Return the figures as JSON has them."""
    return {**asdict(figures), "aims": [{**asdict(each), "met": each.met} for each in aims(figures)]}


def _ratio(one: float, other: float) -> float | None:
    return round(one / other, 4) if other > 0 else None

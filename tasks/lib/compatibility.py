"""Which versions the vendors support together: ranges as data, and the check of a set of pins against them."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tasks.lib.errors import BadInput

SAME_MINOR = "same minor"

_NUMBER = re.compile(r"\d+(?:\.\d+)*")
_BOUND = re.compile(r"(>=|<=|==|<|>)\s*(\d+(?:\.\d+)*)")
_PARTS = 3

Triple = tuple[int, int, int]

_HOLDS: Mapping[str, Callable[[Triple, Triple], bool]] = {
    ">=": lambda version, bound: version >= bound,
    "<=": lambda version, bound: version <= bound,
    "==": lambda version, bound: version == bound,
    ">": lambda version, bound: version > bound,
    "<": lambda version, bound: version < bound,
}


def triple(version: str) -> Triple:
    """Return major, minor and patch of a version: "v1.2.3", "1.2.3-alpha.1", "static-v1.2.3", "1.2".

    What follows the three numbers does not count. Raises BadInput when there is no number.
    """
    found = _NUMBER.search(version)
    if not found:
        raise BadInput(f"{version!r} has no version number")
    numbers = [int(part) for part in found[0].split(".")][:_PARTS]
    major, minor, patch = numbers + [0] * (_PARTS - len(numbers))
    return major, minor, patch


@dataclass(frozen=True)
class Range:
    """A range such as ">=1.30,<1.33", or "same minor" (as the product that has the range)."""

    text: str

    def __post_init__(self) -> None:
        """Refuse what cannot be read, so that a typing error never widens a range."""
        if self.text != SAME_MINOR and not all(_BOUND.fullmatch(part.strip()) for part in self.text.split(",")):
            hint = f'bounds with commas between, such as ">=1.30,<1.33"; or {SAME_MINOR}'
            raise BadInput(f"{self.text!r} is not a range", hint=hint)

    def allows(self, version: str, *, of: str = "") -> bool:
        """Whether the version is in the range. `of` is the version of the product whose range it is."""
        if self.text == SAME_MINOR:
            return triple(version)[:2] == triple(of)[:2]
        return all(_HOLDS[operator](triple(version), bound) for operator, bound in self.bounds())

    def bounds(self) -> list[tuple[str, Triple]]:
        """Return the bounds; none for "same minor"."""
        return [(operator, triple(number)) for operator, number in _BOUND.findall(self.text)]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Product:
    """Pins that are one product and have one version, and the products it needs, in a range each."""

    name: str
    pins: tuple[str, ...]
    needs: Mapping[str, Range] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outside:
    """A pin outside what a vendor states. `key` is the pin, `allowed` the range, `by` who states it."""

    key: str
    version: str
    allowed: str
    by: str
    why: str = ""

    @property
    def says(self) -> str:
        """What it comes to, without the reason: that stands with the overlaid pin."""
        return f"{self.key} {self.version} is outside {self.allowed} ({self.by})"

    def __str__(self) -> str:
        return f"{self.says}: {self.why}" if self.why else self.says


def check(
    products: Mapping[str, Product], pins: Mapping[str, str], *, stated: Mapping[str, str], why: Mapping[str, str]
) -> list[Outside]:
    """Return everything outside its range. `pins` is key → version as used, `stated` as the ranges were written for.

    `why` is key → an overlay's reason; it is attached when either of the two pins comes from an overlay.
    """
    found: list[Outside] = []
    for product in products.values():
        found += _apart(product, pins, why)
        first = product.pins[0]
        for needed, allowed in product.needs.items():
            if needed not in products:  # an overlay left it out
                continue
            key = products[needed].pins[0]
            if not allowed.allows(pins[key], of=pins[first]):
                by = f"what {product.name} {stated[first]} supports"
                by += "" if stated[first] == pins[first] else f", in whose place {pins[first]} is used"
                reason = why.get(key) or why.get(first, "")
                found.append(Outside(key=key, version=pins[key], allowed=str(allowed), by=by, why=reason))
    return found


def _apart(product: Product, pins: Mapping[str, str], why: Mapping[str, str]) -> list[Outside]:
    """Return the pins of one product whose version is not that of the first."""
    first, *others = product.pins
    by = f"the version of {product.name}, which is that of {first}"
    return [
        Outside(key=key, version=pins[key], allowed=pins[first], by=by, why=why.get(key) or why.get(first, ""))
        for key in others
        if triple(pins[key]) != triple(pins[first])
    ]


def unsupported(products: Iterable[Product], needed: str, version: str) -> dict[str, str]:
    """Return the products that do not support this version of `needed`, each with its range."""
    return {
        product.name: str(product.needs[needed])
        for product in products
        if needed in product.needs
        and product.needs[needed].text != SAME_MINOR
        and not product.needs[needed].allows(version)
    }


def common(products: Iterable[Product], needed: str) -> str:
    """Return the range of `needed` that all products support, such as ">=1.30,<1.33"."""
    bounds = [bound for product in products if needed in product.needs for bound in product.needs[needed].bounds()]
    low = max((each for operator, each in bounds if operator in (">=", ">", "==")), default=None)
    high = min((each for operator, each in bounds if operator in ("<", "<=", "==")), default=None)
    lows = [(operator, each) for operator, each in bounds if each == low and operator in (">", ">=", "==")]
    highs = [(operator, each) for operator, each in bounds if each == high and operator in ("<", "<=", "==")]
    # Of two bounds at the same place the one that shuts it out is the narrower: ">" before ">=", "<" before "<=".
    ends = ([min(lows, key=lambda end: len(end[0]))] if lows else []) + (
        [min(highs, key=lambda end: len(end[0]))] if highs else []
    )
    return ",".join(dict.fromkeys(f"{operator}{_short(each)}" for operator, each in ends))


def _short(version: Triple) -> str:
    major, minor, patch = version
    return f"{major}.{minor}.{patch}" if patch else f"{major}.{minor}"

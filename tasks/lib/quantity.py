"""Kubernetes quantities: "500m", "2", "1.5Gi", "1e3"."""

import re
from decimal import Decimal

from tasks.lib.errors import BadInput

_FORM = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?:(?P<suffix>m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)|e(?P<power>\d+))?")
_FACTOR = {
    "m": Decimal("0.001"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
}


def parse(text: str | float, where: str) -> Decimal:
    """Return the value in base units (cores, bytes or a count).

    `where` names the file and key for the message. Raises BadInput for anything that is not a non-negative quantity.
    """
    match = _FORM.fullmatch(str(text)) if not isinstance(text, bool) else None
    if match is None:
        raise BadInput(
            f"{where}: {text!r} is not a quantity",
            hint="a number with an optional unit, such as 500m, 2, 512Mi or 4Gi",
        )
    if match["power"]:
        return Decimal(match["number"]) * Decimal(10) ** int(match["power"])
    return Decimal(match["number"]) * _FACTOR.get(match["suffix"] or "", Decimal(1))

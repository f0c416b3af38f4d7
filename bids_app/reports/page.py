"""Fill the page templates: everything from the data is escaped."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["Markup", "render"]

_ENVIRONMENT = Environment(
    loader=PackageLoader("bids_app.reports"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def shorten(value: Any) -> str:
    """Write a table's cell: numbers to four digits or whole, ``n/a`` for None.

    Examples
    --------
    >>> [shorten(value) for value in (None, 3, 0.123456, 11516.160343, "C3", 1e-7)]
    ['n/a', '3', '0.1235', '11516', 'C3', '1e-07']
    """
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


_ENVIRONMENT.filters["shorten"] = shorten


def render(template: str, **values: Any) -> str:
    """Fill a template of `bids_app/reports/templates`; text from the data is escaped."""
    return _ENVIRONMENT.get_template(template).render(**values)

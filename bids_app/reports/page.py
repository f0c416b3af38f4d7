"""Fill the page templates: everything from the data is escaped."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["Markup", "number", "p_value", "render", "shorten"]

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


def number(value: float | None) -> str:
    """Write a number to three decimals, large ones to three digits.

    Examples
    --------
    >>> [number(v) for v in (0.12345, 9.5, 123.456, None)]
    ['0.123', '9.50', '123', 'n/a']
    """
    if value is None:
        return "n/a"
    size = abs(value)
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 2 else 3}f}"


def p_value(value: float | None) -> str:
    """Write a p value.

    Examples
    --------
    >>> [p_value(p) for p in (0.0312, 0.00001, None)]
    ['0.031', '< 0.001', 'n/a']
    """
    if value is None:
        return "n/a"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


_ENVIRONMENT.filters |= {"shorten": shorten, "number": number, "p_value": p_value}


def render(template: str, **values: Any) -> str:
    """Fill a template of `bids_app/reports/templates`; text from the data is escaped."""
    return _ENVIRONMENT.get_template(template).render(**values)

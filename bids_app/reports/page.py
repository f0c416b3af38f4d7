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


def render(template: str, **values: Any) -> str:
    """Fill a template of `bids_app/reports/templates`; text from the data is escaped."""
    return _ENVIRONMENT.get_template(template).render(**values)

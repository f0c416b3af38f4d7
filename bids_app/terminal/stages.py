"""Say where a run is: through the log, so that whoever computes need not know who listens."""

from __future__ import annotations

import logging

LOGGER = "bids_app.stage"

_log = logging.getLogger(LOGGER)


def starting(unit: str) -> None:
    """Say that the work on a unit, such as ``sub-01_ses-M0``, starts."""
    _log.info("%s starts", unit, extra={"unit": unit})


def entering(stage: str) -> None:
    """Say which stage of the current unit starts, such as ``segment``."""
    _log.info("  %s", stage, extra={"stage": stage})

"""Show what a run would do; kept apart from what runs, so that it need not be imported."""

from __future__ import annotations

from bids_app.execution.plan_table import show_plan
from bids_app.inputs import Inputs
from bids_app.options import Options
from bids_app.planning import plan_run


def show_run(options: Options) -> int:
    """Print what a participant run would do; results are looked at, and nothing is written.

    Returns
    -------
    int
        Always 0: sessions that cannot be processed are in the table.
    """
    plan = plan_run(options)
    inputs = Inputs(options, plan.preset, plan.manifest, plan.template)
    current = {job.session.identifier for job in plan.jobs if inputs.is_done(job)}
    show_plan(plan.jobs, plan.unusable, current)
    return 0

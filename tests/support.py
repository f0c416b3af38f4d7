"""What several test modules use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run_app(
    *arguments: object, env: dict[str, str] | None = None, seconds: float = 580
) -> subprocess.CompletedProcess[str]:
    """Run the real command, as a user does."""
    command = [sys.executable, str(ROOT / "run.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=env)

"""Where installed models live: one folder a model, which may be read-only and shared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bids_app.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def models_folder(environ: Mapping[str, str]) -> Path:
    """Give the store's folder, which need not exist.

    Parameters
    ----------
    environ : mapping
        ``CORDLESION_MODELS`` names it; else it is below ``XDG_DATA_HOME`` or ``HOME``.

    Examples
    --------
    >>> models_folder({"CORDLESION_MODELS": "/shared/models"}).as_posix()
    '/shared/models'
    >>> models_folder({"HOME": "/home/ann"}).as_posix()
    '/home/ann/.local/share/cordlesion/models'
    """
    own = environ.get("CORDLESION_MODELS")
    if own:
        return Path(own).expanduser()
    # The XDG rules say that a relative path is to be ignored.
    data = environ.get("XDG_DATA_HOME", "")
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    base = Path(data) if data.startswith("/") else home / ".local" / "share"
    return base / "cordlesion" / "models"


def installed_models(store: Path) -> tuple[Path, ...]:
    """List the folders of installed models by name; a store that is not there has none."""
    try:
        found = [path for path in store.iterdir() if _NAME.fullmatch(path.name)]
    except OSError:
        return ()
    return tuple(sorted(path for path in found if (path / "model.json").is_file()))


def is_name(text: str) -> bool:
    """Tell whether `text` may name a model.

    Examples
    --------
    >>> is_name("sct-cord"), is_name("../x"), is_name(".hidden"), is_name("")
    (True, False, False, False)
    """
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> str:
    """Refuse a name that could not be told from a path, or the box's.

    Raises
    ------
    UsageError
    """
    if not is_name(name) or name == "box":
        raise UsageError(
            f"{name!r} cannot name a model: use letters, digits, '.', '_' and '-', "
            "a letter or digit first, and not 'box'."
        )
    return name

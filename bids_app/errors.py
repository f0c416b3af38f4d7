"""One class and one exit code for each family of failure.

Every message says what went wrong, where, and what to do next, in one sentence or two. The
exit codes are those of the command-line contract and of ``sysexits.h`` where it has one.
"""

from __future__ import annotations


class CordLesionError(Exception):
    """Base of all errors that a user is told about without a traceback."""

    exit_code = 70


class UsageError(CordLesionError):
    """The command line, an option's value or an option file cannot be used."""

    exit_code = 2


class UnknownLabel(UsageError):
    """A participant or session label that the dataset does not have."""


class UnknownColumn(UsageError):
    """A column that participants.tsv does not have."""


class NoUsableData(CordLesionError):
    """The selection holds nothing that could be processed."""

    exit_code = 65


class MissingResource(CordLesionError):
    """A model or a template is not installed or not complete."""

    exit_code = 69


class UnitError(CordLesionError):
    """One session cannot be processed; the others go on."""

    exit_code = 1


class MissingContrast(UnitError):
    """A session lacks the scan that defines its grid."""


class UnreadableImage(UnitError):
    """A file is not an image that can be used: truncated, wrong shape, no valid affine, ..."""


class UnusableMask(UnitError):
    """A cord mask from other derivatives is empty or does not fit its image."""


class NoCordFound(UnitError):
    """The network found no spinal cord, so 'no lesion' would be a false statement."""

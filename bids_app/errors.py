"""One class and one exit code for each family of failure.

Every message says what went wrong, where, and what to do next, in one sentence or two. The
exit codes are those of the command-line contract and of ``sysexits.h`` where it has one.
"""

from __future__ import annotations

import errno

_REFUSED = {
    errno.ENOSPC: "Free space",
    errno.EDQUOT: "Free space or ask for a larger quota",
    errno.EFBIG: "Use a file system that takes larger files",
    errno.EROFS: "Use a folder that can be written to",
    errno.EACCES: "Use a folder that you may write to",
    errno.EPERM: "Use a folder that you may write to",
    errno.ENOENT: "Do not move or remove it during a run",
    errno.ENOTDIR: "Remove the file that is in the way",
    errno.EISDIR: "Remove the folder that is in the way",
    errno.ESTALE: "Mount the disk again",
    errno.EIO: "Have the disk checked",
}


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
    """A model, a template or a program is not installed or not complete."""

    exit_code = 69


class OutputRefused(CordLesionError):
    """The disk takes no more: full, read-only, gone, or not ours."""

    exit_code = 1


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


def output_refused(error: OSError) -> OutputRefused | None:
    """Turn an operating system's refusal to write into a sentence; None for other errors.

    Examples
    --------
    >>> str(output_refused(OSError(errno.ENOSPC, "No space left on device", "/out/a.nii.gz")))
    '/out/a.nii.gz: No space left on device. Free space, then run again: what is done is kept.'
    """
    what_next = _REFUSED.get(error.errno or 0)
    if what_next is None:
        return None
    where = error.filename2 or error.filename or "the results"
    return OutputRefused(
        f"{where}: {error.strerror}. {what_next}, then run again: what is done is kept."
    )

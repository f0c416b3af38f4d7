"""The interactive slice viewer: nilearn's, fed with what lies round the cord."""

from __future__ import annotations

import re
import warnings

import numpy as np
from nibabel import Nifti1Image
from scipy import ndimage

from bids_app.reports.view import SessionView

_VIEWER_MM = 1.0


def viewer_page(view: SessionView) -> str:
    """Build a page of its own with the viewer, lesions laid over the reference.

    Parameters
    ----------
    view : SessionView

    Returns
    -------
    str
        HTML that asks nothing of the network. Its slider of class ``slider`` sets how much of
        the overlay shows, 0 to 100.
    """
    # nilearn takes seconds to import: only when a report is really written.
    from nilearn.plotting import view_img

    factors = [s / _VIEWER_MM for s in view.spacing_mm]
    reference = ndimage.zoom(view.reference.astype(np.float32), factors, order=1)
    lesions = ndimage.zoom(view.instances.astype(np.int16), factors, order=0)
    affine = np.diag([*[_VIEWER_MM] * 3, 1.0])
    affine[:3, 3] = view.affine[:3, 3]
    empty = not lesions.any()
    if empty:  # nilearn cannot show an overlay without a value
        lesions[0, 0, 0] = 1
    low, high = np.percentile(reference, (1, 99.5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values that the percentile cuts off
        page = view_img(
            Nifti1Image(lesions.astype(np.float32), affine),
            bg_img=Nifti1Image(np.clip(reference, low, high), affine),
            threshold=0.5,
            cmap="autumn",
            vmin=0,
            vmax=float(max(lesions.max(), 1)) + 1,
            symmetric_cmap=False,
            colorbar=False,
            resampling_interpolation="nearest",
            opacity=0.6,
            black_bg=True,
            radiological=True,
            cut_coords=_start(view, lesions, affine, empty),
        ).get_standalone()
    page = re.sub(r"<link[^>]*rel=\"icon\"[^>]*/>", "", page)
    return page.replace('min="1"\n', 'min="0"\n', 1)


def _start(
    view: SessionView, lesions: np.ndarray, affine: np.ndarray, empty: bool
) -> tuple[float, float, float]:
    """Start at the first lesion, or in the middle of the cord."""
    zoomed = lesions == 1 if not empty else None
    if zoomed is None or not zoomed.any():
        cord = ndimage.center_of_mass(view.cord)
        place = np.array(cord) * np.array(view.spacing_mm) / _VIEWER_MM
    else:
        place = np.array(ndimage.center_of_mass(zoomed))
    x, y, z = affine[:3, :3] @ place + affine[:3, 3]
    return float(x), float(y), float(z)

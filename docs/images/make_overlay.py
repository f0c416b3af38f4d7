"""Draw the README's picture from the demo: ``python docs/images/make_overlay.py demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from bids_app.imaging.grids import to_canonical
from bids_app.imaging.volumes import read_label_map, read_volume

STEM = "sub-01/ses-M12/anat/sub-01_ses-M12"
CORD, LESION = "#56B4E9", "#D55E00"


def main(demo: Path) -> None:
    """Write ``docs/images/overlay.png``."""
    image = to_canonical(read_volume(demo / "bids" / f"{STEM}_T2w.nii.gz"))
    cord, lesion = (
        to_canonical(read_label_map(demo / "derivatives" / f"{STEM}_label-{name}_mask.nii.gz")).data
        for name in ("cord", "lesion")
    )
    x, y, z = (int(np.median(where)) for where in np.nonzero(lesion))
    i, j, k = image.spacing_mm
    planes = (
        ((x, slice(None), slice(None)), k / j),
        ((slice(None), y, slice(None)), k / i),
        ((slice(None), slice(None), z), j / i),
    )
    figure, axes = plt.subplots(
        1, 6, figsize=(13, 4.2), width_ratios=[0.75, 0.75, 0.35, 0.35, 0.5, 0.5]
    )
    top = float(np.percentile(image.data, 99.8))
    for plane, (where, aspect) in enumerate(planes):
        for overlay in (False, True):
            axis = axes[2 * plane + overlay]
            axis.imshow(image.data[where].T, origin="lower", cmap="gray", aspect=aspect, vmax=top)
            axis.axis("off")
            if overlay:
                for mask, colour in ((cord, CORD), (lesion, LESION)):
                    if mask[where].any():
                        axis.contour(mask[where].T, [0.5], colors=colour, linewidths=1)
    figure.tight_layout(pad=0.3)
    figure.savefig(Path(__file__).with_name("overlay.png"), dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

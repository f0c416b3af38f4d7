"""What stands at the top of the derivatives, whichever level writes first."""

from __future__ import annotations

import os

from bids_app.dataset.derivatives import shared_dictionary
from bids_app.dataset.rootfiles import write_root_files
from bids_app.files import write_json
from bids_app.lesions.columns import lesion_dictionary
from bids_app.options import Options


def set_up(options: Options) -> None:
    """Write the files at the top of the derivatives."""
    write_root_files(options.out_dir, options.bids_dir, os.environ, options.derivatives)
    if options.outputs == "minimal":
        about = {"Description": "Each lesion of a session.", "SpatialReference": "orig"}
        write_json(shared_dictionary(options.out_dir), {**about, **lesion_dictionary()})

#!/usr/bin/env python
"""The BIDS App: ``run.py BIDS_DIR OUT_DIR {participant,group} [options]``."""

import sys

from bids_app.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))

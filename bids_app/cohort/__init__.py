"""The cohort: what a tree of derivatives says about all its sessions."""

"""Run sessions, here or on a cluster; this package knows no science."""

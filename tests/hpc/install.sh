#!/usr/bin/env bash
# Install Slurm with its database from Debian; what the suite `pytest -m hpc` needs. Run as root.
set -euo pipefail
command -v apt-get > /dev/null || { echo "no apt-get: this is no Debian or Ubuntu" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "not root" >&2; exit 1; }
apt-get update -qq || true
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    slurm-wlm munge slurmdbd mariadb-server-core mariadb-client-core > /dev/null

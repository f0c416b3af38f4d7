"""Cores and memory, from made-up machines."""

import os

import pytest

from bids_app.resources import (
    cgroup_cpus,
    cgroup_memory_bytes,
    default_cpus,
    default_memory_bytes,
    machine_cpus,
    machine_memory_bytes,
    parse_memory,
    slurm_cpus,
    slurm_memory_bytes,
)

GIB = 2**30


def lay_out(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8G", 8 * GIB),
        ("8g", 8 * GIB),
        ("8Gi", 8 * GIB),
        ("8GiB", 8 * GIB),
        ("8 GB", 8 * 10**9),
        ("1.5GB", 1_500_000_000),
        ("500M", 500 * 2**20),
        ("1Ti", 2**40),
        ("64K", 65536),
        ("8", None),
        ("", None),
        ("G", None),
        ("-8G", None),
        ("0G", None),
        ("8X", None),
        ("8e3G", None),
        ("nanG", None),
    ],
)
def test_parse_memory(text, expected):
    assert parse_memory(text) == expected


@pytest.mark.parametrize(
    ("environ", "cpus", "memory"),
    [
        ({}, None, None),
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "16"}, 4, None),
        ({"SLURM_CPUS_ON_NODE": "16", "SLURM_MEM_PER_NODE": "8192"}, 16, 8 * GIB),
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_MEM_PER_CPU": "2048"}, 4, 8 * GIB),
        ({"SLURM_MEM_PER_CPU": "2048"}, None, 2 * GIB),
        ({"SLURM_MEM_PER_NODE": "0"}, None, None),
        ({"SLURM_CPUS_PER_TASK": "many", "SLURM_MEM_PER_NODE": ""}, None, None),
    ],
)
def test_slurm(environ, cpus, memory):
    assert (slurm_cpus(environ), slurm_memory_bytes(environ)) == (cpus, memory)


@pytest.mark.parametrize(
    ("files", "membership", "cpus", "memory"),
    [
        ({}, "", None, None),
        ({"cpu.max": "150000 100000\n", "memory.max": "1073741824\n"}, "0::/\n", 2, GIB),
        ({"cpu.max": "max 100000\n", "memory.max": "max\n"}, "0::/\n", None, None),
        (
            {
                "slurm/cpu.max": "400000 100000",
                "slurm/job/memory.max": str(2 * GIB),
                "slurm/memory.max": str(8 * GIB),
            },
            "0::/slurm/job/task\n",
            4,
            2 * GIB,
        ),
        (
            {
                "cpu,cpuacct/docker/a/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000",
                "memory/docker/a/memory.limit_in_bytes": str(GIB),
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n",
            1,
            GIB,
        ),
        (
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            "1:cpu:/\n",
            None,
            None,
        ),
        ({"memory/memory.limit_in_bytes": str(GIB)}, "4:memory:/host/path/unseen\n", None, GIB),
        ({"cpu.max": "nonsense", "memory.max": ""}, "rubbish\n0::", None, None),
    ],
)
def test_cgroups(tmp_path, files, membership, cpus, memory):
    lay_out(tmp_path, files)
    assert cgroup_cpus(tmp_path, membership) == cpus
    assert cgroup_memory_bytes(tmp_path, membership) == memory


def test_defaults_take_the_smallest(tmp_path):
    lay_out(tmp_path, {"cpu.max": "600000 100000", "memory.max": str(4 * GIB)})
    slurm = {"SLURM_CPUS_PER_TASK": "2", "SLURM_MEM_PER_NODE": "1024"}
    assert default_cpus(16, {}, tmp_path) == 6
    assert default_cpus(16, slurm, tmp_path) == 2
    assert default_cpus(1, slurm, tmp_path) == 1
    assert default_memory_bytes(64 * GIB, {}, tmp_path) == 4 * GIB
    assert default_memory_bytes(64 * GIB, slurm, tmp_path) == GIB
    assert default_memory_bytes(2 * GIB, {}, tmp_path) == 2 * GIB


def test_this_machine():
    assert 1 <= machine_cpus({}) <= (os.cpu_count() or 1)
    assert machine_cpus({"SLURM_CPUS_PER_TASK": "1"}) == 1
    assert machine_memory_bytes({}) > 2**20

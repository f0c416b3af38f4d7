"""A real Slurm of one node, with its database, in a folder of its own; stopped by recorded pids.

Ports, sockets, keys and state are its own, so that it can run beside another Slurm. As root, on
Debian or Ubuntu, after ``install.sh``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

NEEDED = ("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sacctmgr")
INSTALL = Path(__file__).with_name("install.sh")

_SLURM_CONF = """\
ClusterName=ci
SlurmctldHost=localhost
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=2,bf_interval=2
KillWait=1
ReturnToService=2
JobRequeue=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={dbd}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
GresTypes=gpu
MpiDefault=none
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/slurmd
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefMemPerCPU=200 State=UP
"""

_DBD_CONF = """\
DbdHost=localhost
DbdPort={dbd}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mysql}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""


def why_not() -> str | None:
    """Say why no Slurm can be started here, after trying to install it; None when it can."""
    if os.geteuid() != 0:
        return "starting a Slurm takes root"
    if all(shutil.which(name) for name in NEEDED):
        return None
    done = subprocess.run([str(INSTALL)], capture_output=True, text=True)
    missing = [name for name in NEEDED if not shutil.which(name)]
    return f"{', '.join(missing)} could not be installed: {done.stderr[-300:]}" if missing else None


@dataclass
class OneNode:
    """A running Slurm."""

    folder: Path
    environ: dict[str, str]

    def call(self, *command: object, check: bool = True) -> str:
        """Run a command of Slurm, or any other, in this cluster; give what it prints."""
        done = subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            env=self.environ,
            timeout=120,
        )
        if check and done.returncode:
            pytest.fail(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def states(self, *job_ids: str) -> dict[str, str]:
        """Give the accounting's state of each job or array task, in one word."""
        said = self.call(
            *("sacct", "-X", "-P", "-n", "-j", ",".join(job_ids), "--format=JobID,State")
        )
        rows = [line.split("|") for line in said.splitlines()]
        return {job: state.split(" ")[0] for job, state in rows}

    def waiting(self, *job_ids: str) -> list[str]:
        """Give the jobs and tasks that have not ended."""
        said = self.call("squeue", "-h", "-r", "-o", "%i", "-j", ",".join(job_ids), check=False)
        return said.split()

    def wait(self, *job_ids: str, seconds: float = 240) -> dict[str, str]:
        """Wait until jobs have ended and the accounting knows; give their states."""
        until(lambda: not self.waiting(*job_ids), seconds, lambda: self.call("squeue", "-r"))
        ended = ("COMPLETED", "FAILED", "CANCELLED", "OUT_OF_MEMORY", "TIMEOUT", "NODE_FAIL")
        until(
            lambda: all(state in ended for state in self.states(*job_ids).values()),
            60,
            lambda: str(self.states(*job_ids)),
        )
        return self.states(*job_ids)


def until(
    condition: Callable[[], bool], seconds: float, say: Callable[[], str] = lambda: ""
) -> None:
    """Wait for something; fail the test when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain. {say()}")
        time.sleep(0.3)


@contextlib.contextmanager
def one_node(folder: Path) -> Iterator[OneNode]:
    """Start a Slurm in `folder`, and stop what was started at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, *command: str, environ: dict[str, str] | None = None) -> None:
        with (folder / f"{name}.out").open("wb") as out:
            processes.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environ
                )
            )

    try:
        yield _start(folder, start)
    finally:
        _stop(processes)


def _start(folder: Path, start: Callable[..., None]) -> OneNode:
    ports = dict(zip(("ctld", "slurmd", "dbd", "mysql"), _free_ports(4), strict=True))
    conf = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    conf.write_text(_SLURM_CONF.format(folder=folder, host=host, **ports))
    database = folder / "slurmdbd.conf"
    database.write_text(_DBD_CONF.format(folder=folder, **ports))
    database.chmod(0o600)
    for index in range(2):
        os.mknod(folder / f"gpu{index}", 0o020666, os.makedev(1, 3))
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1]\n")
    environ = {**os.environ, "SLURM_CONF": str(conf)}
    node = OneNode(folder, environ)
    _start_munge(folder, start)
    _start_database(folder, ports["mysql"], start)
    start("slurmdbd", "slurmdbd", "-D", environ=environ)
    until(lambda: _answers(node, "sacctmgr", "-n", "show", "cluster"), 60, lambda: _tail(folder))
    for what in (
        ("cluster", "ci"),
        ("account", "lab", "Cluster=ci"),
        ("user", "root", "Account=lab"),
    ):
        node.call("sacctmgr", "-i", "add", *what)
    start("slurmctld", "slurmctld", "-D", "-c", environ=environ)
    until(lambda: _answers(node, "scontrol", "ping"), 60, lambda: _tail(folder))
    start("slurmd", "slurmd", "-D", environ=environ)
    until(lambda: "idle" in node.call("sinfo", "-h", "-o", "%T"), 60, lambda: _tail(folder))
    return node


def _start_munge(folder: Path, start: Callable[..., None]) -> None:
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    start(
        *("munge", "munged", "--foreground", "--force", f"--key-file={key}"),
        *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid"),
        *(f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"),
    )
    until((folder / "munge.socket").exists, 20, (lambda: (folder / "munge.out").read_text()))


def _start_database(folder: Path, port: int, start: Callable[..., None]) -> None:
    data = folder / "mysql"
    common = ["--no-defaults", f"--datadir={data}", "--user=root"]
    subprocess.run(
        ["mariadb-install-db", *common, "--skip-test-db"], check=True, capture_output=True
    )
    sql = folder / "start.sql"
    sql.write_text(
        "CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm';\n"
        "GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';\n"
    )
    start(
        *("mariadbd", "mariadbd", *common, f"--port={port}", "--bind-address=127.0.0.1"),
        *(f"--socket={folder}/mysql.socket", f"--pid-file={folder}/mysql.pid"),
        *("--skip-name-resolve", f"--init-file={sql}", "--innodb-flush-log-at-trx-commit=0"),
    )
    until(lambda: _open(port), 60, lambda: (folder / "mariadbd.out").read_text()[-2000:])


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _open(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _answers(node: OneNode, *command: str) -> bool:
    done = subprocess.run(command, capture_output=True, text=True, env=node.environ)
    return done.returncode == 0 and "DOWN" not in done.stdout


def _tail(folder: Path) -> str:
    logs = [*folder.glob("slurm*.log"), *folder.glob("*.out")]
    return "\n".join(f"{path.name}: {path.read_text()[-500:]}" for path in logs)


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Stop the daemons, the last one first."""
    for process in reversed(processes):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)

"""A real SLURM of one node for tests: its own munged, slurmctld and slurmd, all in one folder, gone when stopped.

By hand, for experiments: `python tests/sweep/cluster.py FOLDER`.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

# Name of a program to the Debian package that has it.
PROGRAMS = {"setpriv": "util-linux", "munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd"}
PROGRAMS |= dict.fromkeys(("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo"), "slurm-client")
START_SECONDS = 60
SAVE_SECONDS = 6  # slurmctld writes what it knows to its disk at most 5 s late
CPUS = 4
MEMORY_PER_CPU = 2000  # MiB: what a job that does not say --mem may use

# What is not default is so for one of three reasons: no cgroups (linuxproc, task/none, OverMemoryKill), a site that
# preempts and keeps no accounts (low, high, grace; `sacct` fails), or speed. For speed:
# - cred_expire is also how long a requeued job waits for its next start (120 s by default, 5 s at least);
# - SlurmdTimeout is how long a node is silent before its jobs are requeued (300 s by default);
# - MessageTimeout is how long a client tries to reach a controller that is down (10 s by default);
# - linuxproc and not pgid, which waits seconds for orphans of srun that init has not collected yet;
# - time limits and --signal are looked at every 30 s: that is fixed in slurmctld.
# The node claims more CPUs and memory than the machine may have, so that several tiny jobs run at once.
CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={sockets}/munge,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={sockets}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU={memory_per_cpu}
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
MaxArraySize=5001
MaxJobCount=10000
KillWait=5
MessageTimeout=5
SlurmdTimeout=5
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=DEFAULT Nodes={host} MaxTime=INFINITE DefaultTime=60 State=UP OverSubscribe=NO
PartitionName=low Default=YES PriorityTier=1
PartitionName=grace PriorityTier=1 GraceTime=30
PartitionName=high PriorityTier=10 PreemptMode=OFF
"""


class ClusterError(RuntimeError):
    """A daemon of the test cluster did not do what it should; says which and shows the end of its log."""


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return done


class Cluster:
    """One node with the partitions `low` (default), `grace` and `high`; the last preempts the other two.

    >>> with Cluster(tmp_path) as cluster:
    ...     subprocess.run(["sbatch", "job.sh"], env=os.environ | cluster.env)
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).resolve()
        self.conf = self.folder / "slurm.conf"
        self.host = socket.gethostname().split(".")[0]
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._sockets = self.folder

    @staticmethod
    def unavailable() -> str | None:
        """What keeps a cluster from running here, as one sentence, or None."""
        if missing := [name for name in PROGRAMS if Cluster._program(name) is None]:
            packages = " ".join(sorted({PROGRAMS[name] for name in missing}))
            return f"SLURM is not complete here, {', '.join(missing)} not found: apt-get install {packages}"
        if os.geteuid() != 0:
            return "the SLURM of the tests needs root, like any slurmd"
        return None

    @property
    def env(self) -> dict[str, str]:
        """What points the SLURM commands at this cluster; merge it into os.environ."""
        return {"SLURM_CONF": str(self.conf)}

    def start(self) -> None:
        """Start all daemons; returns when the node is idle."""
        if reason := self.unavailable():
            raise ClusterError(reason)
        try:
            self._configure()
            munge = ["--foreground", "--force", f"--key-file={self.folder}/munge.key"]
            munge += [f"--{name}-file={self.folder}/munge.{name}" for name in ("log", "pid", "seed")]
            self._spawn("munged", [*munge, f"--socket={self._sockets}/munge"])
            self._await("munged", (self._sockets / "munge").exists)
            self.start_controller()
            self.start_node()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill the daemons and every job; what they wrote stays in the folder."""
        for name in ("slurmctld", "slurmd"):
            self._end(name, signal.SIGKILL)
        self._kill_jobs()
        self._end("munged", signal.SIGTERM)
        if self._sockets != self.folder:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = self.folder

    def start_controller(self) -> None:
        """Start slurmctld with whatever state it has left; returns when it answers."""
        self._spawn("slurmctld", ["-D", "-f", str(self.conf)])
        self._await("slurmctld", lambda: self._call("scontrol", "ping").returncode == 0)

    def stop_controller(self, *, kill: bool = False) -> None:
        """End slurmctld: told to, so that it saves its state, or with kill -9 a few seconds from now."""
        if kill:
            # Else it may come back without knowing that jobs have started, starts them twice and drains the node.
            time.sleep(SAVE_SECONDS)
        self._end("slurmctld", signal.SIGKILL if kill else signal.SIGTERM)

    def restart_controller(self, *, kill: bool = False) -> None:
        """`stop_controller` and `start_controller`: jobs go on and are known afterwards."""
        self.stop_controller(kill=kill)
        self.start_controller()

    def start_node(self) -> None:
        """Start slurmd; returns when the node takes jobs (again)."""
        began = datetime.now().replace(microsecond=0)
        self._spawn("slurmd", ["-D", "-f", str(self.conf)])

        def ready() -> bool:
            # The state alone can be that of the slurmd before this one: its loss has perhaps not been noticed yet.
            node = self._call("scontrol", "--oneliner", "show", "node", self.host).stdout
            start = re.search(r"SlurmdStartTime=(\d\S*)", node)
            new = start is not None and datetime.fromisoformat(start[1]) >= began
            return new and self.node_state() in ("idle", "mixed", "allocated")

        self._await("slurmd", ready)

    def kill_node(self) -> None:
        """Kill slurmd and all it runs at once, as a power cut does; the controller notices after SlurmdTimeout."""
        self._end("slurmd", signal.SIGKILL)
        self._kill_jobs()

    def node_state(self) -> str:
        """State of the node as sinfo has it; a star after it means it does not answer."""
        return self._call("sinfo", "--noheader", "--partition=low", "--format=%T").stdout.strip()

    def hurry(self, job_id: str | int) -> None:
        """Let a requeued job start now and not after its delay."""
        self.run("scontrol", "update", f"JobId={job_id}", "StartTime=now")

    def run(self, *command: str) -> str:
        """Standard output of a SLURM command, which has to succeed."""
        done = self._call(*command)
        if done.returncode:
            raise ClusterError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _configure(self) -> None:
        (self.folder / "state").mkdir(parents=True, exist_ok=True)
        # The path of a socket has at most 107 characters, and folders of pytest are long.
        self._sockets = Path(tempfile.mkdtemp(prefix="slurm-"))
        self._sockets.chmod(0o755)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        controller_port, node_port = _free_ports(2)
        names = {"host": self.host, "user": getpass.getuser(), "folder": self.folder, "sockets": self._sockets}
        names |= {"controller_port": controller_port, "node_port": node_port, "cpus": CPUS}
        names |= {"memory": CPUS * MEMORY_PER_CPU, "memory_per_cpu": MEMORY_PER_CPU}
        self.conf.write_text(CONF.format_map(names))

    @staticmethod
    def _program(name: str) -> str | None:
        # Daemons are in sbin, which is not in everyone's PATH.
        return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))

    def _spawn(self, name: str, arguments: Sequence[str]) -> None:
        if name in self._daemons:
            raise ClusterError(f"{name} runs already")
        # A session of its own: Ctrl-C at a terminal is for pytest, which then stops the daemons in order. If pytest
        # itself is killed, they are too.
        with (self.folder / f"{name}.out").open("ab") as out:
            command = ["setpriv", "--pdeathsig", "KILL", self._program(name) or name, *arguments]
            nothing, env = subprocess.DEVNULL, os.environ | self.env
            self._daemons[name] = subprocess.Popen(
                command, env=env, stdin=nothing, stdout=out, stderr=out, start_new_session=True
            )

    def _call(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=os.environ | self.env, capture_output=True, text=True, check=False)

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        daemon = self._daemons[name]
        if _wait(lambda: daemon.poll() is not None or ready(), START_SECONDS) and daemon.poll() is None:
            return
        code = daemon.poll()
        what = f"is not ready after {START_SECONDS} s" if code is None else f"ended with {code}"
        for path in sorted([*self.folder.glob("*.log"), self.folder / f"{name}.out"]):
            what += "\n".join(["", f"--- {path}", *path.read_text(errors="replace").splitlines()[-20:]])
        raise ClusterError(f"{name} {what}")

    def _end(self, name: str, number: signal.Signals) -> None:
        if daemon := self._daemons.pop(name, None):
            daemon.send_signal(number)
            if not _wait(lambda: daemon.poll() is not None, 20):
                daemon.kill()
            daemon.wait()

    def _kill_jobs(self) -> None:
        if not _wait(lambda: not self._kill_round(), 20):
            raise ClusterError(f"jobs survive kill -9: {self._kill_round()}")

    def _kill_round(self) -> list[int]:
        """Kill what slurmd has started and return what that was; steps and jobs are not our children."""
        mark = f"SLURM_CONF={self.conf}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                job = any(one.startswith(b"SLURM_JOB_ID=") for one in variables)
                if mark in variables and (job or (entry / "comm").read_text().startswith(("slurmd", "slurmstepd"))):
                    found.append(int(entry.name))
                    os.kill(found[-1], signal.SIGKILL)
        return found


def main() -> None:
    """Run a cluster until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where its logs and state go")
    with Cluster(parser.parse_args().folder) as cluster:
        print("".join(f"export {name}={value}\n" for name, value in cluster.env.items()), flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()

"""Machines made of files: a root folder that looks like /proc, and the cgroup hierarchies that it names."""

from __future__ import annotations

from pidwarden.kernel.limits import machine_limits

V2 = ("/cg", "cgroup2", "rw")
V1 = ("/cg/pids", "cgroup", "rw,pids")


class Machine:
    """A /proc and the mounts it names."""

    def __init__(self, root):
        self.root, self.proc = root, root / "proc"
        self.write("proc/loadavg", "0.10 0.20 0.30 2/345 9999\n")
        self.write("proc/sys/kernel/pid_max", "32768\n")
        self.write("proc/sys/kernel/threads-max", "15000\n")
        self.cgroups([], [])

    def write(self, name, text):
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def cgroups(self, mounts, lines):
        self.write("proc/self/mounts", "".join(f"none {self.root}{w} {k} {o} 0 0\n" for w, k, o in mounts))
        self.write("proc/self/cgroup", "".join(f"{line}\n" for line in lines))

    def pids(self, cgroup, current, most):
        self.write(f"{cgroup}/pids.current", f"{current}\n")
        self.write(f"{cgroup}/pids.max", f"{most}\n")

    def limits(self):
        return machine_limits(str(self.proc))

    def names(self):
        return [limit.name for limit in self.limits()]

    def process(self, pid, *, comm="sh", uid=0, threads=1, **more):
        """A process with what is read of it; `more`: capabilities, pgrp, session, groups."""
        pgrp, session = more.get("pgrp", pid), more.get("session", pid)
        fields = f"S 1 {pgrp} {session} 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 {pid * 10} 1000 50"
        self.write(f"proc/{pid}/stat", f"{pid} ({comm}) {fields}")
        self.write(
            f"proc/{pid}/status",
            f"Name:\t{comm}\nUmask:\t0022\nState:\tS (sleeping)\nPid:\t{pid}\nUid:\t{uid}\t{uid + 7}\t0\t0\n"
            f"Groups:\t{more.get('groups', '')} \nNSpid:\t{pid}\nNSpgid:\t{pgrp}\nNSsid:\t{session}\n"
            f"VmData:\t    8192 kB\nVmStk:\t     132 kB\nThreads:\t{threads}\n"
            f"CapEff:\t{more.get('capabilities', 0):016x}\n",
        )
        self.write(f"proc/{pid}/uid_map", "0 0 4294967295\n")
        self.inside(pid)

    def inside(self, pid, *lines):
        """The cgroups of a process."""
        self.write(f"proc/{pid}/cgroup", "".join(f"{line}\n" for line in lines))

    def nproc(self, pid, soft, hard="unlimited"):
        """RLIMIT_NPROC of a process."""
        rows = (("Limit", "Soft Limit", "Hard Limit", "Units"), ("Max processes", soft, hard, "processes"))
        rows += (("Max open files", 1024, 4096, "files"),)
        self.write(f"proc/{pid}/limits", "".join(f"{a:<25} {b:<20} {c:<20} {d:<10}\n" for a, b, c, d in rows))

    def memory(self, **kib):
        """Lines of meminfo."""
        self.write("proc/meminfo", "".join(f"{name}: {value:>10} kB\n" for name, value in kib.items()))

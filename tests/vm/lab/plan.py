"""Which kernels run which tests, in machines of which kind; and which tests no machine runs, and why."""

from __future__ import annotations

import os
from typing import NamedTuple

from lab.machine import Hardware

_NO_BPF_LSM = "lsm=landlock,lockdown,yama,apparmor"


# Thousands of tasks that fork in vain keep the kernel's own RCU thread from running where a processor is emulated.
_RCU_FIRST = "rcutree.kthread_prio=2 softlockup_panic=0"


class Run(NamedTuple):
    """One machine and its tests, files or beginnings of test ids."""

    name: str
    kernel: str
    hardware: Hardware
    tests: tuple[str, ...]

    def wants(self, test: str) -> bool:
        """Whether the test of this id is one of them."""
        return test.startswith(self.tests)


# What proves containment, and what it rests on.
_CONTAIN = (
    "tests/contract/test_gates.py::test_no_way_into_fork",
    "tests/contract/test_gates.py::test_the_limit_is_exact",
    "tests/contract/test_gates.py::test_calls_of_another_abi",
    "tests/contract/test_gates.py::test_members_that_wake_each_other",
    "tests/host/test_rescue_gate.py::test_no_way_into_fork",
    "tests/host/test_rescue_gate.py::test_who_is_born",
    "tests/host/test_tracer.py::test_every_call",
    "tests/host/test_tracer.py::test_of_a_storm",
    "tests/host/test_tracer.py::test_what_seccomp",
)
# The rest, each of which takes an hour or more: `make vm-test PIDWARDEN_VM=all`, with `-k` for one of them alone.
_CONTRACT = (
    "tests/contract/test_adversary.py",
    "tests/contract/test_contained.py",
    "tests/contract/test_gates.py",
    "tests/contract/test_guarding.py",
    "tests/contract/test_losses.py",
    "tests/contract/test_scope.py",
    "tests/contract/test_sources.py",
    "tests/contract/test_user.py",
)
_HOST = (
    "tests/host/test_contain.py",
    "tests/host/test_control_fifo.py",
    "tests/host/test_folded.py",
    "tests/host/test_fork_refused.py",
    "tests/host/test_freeze.py",
    "tests/host/test_gate.py",
    "tests/host/test_guard.py",
    "tests/host/test_history.py",
    "tests/host/test_lost.py",
    "tests/host/test_namespaces.py",
    "tests/host/test_nothing_loaded.py",
    "tests/host/test_pen.py",
    "tests/host/test_prompt.py",
    "tests/host/test_protection.py",
    "tests/host/test_rescue_gate.py",
    "tests/host/test_retention.py",
    "tests/host/test_tracer.py",
    "tests/host/test_trace_loss.py",
    "tests/host/test_trace_tree.py",
    "tests/host/test_stuck.py::test_a_vfork_child",
    "tests/host/test_stuck.py::test_execve_that_waits",
    "tests/host/test_stuck.py::test_memory",
    "tests/host/test_take_back.py",
    "tests/host/test_doctor.py",
    "tests/host/test_zombies.py",
)
_UNCAPPED = ("tests/vm/guest/test_uncapped.py",)
_RECOVERY = ("tests/vm/guest/test_recovery.py", "tests/vm/guest/test_table_full.py", "tests/vm/guest/test_cost.py")
_RESCUED = ("tests/vm/guest/test_rescued.py",)
_SMOKE = ("tests/vm/guest/test_smoke.py",)
# Without the bomb of threads, which takes as long as all else here; test_uncapped.py has it.
_BRIEF = tuple(
    f"tests/vm/guest/test_smoke.py::{name}"
    for name in ("test_what", "test_it_loads", "test_a_bomb_is_contained[tight]")
)
_INT80 = ("tests/vm/guest/test_smoke.py::test_a_bomb_is_contained[int80]",)

# Kernels that no longer change. Those of the moving suites are tried by `make vm-kernels`: a new one must not turn a
# change red that has nothing to do with it.
ALL_RUNS = (
    Run("debian12", "bookworm", Hardware(cpus=2), _CONTAIN),
    Run("debian12-uncapped", "bookworm", Hardware(cpus=2, memory=1536, append=_RCU_FIRST), _UNCAPPED),
    Run("debian12-rescued", "bookworm", Hardware(cpus=2, memory=1536, append=_RCU_FIRST), _RESCUED),
    Run("debian12-one-cpu", "bookworm", Hardware(cpus=1), _SMOKE),
    Run("debian12-no-bpf-lsm", "bookworm", Hardware(cpus=2, append=_NO_BPF_LSM), _BRIEF),
    Run("debian13", "trixie", Hardware(cpus=2), _BRIEF),
    Run("debian12-no-bpf-lsm-int80", "bookworm", Hardware(cpus=2, append=_NO_BPF_LSM), _INT80),
    Run("debian13-int80", "trixie", Hardware(cpus=2), _INT80),
    Run("debian12-contract", "bookworm", Hardware(cpus=2, memory=2048, append=_RCU_FIRST), _CONTRACT),
    Run("debian12-host", "bookworm", Hardware(cpus=2, memory=2048, append=_RCU_FIRST), _HOST),
    Run("debian12-recovery", "bookworm", Hardware(cpus=2, memory=1536, append=_RCU_FIRST), _RECOVERY),
)
_LONG = (
    "debian12-contract", "debian12-host", "debian12-no-bpf-lsm-int80", "debian12-one-cpu", "debian12-recovery",
    "debian12-rescued", "debian13-int80",
)  # fmt: skip
RUNS = ALL_RUNS if os.environ.get("PIDWARDEN_VM") == "all" else tuple(r for r in ALL_RUNS if r.name not in _LONG)

# Named, not silently dropped: each is shown as skipped, with its reason.
NOT_IN_GUEST = {
    "tests/host/test_conntrack.py": "the image lacks nft, conntrack and the modules of netfilter",
    "tests/host/test_look.py": "it asks and changes nothing; the history it asks is tested there by test_history.py",
    "tests/host/test_orphans.py": "it asks and changes nothing; sessions and groups are the same on every kernel",
    "tests/host/test_orphans_history.py": "the history it asks is tested there by test_history.py",
    "tests/host/test_orphans_kill.py": "whom it may signal is decided above the kernel, the signals are two old ones",
    "tests/host/test_callformats.py": "it reads what tracefs says of calls; what is made of that is tested by values",
    "tests/host/test_trace_why.py": "it asks and changes nothing, of files of /proc that are the same on every kernel",
    "tests/host/test_trace_why_programs.py": "as test_trace_why.py",
    "tests/host/test_trace_same.py": "the image lacks strace and most of the programs; it compares text with text",
    "tests/host/test_trace_secrets.py": "what is a secret is decided above the kernel",
    "tests/host/test_trace_ftp.py": "as test_trace_secrets.py",
    "tests/host/test_trace_command.py": "the kernel's side of it is tried there by test_tracer.py; the rest is text",
    "tests/host/test_status.py": "it asks and changes nothing; test_recovery.py asks there while the table is full",
    "tests/host/test_corpus.py": "the corpus judges real workloads by seconds that an emulated processor does not keep",
    "tests/host/test_drill.py": "a drill of all shapes takes minutes on an emulated processor; test_uncapped.py sets "
    "the same bombs off with no pen around them",
    "tests/host/test_stuck.py": "the rest needs a loop device, FUSE and ext4, whose modules the image lacks",
    "tests/host/test_within_exec.py": "it needs FUSE, whose module the image lacks",
    "tests/host/test_drill_taught.py": "what is made of processes and signals alone is the same on every kernel",
    "tests/host/test_guard_rules.py": "the files of /proc that rules read are the same on every kernel; what they rest "
    "on in the history is tested there by test_history.py",
    "tests/host/test_rescue_auto.py": "it is run there on a whole table, by test_rescued.py",
    "tests/host/test_rescue_hunt.py": "pidfds are the same on every kernel; test_rescued.py uses them there",
    "tests/host/test_rescue_prepared.py": "how programs find their libraries does not depend on the kernel",
    "tests/host/test_rescue_console.py": "it is run there on a whole table, by test_rescued.py",
    "tests/host/test_rescue_shell.py": "what a shell does with its built-ins does not depend on the kernel",
    "tests/host/test_why_command.py": "its limits are told of there by test_fork_refused.py, test_table_full.py",
    "tests/host/test_inject.py": "ptrace does not depend on what these kernels differ in, and takes long there",
    "tests/host/test_reap.py": "its steps are tried one by one on the host; test_inject.py says why not there",
    "tests/host/test_zombies_odd.py": "odd parents; causes are told there by test_zombies.py",
    "tests/host/test_zombies_command.py": "what it says in text and JSON; causes are told there by test_zombies.py",
    "tests/host/test_tables.py": "the files it reads are the same on every kernel; conntrack is tried by its own tests",
    "tests/host/test_tables_command.py": "what it says in text and JSON does not depend on the kernel",
    "tests/host/test_limits.py": "sysctls and limits are written the same way on every kernel; the image has no tool "
    "that enters connections",
    "tests/host/test_bad_input.py": "what is refused, and in which words, does not depend on the kernel",
}

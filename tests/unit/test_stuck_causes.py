"""What stuck threads wait for: which functions tell which cause, who is counted to whom, and what is never advised."""

from __future__ import annotations

import pytest

from pidwarden.diagnose import stuck, unstick
from pidwarden.diagnose.sleeps import RULES, Cause, cause_of, killable
from pidwarden.kernel.surroundings import parse_blocked
from pidwarden.model import calls
from pidwarden.model.mount import parse_mounts
from pidwarden.model.stuck import NOTHING, Blocker, Connection, Someone, Thread, World

MOUNTINFO = rb"""25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 25 8:2 / /data\040here rw - xfs /dev/sdb rw
31 25 0:40 / /sshfs rw,nosuid - fuse.sshfs me@there:/ rw,user_id=0
32 25 0:41 / /home rw - nfs4 server:/home rw,vers=4.2
33 25 8:2 / /ro ro - xfs /dev/sdb rw
34 25 0:5 / /tmp rw - tmpfs tmpfs rw
35 25 253:3 / /lv rw master:1 propagate_from:2 - ext4 /dev/mapper/lv rw
nonsense
"""
ROOT, DATA, SSHFS, HOME, _RO, _TMP, LV = MOUNTS = parse_mounts(MOUNTINFO)
WORLD = World({40: Connection(2, (Someone(77, b"sshfs", "S"),), exact=True)}, {})
FREEZE = ("percpu_rwsem_wait", "mnt_want_write", "filename_create")


def thread(tid, *functions, **others):
    known = {"whole": True, "mounts": MOUNTS, "start_ns": 5} | others
    return Thread(tid, tid, b"name", known.pop("state", "D"), 0, 1, functions=functions, **known)


def groups(*threads, world=WORLD):
    return stuck.group(stuck.find(threads, world), world)


def only(*threads, world=WORLD):
    (group,) = groups(*threads, world=world)
    return group


def advice(group, world=WORLD):
    found = unstick.remedy(group, world)
    return [step.command for step in found.steps], found.kill


# -- names -------------------------------------------------------------------------------------------------------------


def test_mounts_are_understood_with_what_stands_between():
    assert [m.where for m in MOUNTS] == ["/", "/data here", "/sshfs", "/home", "/ro", "/tmp", "/lv"]
    assert (SSHFS.is_fuse, SSHFS.connection, HOME.is_network, ROOT.is_block, SSHFS.is_block) == (
        True,
        40,
        True,
        True,
        False,
    )
    assert [m.read_only for m in MOUNTS] == [False, False, False, False, True, False, False]
    assert not parse_mounts(b"36 25 0:42 / /v rw - virtiofs host rw")[0].is_fuse


@pytest.mark.parametrize(
    ("functions", "changes", "cause"),
    [
        (("percpu_rwsem_wait",), True, Cause.FROZEN_FILESYSTEM),
        (("percpu_rwsem_wait",), False, Cause.LOCK),
        (("percpu_rwsem_wait", "mnt_want_write"), False, Cause.FROZEN_FILESYSTEM),
        (("percpu_rwsem_wait", "cgroup_attach_lock", "vfs_write"), True, Cause.LOCK),
        (("percpu_rwsem_wait", "copy_process", "kernel_clone"), False, Cause.LOCK),
        (("request_wait_answer", "fuse_flush"), False, Cause.FUSE_SILENT),
        (("fuse_lock_inode", "fuse_lookup"), False, Cause.FUSE_BEHIND),
        (("rpc_wait_bit_killable", "nfs4_proc_getattr"), False, Cause.NFS),
        (("folio_wait_bit_common", "nfs_wb_folio"), False, Cause.NFS),
        (("wait_for_response", "cifs_send_recv"), False, Cause.NETWORK_FILESYSTEM),
        (("kernel_clone", "__do_sys_vfork"), False, Cause.VFORK),
        (("wait_for_completion", "copy_process", "kernel_clone"), False, Cause.UNKNOWN),
        (("begin_new_exec", "load_elf_binary"), False, Cause.EXEC),
        (("do_task_stat", "proc_tgid_stat"), False, Cause.EXEC_BEHIND),
        (("__refrigerator", "get_signal"), False, Cause.V1_FROZEN),
        (("handle_userfault",), False, Cause.USERFAULTFD),
        (("coredump_task_exit", "do_exit"), False, Cause.CORE_DUMP),
        (("jbd2_log_wait_commit", "ext4_sync_file"), True, Cause.JOURNAL),
        (("balance_dirty_pages", "generic_perform_write"), True, Cause.WRITEBACK),
        (("folio_wait_bit_common", "do_swap_page"), False, Cause.MEMORY),
        (("mem_cgroup_handle_over_high",), False, Cause.MEMORY),
        (("folio_wait_bit_common", "filemap_read"), False, Cause.BLOCK_IO),
        (("blk_mq_get_tag", "__blk_mq_alloc_requests"), False, Cause.BLOCK_IO),
        (("tty_wait_until_sent", "tty_ioctl"), False, Cause.DEVICE),
        (("rtnetlink_rcv_msg", "netlink_rcv_skb"), False, Cause.LOCK),
        (("filename_create", "do_mkdirat"), True, Cause.LOCK),
        (("something_new", "filename_create"), True, Cause.UNKNOWN),
    ],
)
def test_which_functions_tell_which_cause(functions, changes, cause):
    assert cause_of(functions, changes=changes)[0] is cause


def test_every_rule_has_names_that_can_match():
    assert all(names.split() and all(name.strip("*") for name in names.split()) for _cause, names in RULES)


@pytest.mark.parametrize(
    ("functions", "answer"),
    [
        (("kernel_clone",), True),
        (("percpu_rwsem_wait", "mnt_want_write"), False),
        (("rpc_wait_bit_killable", "__wait_on_bit"), True),
        (("request_wait_answer", "fuse_flush"), None),
        (("something_new", "do_task_stat"), True),
        (("something_new", "a", "b", "c", "do_task_stat"), None),
        ((), None),
    ],
)
def test_what_ends_by_sigkill(functions, answer):
    assert killable(functions) is answer


def test_a_directory_descriptor_does_not_say_where_a_path_leads():
    assert (calls.name(262, "x86_64"), calls.name(79, "aarch64"), calls.name(0, "vax")) == (
        "newfstatat",
        "newfstatat",
        "",
    )
    assert calls.descriptor("newfstatat", (3, 0, 0, 0, 0, 0)) is None
    assert calls.descriptor("write", (0xFFFFFFFF00000004, 0, 0, 0, 0, 0)) == 4
    assert calls.descriptor("write", (0xFFFFFFFF,)) is None


def test_names_that_compilers_made_count_as_those_of_the_source():
    assert only(thread(1, "begin_new_exec.isra.0", "load_elf_binary")).cause is Cause.EXEC


# -- what is waited for ------------------------------------------------------------------------------------------------


def test_a_descriptor_names_the_frozen_filesystem_and_others_follow():
    group = only(
        thread(1, *FREEZE, call="mkdir"),
        thread(2, "percpu_rwsem_wait", "vfs_write", call="write", mount=DATA, target="/x"),
    )
    assert (group.place.name, group.place.certain, group.waiters) == ("/data here", True, 2)
    first, second = sorted(group.findings)
    assert (first.place.certain, second.place.certain) == (False, True)
    assert advice(group) == (
        ["nsenter --mount=/proc/1/ns/mnt fsfreeze --unfreeze '/data here'"],
        "SIGKILL would only stay pending until the wait ends by itself: not offered",
    )
    assert advice(group, WORLD._replace(own_mounts=(DATA.number,)))[0] == ["fsfreeze --unfreeze '/data here'"]


def test_without_a_descriptor_the_filesystem_is_one_of_several():
    group = only(thread(1, *FREEZE, call="mkdir"))
    assert not group.place.kind
    assert [m.device for m in stuck.candidates(group.findings[0], WORLD)] == ["8:1", "8:2", "253:3"]


def test_a_suspended_device_names_its_filesystem():
    world = World({}, {"253:3": "vg-lv"})
    group = only(thread(1, *FREEZE, call="mkdir"), world=world)
    assert (group.place.name, advice(group, world)[0]) == ("/lv", ["dmsetup resume vg-lv"])


def test_a_connection_that_owes_nothing_is_not_waited_for():
    waiting = thread(1, "request_wait_answer", state="S", call="stat")
    assert only(waiting).place.name == "/sshfs"
    assert not only(waiting, world=World({40: Connection(0, (), exact=False)}, {})).place.kind


def test_a_stopped_daemon_is_woken_first_and_one_of_many_is_not_ended():
    waiting = thread(1, "request_wait_answer", state="S", call="stat")
    stopped = World({40: Connection(1, (Someone(77, b"sshfs", "T"),), exact=True)}, {})
    assert advice(only(waiting, world=stopped), stopped)[0][:2] == ["kill -CONT 77", "kill -KILL 77"]
    unsure = World({40: Connection(1, (Someone(77, b"a", "S"), Someone(78, b"b", "S")), exact=False)}, {})
    commands, kill = advice(only(waiting, world=unsure), unsure)
    assert commands == ["echo 1 > /sys/fs/fuse/connections/40/abort"]
    assert "not offered" in kill


def test_who_waits_for_the_lock_of_a_directory_is_behind_the_filesystem_that_is_stuck():
    lead = thread(1, "request_wait_answer", state="S", call="stat")
    behind = thread(2, "filename_create", "do_mkdirat", call="mkdir")
    alone = only(behind)
    assert alone.cause is Cause.LOCK
    group = only(lead, behind)
    assert (group.cause, group.waiters) == (Cause.FUSE_SILENT, 2)
    assert {f.cause for f in group.findings} == {Cause.FUSE_SILENT, Cause.FUSE_BEHIND}
    assert len(groups(lead, thread(3, "rtnetlink_rcv_msg", call="sendmsg"))) == 2
    assert len(groups(lead, thread(4, "filename_create", call="mkdir", mounts=(ROOT,)))) == 2
    elsewhere = thread(5, "iterate_dir", call="getdents64", mount=DATA, target="/data here")
    assert len(groups(lead, elsewhere)) == 2


def test_nfs_ends_by_force_or_by_sigkill():
    group = only(thread(1, "rpc_wait_bit_killable", "nfs_getattr", call="stat"))
    assert group.place.mount == HOME
    assert advice(group, WORLD._replace(own_mounts=(HOME.number,)))[0] == ["", "umount -f /home", "kill -KILL 1"]


def test_a_thread_of_the_kernel_and_one_whose_sigkill_waits_are_not_killed():
    for odd in ({"kernel": True}, {"kill_pending": True}):
        group = only(thread(1, "rpc_wait_bit_killable", call="stat", **odd))
        assert group.findings[0].kill is False
        assert not any("kill" in command for command in advice(group)[0])


def test_what_wakes_in_between_is_transient_and_comes_last():
    waits = [thread(n, "folio_wait_bit_common", call="read", same=False) for n in (1, 2, 3)]
    found = groups(*waits, thread(9, *FREEZE, call="mkdir"))
    assert [g.cause for g in found] == [Cause.FROZEN_FILESYSTEM, Cause.TRANSIENT]
    assert advice(found[1])[1] == "not needed"


def test_a_frozen_cgroup_counts_more_than_where_its_members_slept():
    group = only(
        thread(1, "hrtimer_nanosleep", cgroup="/c/freezer/a"), thread(2, "kernel_clone", cgroup="/c/freezer/a")
    )
    assert (group.cause, group.waiters) == (Cause.V1_FROZEN, 2)
    assert advice(group)[0] == ["echo THAWED > /c/freezer/a/freezer.state"]


def test_a_disk_has_no_remedy_short_of_it():
    found = unstick.remedy(only(thread(1, "blk_mq_get_tag", call="read", mount=DATA, target="/x")), WORLD)
    assert not found.steps
    assert found.none.startswith("none short of the device (/dev/sdb)")
    assert "stay pending" in found.kill


@pytest.mark.parametrize("blind", ["it takes root", ""])
def test_what_is_not_known_says_why(blind):
    functions = () if blind else ("something_new",)
    found = unstick.remedy(only(thread(1, *functions, blind=blind)), WORLD)
    assert not found.steps
    assert found.none == f"not known: {blind or 'nothing is known here of the function that it sleeps in'}"
    assert "not offered" in found.kill


def test_most_waiters_come_first():
    one = thread(1, "handle_userfault", state="S")
    two = [thread(n, "rpc_wait_bit_killable", call="stat") for n in (2, 3)]
    assert [g.waiters for g in groups(one, *two)] == [2, 1]


# -- the kernel's log --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "tid", "blocker"),
    [
        (
            b"INFO: task stuck:13423 <writer> blocked on an rw-semaphore likely owned by task a b:13422 <reader>",
            13423, Blocker("rw-semaphore", Someone(13422, b"a b")),
        ),
        (
            b"INFO: task x:5 is blocked on a mutex likely owned by task y:6.", 5, Blocker("mutex", Someone(6, b"y")),
        ),
    ],
)  # fmt: skip
def test_owners_that_the_kernels_log_names(line, tid, blocker):
    assert parse_blocked(line) == (tid, blocker)
    group = only(thread(tid, "filename_create", call="mkdir", blocker=blocker), world=NOTHING)
    assert group.waits_for == (blocker.owner,)
    assert not group.nobody
    assert parse_blocked(b"INFO: task x:5 is blocked on a mutex, but the owner is not found.") is None
    assert only(thread(tid, "filename_create", call="mkdir"), world=NOTHING).nobody

"""What the names of kernel functions say of a sleep: what is waited for, and whether SIGKILL ends it. Pure.

``D`` in /proc does not tell the two kinds apart (TASK_UNINTERRUPTIBLE, TASK_KILLABLE), so the functions have to. Those
named here were read in the source of Linux 6.1 to 6.18, some of older kernels; one that is not named is unknown.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Cause(StrEnum):
    """Why a thread does not wake up."""

    FROZEN_FILESYSTEM = "frozen-filesystem"
    FUSE_SILENT = "fuse-silent"
    FUSE_BEHIND = "fuse-behind"
    NFS = "nfs"
    NETWORK_FILESYSTEM = "network-filesystem"
    VFORK = "vfork"
    EXEC = "exec"
    EXEC_BEHIND = "exec-behind"
    V1_FROZEN = "v1-frozen"
    USERFAULTFD = "userfaultfd"
    CORE_DUMP = "core-dump"
    JOURNAL = "journal"
    WRITEBACK = "writeback"
    MEMORY = "memory"
    LOCK = "lock"
    BLOCK_IO = "block-io"
    DEVICE = "device"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"


# What is waited for, in words: somebody waits for …
TITLES = {
    Cause.FROZEN_FILESYSTEM: "a frozen filesystem",
    Cause.FUSE_SILENT: "a FUSE filesystem whose daemon does not answer",
    Cause.FUSE_BEHIND: "a FUSE filesystem, behind somebody who waits for its daemon",
    Cause.NFS: "an NFS server",
    Cause.NETWORK_FILESYSTEM: "a network filesystem's server",
    Cause.VFORK: "a vfork child that has neither called exec nor ended",
    Cause.EXEC: "an execve that does not get on",
    Cause.EXEC_BEHIND: "a process that is stuck within execve, to read of it",
    Cause.V1_FROZEN: "a frozen cgroup (v1) to be thawed",
    Cause.USERFAULTFD: "memory that its userfaultfd handler does not fill",
    Cause.CORE_DUMP: "a core dump",
    Cause.JOURNAL: "a filesystem's journal",
    Cause.WRITEBACK: "write-back",
    Cause.MEMORY: "memory: swap or reclaim",
    Cause.LOCK: "a lock of the kernel",
    Cause.BLOCK_IO: "a block device",
    Cause.DEVICE: "a device or its driver",
    Cause.TRANSIENT: "something for a short while (asleep anew at the second look)",
    Cause.UNKNOWN: "something that is not known, and may not be the same",
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The first rule of which a function is on the stack: full names, and beginnings that end in *.
RULES: tuple[tuple[Cause, str], ...] = (
    (Cause.V1_FROZEN, "__refrigerator refrigerator"),
    (Cause.FUSE_SILENT, "request_wait_answer fuse_get_req fuse_request_wait_answer fuse_uring_*"),
    (Cause.USERFAULTFD, "handle_userfault"),
    (Cause.NFS, "nfs_* nfs3_* nfs4_* nfs41_* rpc_* __rpc_* xprt_* nlmclnt_*"),
    (Cause.NETWORK_FILESYSTEM, "cifs_* smb2_* SMB2_* ceph_* __ceph_* p9_* v9fs_* afs_* ll_* ldlm_* netfs_*"),
    (Cause.FUSE_BEHIND, "fuse_lock_inode fuse_* __fuse_*"),
    (Cause.CORE_DUMP, "coredump_task_exit do_coredump vfs_coredump wait_for_dump_helpers"),
    (Cause.EXEC, "begin_new_exec de_thread exec_mmap prepare_bprm_creds"),
    (Cause.EXEC_BEHIND, "lock_trace mm_access ptrace_attach do_task_stat do_io_accounting proc_pid_*"),
    (Cause.MEMORY, "do_swap_page swap_* __swap_* read_swap_cache_async mem_cgroup_handle_over_high *reclaim*"),
    (Cause.MEMORY, "shrink_* try_to_free_* throttle_direct_reclaim __alloc_pages_slowpath* congestion_wait"),
    (Cause.JOURNAL, "jbd2_* start_this_handle wait_transaction_locked do_get_write_access wait_current_trans"),
    (Cause.JOURNAL, "xlog_* xfs_log_* btrfs_commit_transaction* wait_for_commit btrfs_wait_*"),
    (Cause.WRITEBACK, "balance_dirty_pages* wb_wait_for_completion sync_inodes_sb __writeback_* folio_wait_writeback*"),
    (Cause.WRITEBACK, "wait_on_page_writeback* wait_sb_inodes"),
    (Cause.DEVICE, "tty_* n_tty_* usb_* uart_* scsi_* nvme_* ata_* mmc_* snd_* drm_* nvidia_* flush_work __flush_work"),
    (
        Cause.BLOCK_IO,
        "io_schedule io_schedule_timeout bit_wait_io blk_* __blk_* submit_bio_wait __wait_on_buffer dio_* blkdev_* "
        "iomap_dio_* blkdev_issue_* folio_wait_bit* wait_on_page_bit* __folio_lock* __lock_page* md_* raid5_* dm_*",
    ),
)
# A wait for a lock, by the innermost function: that of a lock itself is hidden as a rule (it is __sched), so that who
# takes it comes first. Those of PATHS take the lock of a directory, or of a file.
_LOCKED = (
    "percpu_rwsem_wait rwsem_* down_* __mutex_* mutex_* __down* down rt_mutex_* rtnl_* rtnetlink_rcv_msg cgroup_* "
    "copy_process exit_signals lock_mount do_lock_mount namespace_lock do_madvise vm_mmap_pgoff __vm_munmap "
    "lock_mm_and_find_vma mmap_read_lock cpus_read_lock"
)
PATHS = _words(
    "d_alloc_parallel d_wait_lookup filename_create lookup_slow walk_component open_last_lookups path_openat "
    "do_unlinkat do_rmdir do_renameat2 lock_rename lock_two_directories iterate_dir vfs_fsync_range chown_common "
    "chmod_common do_truncate vfs_utimes vfs_setxattr ext4_buffered_write_iter ext4_file_write_iter "
    "ext4_file_read_iter xfs_ilock xfs_file_buffered_write btrfs_inode_lock generic_file_write_iter"
)
_FREEZES = _words(  # take sb_start_write() or mnt_want_write()
    "mnt_want_write mnt_want_write_file __mnt_want_write sb_start_write __sb_start_write file_start_write vfs_write "
    "vfs_fallocate vfs_copy_file_range do_splice_direct vfs_iter_write do_iter_write do_truncate do_sys_ftruncate "
    "filename_create path_openat do_unlinkat ext4_page_mkwrite xfs_filemap_page_mkwrite iomap_page_mkwrite "
    "do_page_mkwrite vfs_fileattr_set"
)
_NOT_FREEZES = ("cgroup_", "cpus_read", "cpuhp", "copy_process", "exit_signals", "uprobe", "dup_mm", "threadgroup")

# Whether SIGKILL ends a sleep in there. The innermost function that is named decides.
_KILLABLE = _words(
    "kernel_clone wait_for_vfork_done do_fork _do_fork rpc_wait_bit_killable nfs_wait_bit_killable "
    "nfs_wait_client_init_complete nfs4_wait_clnt_recover begin_new_exec de_thread fuse_get_req "
    "balance_dirty_pages mem_cgroup_handle_over_high filemap_update_page __folio_lock_killable "
    "folio_wait_writeback_killable down_read_killable down_write_killable mutex_lock_killable "
    "__mutex_lock_killable_slowpath down_killable __down_killable wait_for_completion_killable "
    "lock_trace mm_access do_task_stat proc_pid_wchan do_io_accounting iterate_dir vm_mmap_pgoff __vm_munmap "
    "lock_mm_and_find_vma do_madvise"
)
_UNKILLABLE = _words(
    "percpu_rwsem_wait __refrigerator fuse_lock_inode d_alloc_parallel d_wait_lookup coredump_task_exit "
    "filename_create lookup_slow walk_component open_last_lookups do_unlinkat do_rmdir lock_rename "
    "lock_two_directories generic_file_write_iter ext4_buffered_write_iter rtnl_lock namespace_lock "
    "jbd2_log_wait_commit start_this_handle wait_transaction_locked do_get_write_access wb_wait_for_completion "
    "sync_inodes_sb folio_wait_writeback __folio_lock __wait_on_buffer submit_bio_wait blk_mq_get_tag "
    "wait_for_completion_io wait_for_completion down_read down_write mutex_lock __mutex_lock_slowpath __down "
    "blk_mq_freeze_queue_wait __blk_mq_freeze_queue_wait bit_wait_io xlog_wait_on_iclog reclaim_throttle "
    "blkdev_issue_flush flush_work __flush_work do_page_mkwrite"
)
_NEAR = 4  # functions from the innermost one; those further out have long done their own waiting
LOCKS = {  # who takes a lock of the whole machine: what it is
    "rtnl_lock": "the lock of the network's configuration (RTNL)",
    "rtnetlink_rcv_msg": "the lock of the network's configuration (RTNL)",
    "cgroup_lock": "the lock of all cgroups",
    "cgroup_kn_lock_live": "the lock of all cgroups",
    "cgroup_attach_lock": "the lock of all cgroups' members",
    "cgroup_can_fork": "the lock of all cgroups' members",
    "copy_process": "the lock of all cgroups' members",
    "exit_signals": "the lock of all cgroups' members",
    "namespace_lock": "the lock of all mounts",
    "cpus_read_lock": "the lock of processors that come and go",
    "mmap_read_lock": "the lock of a process's memory",
    "do_madvise": "the lock of a process's memory",
    "vm_mmap_pgoff": "the lock of a process's memory",
    "__vm_munmap": "the lock of a process's memory",
    "lock_mm_and_find_vma": "the lock of a process's memory",
}


def plain(function: str) -> str:
    """A function's name as its source has it, without what compilers add (``.constprop.0``, ``.isra.0``)."""
    return function.partition(".")[0]


def cause_of(functions: Sequence[str], *, changes: bool) -> tuple[Cause, str]:
    """The cause, and the function that tells it. `changes`: whether the system call may change a filesystem."""
    if functions and "percpu_rwsem_wait" in functions[:2]:
        if any(f.startswith(_NOT_FREEZES) for f in functions):
            return Cause.LOCK, functions[0]
        if changes or _FREEZES & set(functions):
            return Cause.FROZEN_FILESYSTEM, "percpu_rwsem_wait"
    if functions and functions[0] in ("kernel_clone", "wait_for_vfork_done", "_do_fork", "do_fork"):
        return Cause.VFORK, functions[0]
    for cause, names in RULES:
        for function in functions:
            if _matches(function, names):
                return cause, function
    if functions and (functions[0] in PATHS or _matches(functions[0], _LOCKED)):
        return Cause.LOCK, functions[0]
    return Cause.UNKNOWN, functions[0] if functions else ""


def _matches(function: str, names: str) -> bool:
    for name in names.split():
        if name == function or (name[-1] == "*" and name[0] != "*" and function.startswith(name[:-1])):
            return True
        if name[0] == "*" and name.strip("*") in function:
            return True
    return False


def killable(functions: Sequence[str]) -> bool | None:
    """Whether SIGKILL would end the sleep; None if no function on the stack is known to say."""
    for function in functions[:_NEAR]:
        if function in _KILLABLE:
            return True
        if function in _UNKILLABLE:
            return False
    return None


def lock_of(functions: Sequence[str]) -> str:
    """What lock of the whole machine it is, as far as the functions say; empty if they do not."""
    return next((LOCKS[f] for f in functions if f in LOCKS), "")

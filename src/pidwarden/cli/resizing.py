"""What `conntrack resize` does: reads the sizes, plans, and has it done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.act import ondisk
from pidwarden.cli import changing
from pidwarden.diagnose import owners, persist, resize, setting
from pidwarden.errors import NotPossible, UsageError
from pidwarden.kernel import conntrack, conntrack_size, ctmemory, sysctld, usage
from pidwarden.kernel.procfs import PAGE, PROC

if TYPE_CHECKING:
    import argparse


def facts() -> resize.Facts:
    """What is known of the table now.

    Raises:
        NotPossible: connection tracking is not here.
    """
    found = conntrack_size.read()
    if found is None:
        raise NotPossible(conntrack.missing() or f"{PROC}/{conntrack.SYSCTL} cannot be read; see `ls -l` of it")
    return resize.Facts(
        found.most, found.buckets, found.used, found.entry_bytes, usage.available(),
        ctmemory.BUCKET, PAGE // ctmemory.BUCKET,
    )  # fmt: skip


def run(args: argparse.Namespace, typed: str = "") -> int:
    """`typed` is the command for the record, if it was another. Exit codes: 0 done, so already or rehearsed; 1 refused.

    Raises:
        UsageError: a number that is none.
        NotPossible: connection tracking is not here, or only the first network namespace may write it.
        PidwardenError: it failed; all is as it was before.
    """
    now = facts()
    wanted = resize.Wanted(args.max, args.buckets)
    command = typed or "conntrack resize" + "".join(
        f" --{name} {n}" for name, n in (("max", args.max), ("buckets", args.buckets)) if n is not None
    )
    if args.max is None and args.buckets is None:
        wanted = resize.proposal(now)
        args.dry_run = True
    command += " --persist" * args.persist
    folder = f"{PROC}/{conntrack.SYSCTL}"
    try:
        plan = resize.plan(now, wanted, folder, below_use=args.below_use)
    except ValueError as why:
        msg = f"{why}; type `pidwarden conntrack resize` alone for a proposal"
        raise UsageError(msg) from why
    for step in plan.steps:
        changing.writable(step.target.path, "connection tracking")
    most, buckets = resize.sizes(now, wanted)
    lines, claims = changing.others(list(resize.KEYS.values()), args.root)
    ours = owners.Ours(resize.values(most, buckets), persist.sysctl_file(resize.NAME, args.root), args.persist)
    notes = list(plan.notes) + owners.warnings(ours, lines, claims)
    steps = plan.steps
    if args.persist:
        changing.of_the_machine("net", "connection tracking")
        files = [persist.sysctl(resize.NAME, command, resize.files_lines(most, buckets), args.root)]
        loadable = conntrack_size.loadable()
        if loadable:
            files.append(persist.module(resize.NAME, command, "nf_conntrack", args.root))
        steps += setting.file_steps(files, {f.path: ondisk.keep(f.path).text for f in files})
        module = files[-1].path if loadable else ""
        notes.append(persist.module_note(module, systemd=sysctld.booted_with_systemd(args.root)))
    return changing.carry_out(plan._replace(steps=steps, notes=tuple(notes)), args, command, ("net",))

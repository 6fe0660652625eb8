"""Every setting, its type, its default and the reason for it. `pidwarden config` prints a sample made from this."""

from __future__ import annotations

import re
import tomllib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pidwarden.errors import ConfigError, UsageError
from pidwarden.model import paths
from pidwarden.model.programs import SHELLS, SPAWNERS
from pidwarden.model.text import escape
from pidwarden.settings.lines import line_of
from pidwarden.settings.rules import Rules
from pidwarden.settings.tables import Tables

Mode = Literal["observe", "hold", "kill"]
Where = Literal["auto", "bpf", "connector", "poll"]
OnBomb = Literal["kill", "hold"]
OnBurst = Literal["release", "hold"]
Freeze = Literal["auto", "signal", "never"]
OnUnsure = Literal["hold", "release", "kill"]
GateName = Literal["auto", "lsm", "fmod_ret", "syscall"]
AtGate = Literal["hold", "refuse"]
RefuseWith = Literal["EAGAIN", "ENOMEM"]

DEFAULT_CONFIG = paths.CONFIG
DEFAULT_RUN_DIR = paths.RUN_DIR

Positive = Annotated[int, Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The configuration of a guard. Times are seconds, sizes are process-table slots unless the name says otherwise."""

    mode: Annotated[
        Mode,
        Meta(
            description="observe: only say what would be done. hold: hold a runaway and leave the decision to you. "
            "kill: kill the guilty subtree. Try observe for a day on a machine that matters."
        ),
    ] = "kill"
    grace: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seconds between the verdict and the kill, for a person to release the family. "
            "0: a held bomb harms nobody, but its memory stays in use while it waits.",
        ),
    ] = 0.0
    hold_at: Annotated[
        int,
        Meta(
            ge=4,
            le=1_000_000,
            description="Slots (processes, threads, zombies) that a branch may hold before it is "
            "held. 300 is more than a shell script or a parallel build of a few cores needs at a time, and little "
            "enough that a bomb is stopped within the first tenth of a second.",
        ),
    ] = 300
    family_hold_at: Annotated[
        int,
        Meta(
            ge=0,
            le=4_000_000,
            description="The same for a whole family, whose slow growth founds many branches. "
            "0: one and a half times hold_at. What a family has when the guard starts comes on top.",
        ),
    ] = 0
    generations: Annotated[
        int,
        Meta(
            ge=8,
            le=1_000_000,
            description="Forks in a row, each by a process younger than branch_age, before a "
            "branch is held: what a fork-and-exit chain has instead of members. Honest work stays below 20.",
        ),
    ] = 150
    branch_age: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="Seconds a process must have lived for each of its children to found a branch. "
            "A fast bomb is one branch; its old parent and that parent's other children are not in it.",
        ),
    ] = 1.0
    job_gap: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="Seconds: children that an interactive shell forks closer together than this are "
            "one job and one family: a pipeline, or a loop typed at the prompt.",
        ),
    ] = 1.0
    gate: Annotated[
        GateName,
        Meta(
            description="Where forks of a held family are stopped. auto: the first of the others that this machine has "
            "(`pidwarden doctor` shows them). lsm and fmod_ret see every way into fork; syscall does not see 32-bit "
            "calls before something is held."
        ),
    ] = "auto"
    at_gate: Annotated[
        AtGate,
        Meta(
            description="hold: a held fork waits, nobody sees an error, and it proceeds when the family is released. "
            "refuse: it fails, for programs that handle that better than waiting. A refused bomb tries again without "
            "end and burns processor time until it is killed (260,000 tries in 4 s were seen), and a program that does "
            "not check for fork's -1 may take it for a process id and signal everybody. Not with the syscall gate."
        ),
    ] = "hold"
    refuse_with: Annotated[
        RefuseWith,
        Meta(
            description="The error that a refused fork gets. EAGAIN: what a limit on processes answers; bash tries "
            "again for 14 s and waits meanwhile. ENOMEM: bash and many others give up at once."
        ),
    ] = "EAGAIN"
    min_members: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="The least score of a subtree that can be guilty. The kernel patch of 2011 hard-coded ten.",
        ),
    ] = 10
    on_bomb: Annotated[
        OnBomb,
        Meta(
            description="What happens to a bomb in mode kill: kill, after `grace` seconds, or hold, for a person "
            "(`pidwarden release|kill FAMILY`)."
        ),
    ] = "kill"
    on_burst: Annotated[
        OnBurst,
        Meta(
            description="What happens to what looks like honest work: release lets it go with a larger budget and "
            "watches it; hold keeps it for a person, on a machine where nothing may ever need that much."
        ),
    ] = "release"
    on_unsure: Annotated[
        OnUnsure,
        Meta(
            description="What happens to a family the judge is not sure of, in mode kill: hold keeps it held for a "
            "person, release lets it go with a larger budget, kill kills it as a bomb. Held, it harms nobody, and "
            "nothing is lost."
        ),
    ] = "hold"
    unsure_timeout: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="Seconds after which a hold for a person ends by itself, with what `unsure_then` says. "
            "0: it waits for a person for ever.",
        ),
    ] = 0.0
    unsure_then: Annotated[
        Literal["release", "kill"],
        Meta(description="What happens after `unsure_timeout`: release (with a larger budget) or kill."),
    ] = "release"
    burst_growth: Annotated[
        float,
        Meta(
            gt=1,
            le=100,
            description="What is taken for a burst is released with a budget larger by this factor, and watched "
            "again. 4, so that a pool of a thousand threads made at once is held only once.",
        ),
    ] = 4.0
    doubtful_growth: Annotated[
        float,
        Meta(
            gt=1,
            le=100,
            description="The same where a burst smells of a bomb, and for the second burst in a row. Below 2, so "
            "that what is found to be a bomb the second time ends at less than twice hold_at.",
        ),
    ] = 1.9
    burst_memory: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="Seconds without a new alarm after which a family's earlier bursts are forgotten.",
        ),
    ] = 30.0
    slow_after: Annotated[
        float,
        Meta(
            gt=0,
            le=86_400,
            description="Seconds. Threads or zombies that took longer are a leak or a load: a person decides.",
        ),
    ] = 10.0
    kill_timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=600,
            description="Seconds after which members that still run (in D state, say) are reported as "
            "survivors. They stay held and signalled.",
        ),
    ] = 2.0
    at_stop: Annotated[
        Literal["release", "leave"],
        Meta(
            description="What a guard does on SIGTERM with what it holds. release: nothing stays held, nor in "
            "the kernel. leave: all stays as it is for the next guard, or for `pidwarden guard --detach`, as if it had "
            "been lost: for a service that is restarted."
        ),
    ] = "release"
    lost_after: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="Seconds after which a guard that gives no sign of life is lost: killed, stopped or stuck. "
            "Long enough for a service manager to start another, which takes over all that is held.",
        ),
    ] = 30.0
    lost_then: Annotated[
        Literal["release", "keep"],
        Meta(
            description="What the kernel does then. release: nobody is held longer than `lost_after` without a guard; "
            "each hold is let go with twice the room it had, so a bomb stops again a little later. keep: what is held "
            "stays held until a guard comes or somebody types `pidwarden guard --detach`, and nothing new is held."
        ),
    ] = "release"
    freeze: Annotated[
        Freeze,
        Meta(
            description="Whether the guilty part of a family that waits (for a person, or for `grace` to pass) is "
            "frozen, so that it uses no processor, and not only held in front of its forks. auto: a bomb by the "
            "freezer of its cgroup where that has nobody else in it, and otherwise by SIGSTOP; what may be innocent "
            "always by SIGSTOP, because a frozen cgroup stays frozen if the guard is killed and not started again. "
            "signal: SIGSTOP only. never: only held."
        ),
    ] = "auto"
    quarantine: Annotated[
        bool,
        Meta(
            description="Whether a bomb that shares its cgroup may be moved into a new cgroup below that one to be "
            "frozen, and back when it is released. Its limits and its unit stay. Off, because systemd and container "
            "engines regard cgroups as theirs alone, and SIGSTOP does nearly as well. Never done where a cgroup is "
            "delegated, threaded, a container's, or passes controllers on."
        ),
    ] = False
    history: Annotated[
        bool,
        Meta(
            description="Whether processes that exited stay in the history for a while although nobody descends from "
            "them. Ancestors of the living stay in any case."
        ),
    ] = True
    history_window: Annotated[
        float,
        Meta(
            gt=0,
            le=86_400,
            description="Seconds for which they stay. While the number of slots rises, memory is short, an "
            "out-of-memory kill has happened or a family is held, they stay longer, as far as max_records reaches. "
            "The kernel patch of 2011 had 30: long enough to ask about what just happened.",
        ),
    ] = 30.0
    source: Annotated[
        Where,
        Meta(
            description="How families are known. bpf: programs in the kernel, which also hold. connector: process "
            "events over netlink. poll: /proc, again and again. auto: the first of these that works here; the reasons "
            "of those that do not are in the log and in `pidwarden status`."
        ),
    ] = "auto"
    max_records: Annotated[
        int,
        Meta(
            ge=1024,
            le=4_194_304,
            description="Processes, threads and groups that the kernel side can remember; "
            "allocated at start, about 400 bytes each, because a guard that has to ask for memory in the middle of a "
            "bomb would be refused.",
        ),
    ] = 65_536
    spawners: Annotated[
        tuple[str, ...],
        Meta(
            description="Executables each of whose children founds a family of its own. Paths that do not exist here "
            "are passed over; an executable is recognised by device and inode, so a copy under the same name is not."
        ),
    ] = SPAWNERS
    shells: Annotated[
        tuple[str, ...],
        Meta(description="Executables that are spawners while they lead a session that has a terminal."),
    ] = SHELLS
    protect_executables: Annotated[
        tuple[str, ...],
        Meta(description="Executables whose processes are never killed, recognised by device and inode."),
    ] = ()
    protect_users: Annotated[
        tuple[str, ...],
        Meta(description="Users whose processes are never killed."),
    ] = ()
    protect_cgroups: Annotated[
        tuple[str, ...],
        Meta(
            description="Cgroups whose processes, and those of the cgroups below, are never killed: paths as "
            "/proc/PID/cgroup shows them, in any hierarchy."
        ),
    ] = ()
    protect_units: Annotated[
        tuple[str, ...],
        Meta(
            description="Units of the system's systemd whose processes are never killed, such as "
            '"postgresql.service" or "backup.slice"; a user\'s own units are not meant, anybody can name those.'
        ),
    ] = ()
    run_dir: Annotated[
        str,
        Meta(
            pattern="^/[A-Za-z0-9_./-]+$",
            description="Where the guard's socket lies; its last part also names the pins below /sys/fs/bpf.",
        ),
    ] = DEFAULT_RUN_DIR
    rules: Annotated[
        Rules,
        Meta(description="What the guard looks after besides runaways. All off: a guard does what it was started for."),
    ] = Rules()
    tables: Annotated[
        Tables,
        Meta(description="When a table of the kernel is too full: for `pidwarden tables` and the rule `tables`."),
    ] = Tables()

    def __post_init__(self) -> None:
        for path in self.protect_cgroups:
            if not path.startswith("/") or "\0" in path:
                msg = f"{path!r} is no cgroup's path; type it as `cat /proc/PID/cgroup` shows it, from the first slash"
                raise ValueError(f"{msg} - at `$.protect_cgroups`")
        for unit in self.protect_units:
            if not re.fullmatch(r"[^/\s\0]+\.(service|scope|slice)", unit):
                msg = f"{unit!r} is no unit with processes; type its name as `systemctl status PID` shows it"
                raise ValueError(f"{msg}, such as postgresql.service - at `$.protect_units`")

    @property
    def family_limit(self) -> int:
        """``family_hold_at``, or what 0 stands for."""
        return self.family_hold_at or self.hold_at * 3 // 2


def parse(text: str, where: str) -> Settings:
    """Settings out of TOML text; `where` names its source in errors.

    Raises:
        ConfigError: not TOML, an unknown key, or a value of the wrong type or range, each with its line.
    """
    try:
        return msgspec.convert(tomllib.loads(text), Settings)
    except tomllib.TOMLDecodeError as why:
        what = f"{where}: not valid TOML: {_shown(why)}"
    except msgspec.ValidationError as why:
        what = f"{where}{line_of(text, str(why))}: {_shown(why)}"
    msg = f"{what}; nothing was changed. `pidwarden config` prints a sample"
    raise ConfigError(msg)


def _shown(why: Exception) -> str:
    """A library's message, which may quote what somebody wrote into the file."""
    return escape(str(why).encode("utf-8", "backslashreplace"))


def load(path: str) -> Settings:
    """Settings out of a file.

    Raises:
        ConfigError: it cannot be read or is not valid.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as why:
        msg = f"cannot read the configuration {path}: {why}; `pidwarden config > {path}` writes a sample"
        raise ConfigError(msg) from why
    return parse(text, path)


def replace(settings: Settings, **changes: object) -> Settings:
    """A copy with some settings changed, checked as a file would be.

    Raises:
        UsageError: a value is out of range.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(settings) | changes, Settings)
    except msgspec.ValidationError as why:
        raise UsageError(str(why)) from why

"""What the guard needs of whoever knows the families. The BPF side (`kernel.bpf.Programs`) is one; see also `choose`.

A source keeps a record per process, alive or dead, and counts the slots of families and branches. It says when one
crosses its limit. Whether it can also stop forks by itself is `gated`: if not, whoever holds has to stop processes
(`act.sweep`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.kernel.config import Config
    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Counters, Group, Record, Signal


class Source(Protocol):
    """Records, families and branches, and what can be told about them. Times are ns since boot."""

    @property
    def name(self) -> str:
        """Its name in the setting `source`."""

    @property
    def how(self) -> str:
        """How it knows families, for `ready`, `status` and `doctor`."""

    @property
    def gated(self) -> bool:
        """Whether a held group's forks are stopped in the kernel."""

    @property
    def keeps_scope(self) -> bool:
        """Whether users and cgroups that are chosen are kept here: others count for no limit and are not held."""

    # -- in the guard's loop ---------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable when there is something to read; -1: nothing tells, look at `next_ns`."""

    def next_ns(self) -> int | None:
        """When it has to be read at the latest, None: not before its descriptor is readable."""

    def signals(self) -> Iterator[Signal]:
        """What happened since the last time; never blocks."""

    def configure(self, config: Config) -> None:
        """Sets the thresholds for groups born from now on."""

    def set_executables(self, flags: dict[tuple[int, int], int]) -> None:
        """Which executables are spawners, shells or protected: (kernel device number, inode) to ProcFlag bits."""

    def begin_lease(self) -> bool:
        """From here on somebody else ends what is held when nothing is asked or told. False: nobody does."""

    def seen(self) -> None:
        """Renews the lease, as every question does."""

    def take_notes(self) -> list[str]:
        """What a person should know and was not told: that it fell back to another way."""

    def close(self) -> None:
        """Ends it. May be called twice."""

    # -- ask -------------------------------------------------------------------------------------------------------

    def records(self, *families: int) -> list[Record]:
        """Every process known, alive or dead; or those of up to three families."""

    def lineage(self, *families: int) -> list[Record]:
        """Who holds a slot in up to three families (none: in any), and of the dead only their ancestors there."""

    def hidden(self, *families: int) -> list[Record]:
        """The living of up to three families that have no record, for want of room."""

    def stopped(self) -> list[Record]:
        """Those that were stopped for a hold and that nobody has continued since."""

    def dump_records(self) -> memoryview:
        """Everybody, as bytes of struct pw_dump; to be released before the next question."""

    def groups(self) -> dict[int, Group]:
        """Families and branches by id."""

    def group(self, group: int) -> Group | None:
        """One family or branch, None if it is gone."""

    def record(self, key: ProcessKey) -> Record | None:
        """One process, None if nothing is known of it."""

    @property
    def max_records(self) -> int:
        """How many processes can have a record."""

    @property
    def ceiling(self) -> int:
        """Bytes that the books take at most."""

    def counters(self) -> Counters:
        """What was counted, losses included."""

    @property
    def left_out(self) -> int:
        """How often the kernel did not tell, or did not ask the gate, as far as it says so; later looks repair it."""

    # -- tell ------------------------------------------------------------------------------------------------------

    def hold(self, group: int) -> bool:
        """Stops the group's forks, or marks it to be swept. False if it is gone."""

    def release(self, group: int, *, limit: int = 0, depth_limit: int = 0) -> bool:
        """Lets the group's forks proceed, with new limits if given; those already stopped want SIGCONT as well."""

    def set_limit(self, group: int, limit: int = 0, depth_limit: int = 0) -> bool:
        """New limits; 0 leaves one as it is."""

    def split(self, of: int, founder: ProcessKey) -> int:
        """A new family beside `of`, held and watched from birth; its id, 0 if that failed."""

    def move(self, key: ProcessKey, group: int) -> bool:
        """Moves a process and its slots into a family."""

    def settle(self) -> None:
        """Takes those that are reaped already off every count of slots."""

    def seed(self) -> int:
        """Sets the books right by a look at every process; how many were enrolled so far."""

    def sweep(self, cutoff_ns: int, early_ns: int = 0) -> int:
        """Forgets dead leaves that exited before `cutoff_ns`, in large families before `early_ns`; how many went."""

    def unfold(self, now_ns: int) -> None:
        """Gives those that are only counted records of their own again, as far as there is room for them."""

    def doubt(self, group: int) -> None:
        """Notes for a successor that a watched group is not held as a bomb, but for a person to decide."""

    def forget(self, group: int) -> None:
        """Stops watching a group; it goes when it is empty."""

    def flag(self, key: ProcessKey, flags: int, clear: int = 0) -> bool:
        """Sets and clears marks of a process."""

    def unstop(self, key: ProcessKey) -> None:
        """Forgets that the process was stopped."""

    def mark_stopped(self, key: ProcessKey) -> None:
        """Notes that the guard has stopped a process: whatever continues those stopped for a hold continues it."""


class Swept(Source, Protocol):
    """A source without a gate, as `act.sweep` needs it: who has to be stopped, and that it was done."""

    def refresh(self) -> None:
        """Reads what happened since the last time, as `signals` does, and keeps the signals."""

    def loose(self) -> list[ProcessKey]:
        """Living members of held groups that grow and are not stopped; start times may not be checked yet."""

    def fresh(self, families: set[int] | None = None) -> list[ProcessKey]:
        """Whoever was born into a held group since the last call, or into one of these families."""

    def confirm(self, key: ProcessKey) -> bool:
        """SIGSTOP was sent to this pid: whether that was the process of this key. From then on it counts as stopped."""

    def recheck(self, most: int) -> int:
        """Looks at so many of those that were stopped, in turn, whether they still are; how many are not."""

    def whole_process_groups(self) -> list[int]:
        """Process groups in which nobody is but members of held groups that may be stopped, one of them loose."""

    def is_whole_user(self, uid: int) -> bool:
        """The same of all processes of a user, ourselves apart."""

    def note_stopped(self, *, process_groups: list[int], uid: int | None) -> list[ProcessKey]:
        """After such groups were stopped: their members count as stopped. Who else was hit, and wants SIGCONT."""

    def alarm_again(self, group: int) -> None:
        """Raises the alarm of a group anew, if it is there, has none, and half of its members want to run."""

    def interrupts(self) -> list[ProcessKey]:
        """Interactive shells whose job is held and that forked meanwhile, each once: they want SIGINT."""

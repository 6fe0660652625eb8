"""What the guard may look after besides runaways: zombies, orphans, stuck tasks, room, tables. All off as shipped."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Acting = Literal["off", "dry-run", "act"]
Telling = Literal["off", "warn"]
Step = Literal["sigchld", "sigcont", "sigterm", "sigkill"]
STEPS: tuple[Step, ...] = ("sigchld", "sigcont", "sigterm", "sigkill")  # each is allowed with those before it


class ZombieRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Zombies that a parent owes a wait: say so, and climb the ladder as far as is allowed."""

    mode: Annotated[
        Acting,
        Meta(
            description="dry-run: say who has too many, and what would be done. act: do it. Off, because a parent may "
            "be about to wait, and nobody but its owner knows."
        ),
    ] = "off"
    count: Annotated[
        int,
        Meta(
            ge=1,
            le=4_000_000,
            description="Zombies of one parent that are told of. 100 cost nothing yet (8 KB each), and no program that "
            "waits for its children has as many for longer than a moment.",
        ),
    ] = 100
    age: Annotated[
        float,
        Meta(
            ge=0,
            le=31_536_000,
            description="Seconds that the oldest zombie of a parent may have been dead, however few there are. 0: age "
            "alone is nothing. An hour is longer than any program puts off a wait that it means to do.",
        ),
    ] = 3600.0
    up_to: Annotated[
        Step,
        Meta(
            description="The last step of the ladder in mode act. sigchld: only remind a parent that has a handler for "
            "it. sigcont: also continue a parent that is stopped, unless it is traced, held by this guard, or a "
            "terminal's job that somebody may have paused. sigterm: also end a parent that none of that helped, so "
            "that init reaps. sigkill: the same for one that does not end. Reminding harms nobody; ending is yours to "
            "allow."
        ),
    ] = "sigchld"


class OrphanRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Processes whose founder died and that no service or session answers for."""

    mode: Annotated[
        Telling,
        Meta(description="warn: say so. The guard ends no orphan: whether it was meant to stay, a person decides."),
    ] = "off"
    count: Annotated[
        int,
        Meta(
            ge=1,
            le=4_000_000,
            description="Leaked orphans of one family that are told of. 20: a job that leaks one at each run is told "
            "of before it matters, and two helpers of a desktop are not.",
        ),
    ] = 20
    age: Annotated[
        float,
        Meta(
            ge=0,
            le=31_536_000,
            description="Seconds that an orphan must have lived to count. A minute, because who is about to end often "
            "outlives its founder by a moment.",
        ),
    ] = 60.0


class StuckRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Processes in D state that have not run since."""

    mode: Annotated[
        Telling, Meta(description="warn: say so. No signal ends most of them; `pidwarden stuck` says what does.")
    ] = "off"
    age: Annotated[
        float,
        Meta(
            ge=1,
            le=31_536_000,
            description="Seconds in D state, without having run in between. 120 is what the kernel's own hung-task "
            "watch waits for; a slow disk takes seconds.",
        ),
    ] = 120.0


class HeadroomRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is left of the process table."""

    mode: Annotated[Telling, Meta(description="warn: say so, with the limit that binds first.")] = "off"
    free: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="The share of the tightest limit that should be free. A tenth: with a pid_max of 32768 that "
            "is room for one more build, or for a person to log in and look.",
        ),
    ] = 0.1
    full_in: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="Seconds until it is full, at the rate of the last ten minutes, below which it is told. 0: "
            "only the share counts. Half an hour is about what it takes to be called and to look.",
        ),
    ] = 1800.0


class TablesRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The kernel's other tables. How full is too full stands in the table `tables` of the configuration."""

    mode: Annotated[
        Telling,
        Meta(
            description="warn: say which table is nearly full, or will be at its rate, before anything is refused, and "
            "what to type. Nothing is resized."
        ),
    ] = "off"


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of them. Each is a table of its own."""

    every: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="Seconds between two looks. A look reads one small file a task, in slices of two milliseconds "
            "with pauses; a thousand tasks take some 20 ms, so every 10 s that is two thousandths of a processor. With "
            "very many tasks looks come less often, and take a tenth of one at the most.",
        ),
    ] = 10.0
    zombies: Annotated[
        ZombieRule, Meta(description="Zombies of one parent, by number or by age; `pidwarden zombies` says why.")
    ] = ZombieRule()
    orphans: Annotated[
        OrphanRule, Meta(description="Orphans that leaked, by family; `pidwarden orphans` says whose they were.")
    ] = OrphanRule()
    stuck: Annotated[StuckRule, Meta(description="Tasks in D state; `pidwarden stuck` says what they wait for.")] = (
        StuckRule()
    )
    headroom: Annotated[
        HeadroomRule, Meta(description="What is left before fork fails; `pidwarden why` says who fills it.")
    ] = HeadroomRule()
    tables: Annotated[
        TablesRule, Meta(description="Files, connections, neighbours, ports, keys …; `pidwarden tables` shows all.")
    ] = TablesRule()

    @property
    def on(self) -> tuple[str, ...]:
        """The names of those that are on."""
        modes = {
            "zombies": self.zombies.mode,
            "orphans": self.orphans.mode,
            "stuck": self.stuck.mode,
            "headroom": self.headroom.mode,
            "tables": self.tables.mode,
        }
        return tuple(name for name, mode in modes.items() if mode != "off")

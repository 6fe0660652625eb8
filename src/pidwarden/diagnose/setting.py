"""The plan of a change of one limit, by values: in which order, what it costs, what speaks against it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.model import limit
from pidwarden.model.limit import Scope
from pidwarden.model.plan import Plan, amount
from pidwarden.model.undo import Kind, Step, Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pidwarden.diagnose.persist import ConfigFile
    from pidwarden.model.limit import Named, Setting

_COUNTED = ("max_", "keys.")  # of what is not counted here, that is in `pidwarden tables`
_MUCH = 2  # of what memory is available, that part may be promised without a question


class Facts(NamedTuple):
    """What is known of one limit now. ``targets`` and ``values`` are its places, one for each number that has a file.

    ``used`` slots, ``each`` bytes of one, ``available`` memory: None is not known. ``others`` are other limits that
    bind the same, by name.
    """

    named: Named
    targets: tuple[Target, ...]
    values: tuple[str, ...]
    used: int | None = None
    each: int | None = None
    available: int | None = None
    others: Mapping[str, int] = {}

    @property
    def value(self) -> str:
        """The value now, as one text."""
        return " ".join(" ".join(value.split()) for value in self.values)


def ordered(old: Sequence[str], new: Sequence[str]) -> list[int]:
    """The order in which numbers that go from low to high are changed, so that they never cross: places in `old`.

    What is raised comes first, the highest before the others; then what is lowered, the lowest first.
    """
    raised = [n for n in range(len(old)) if limit.order_of(new[n]) > limit.order_of(old[n])]
    lowered = [n for n in range(len(old)) if limit.order_of(new[n]) < limit.order_of(old[n])]
    return raised[::-1] + lowered


def live_steps(facts: Facts, wanted: str) -> tuple[Step, ...]:
    """The steps that change it now."""
    if len(facts.targets) == 1:
        [target], [old] = facts.targets, facts.values
        return () if old.split() == wanted.split() else (Step(target, old, wanted),)
    new = wanted.split()
    return tuple(Step(facts.targets[n], facts.values[n], new[n]) for n in ordered(facts.values, new))


def file_steps(files: Sequence[ConfigFile], there: Mapping[str, str | None]) -> tuple[Step, ...]:
    """The steps that write files; `there` is what they hold now, None: there is none."""
    return tuple(
        Step(Target(Kind.CONFIG, f.path), there.get(f.path), f.text) for f in files if there.get(f.path) != f.text
    )


def plan(facts: Facts, wanted: str, *, below_use: bool = False) -> Plan:
    """The plan for a value that :func:`pidwarden.model.limit.parse` took."""
    setting, name = facts.named.setting, facts.named.name
    steps = live_steps(facts, wanted)
    if not steps:
        return Plan(name, (), (f"{name} is {facts.value} already",))
    notes, questions, refusals = [], [], []
    lower = limit.lowers(setting, facts.value, wanted)
    if lower:
        questions.append(f"this lowers {name} from {facts.value} to {wanted}")
    allowed = limit.allows(setting, wanted)
    if facts.used is not None and allowed < facts.used:
        text = f"{facts.used} are in use and {wanted} would allow fewer: {_hurt(setting)}"
        if not lower:
            notes.append(f"{facts.used} are in use: this is more than before and still not enough")
        elif below_use:
            questions.append(text)
        else:
            refusals.append(f"{text}; add `--below-use` to set it all the same")
    elif lower and facts.used is None and setting.name.startswith(_COUNTED) and setting.name not in _NO_COST:
        notes.append("how many are in use is not known here: `pidwarden tables` counts them")
    refusals += _above(facts, wanted)
    if setting.scope is Scope.PROCESS and limit.order_of(wanted.split()[-1]) < limit.order_of(facts.value.split()[-1]):
        keep = f"{wanted.split()[0]}:{facts.value.split()[-1]}"
        notes.append(
            f"a hard limit that is lowered takes CAP_SYS_RESOURCE to be raised again; `{keep}` leaves it as it is"
        )
    cost = _cost(facts, wanted)
    if cost:
        notes.append(cost)
    if _too_much(facts, wanted):
        questions.append("used to the full, it would take more than half of the memory that is available")
    return Plan(name, steps, (*notes, *_advice(facts, wanted)), tuple(questions), tuple(refusals))


def _above(facts: Facts, wanted: str) -> list[str]:
    """What the kernel would refuse in words that do not say why: too many descriptors, ports of services."""
    first = facts.others.get("ip_unprivileged_port_start")
    if facts.named.setting.name == limit.PORTS and first is not None and limit.order_of(wanted.split()[0]) < first:
        return [f"ports below {first} are for services (net.ipv4.ip_unprivileged_port_start): begin there, or above"]
    most = facts.others.get("nr_open")
    if facts.named.setting.name != limit.NOFILE or most is None or limit.order_of(wanted.split()[-1]) <= most:
        return []
    return [f"no process may have more than nr_open, {most}: `pidwarden limits set nr_open NUMBER` comes first"]


def _hurt(setting: Setting) -> str:
    if setting.name in ("pid_max", "threads-max", limit.NPROC, limit.PIDS):
        return "nobody could fork, but nobody is ended"
    if setting.name == limit.CONNTRACK_MAX:
        return "none is thrown out, but new connections are dropped"
    if setting.name.endswith("gc_thresh"):
        return "neighbours are thrown out, and new ones fail with ENOBUFS"
    if setting.name == limit.NOFILE:
        return "those that are open stay, but it can open no more"
    return "those stay, but no more can be made"


def _more(facts: Facts, wanted: str) -> float:
    """Slots that it would allow beyond those of now."""
    before = limit.allows(facts.named.setting, facts.value)
    return limit.allows(facts.named.setting, wanted) - before


def _cost(facts: Facts, wanted: str) -> str:
    more = _more(facts, wanted)
    if more <= 0:
        return ""
    if facts.each is None:
        return _NO_COST.get(facts.named.setting.name, "what a slot costs is not known on this kernel")
    if more == float("inf"):
        return f"each takes {facts.each} bytes of kernel memory at least, and there is no limit to them"
    text = f"memory is taken as they are used: {facts.each} bytes each at least, {amount(int(more) * facts.each)} for "
    text += f"{int(more)} more"
    return text + (f", of {amount(facts.available)} available" if facts.available is not None else "")


_NO_COST = {
    "max_queued_events": "an event waits in 40 bytes or more, with the name of its file, until it is read",
    limit.PORTS: "ports cost nothing; those that services listen on belong into net.ipv4.ip_local_reserved_ports",
    "nr_open": "a table of descriptors takes 8 bytes for each that is used, and is twice as long while it grows",
    limit.NPROC: "a task takes what `limits set pid_max --dry-run` says",
    limit.NOFILE: "a descriptor takes 8 bytes, and an open file what `limits set file-max --dry-run` says",
}


def _too_much(facts: Facts, wanted: str) -> bool:
    """Whether it could take more than is there; what a process or a cgroup may have is bounded by others as well."""
    setting = facts.named.setting
    if facts.each is None or facts.available is None or setting.scope in (Scope.PROCESS, Scope.CGROUP):
        return False
    if setting.name in ("file-max", "pid_max", "max_user_watches"):  # nobody is held to use them, and others bind
        return False
    more = _more(facts, wanted)
    return more != float("inf") and more * facts.each * _MUCH > facts.available


def relations(found: Mapping[str, int]) -> list[str]:
    """What of several limits on tasks does nothing, because another is reached first."""
    notes = []
    pids, threads = found.get("pid_max"), found.get("threads-max")
    if pids is not None and threads is not None and pids != threads:
        first, second = ("threads-max", "pid_max") if threads < pids else ("pid_max", "threads-max")
        notes.append(f"{first} ({found[first]}) is reached before {second} ({found[second]}): to have more, raise both")
    tightest = min((v for v in (pids, threads) if v is not None), default=None)
    for name, value in found.items():
        if name.startswith(limit.PIDS) and tightest is not None and value < tightest:
            notes.append(f"{name} ({value}) is reached before those of the machine")
    return notes


def _advice(facts: Facts, wanted: str) -> list[str]:
    """How it stands to the other limits on the same tasks."""
    setting, found = facts.named.setting, []
    if setting.name not in ("pid_max", "threads-max", limit.PIDS, limit.NPROC):
        return []
    allowed = limit.allows(setting, wanted)
    for name, value in facts.others.items():
        about_tasks = name in ("pid_max", "threads-max") or name.startswith(limit.PIDS)
        if name == facts.named.name or not about_tasks or value >= allowed:
            continue
        if setting.scope is Scope.PROCESS and name.startswith(limit.PIDS):
            continue
        where = "of this session" if name.startswith(limit.PIDS) else "of the machine"
        enough = min(allowed, limit.CATALOGUE[name].high if name in limit.CATALOGUE else allowed)
        command = f"; `pidwarden limits set {name} {enough:.0f}`" if value < enough and allowed < float("inf") else ""
        found.append(f"{name} {where} is {value}: it is reached first{command}")
    return found

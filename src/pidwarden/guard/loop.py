"""The resident guard: one thread, one selector, nothing forked and nothing imported once it is ready."""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
from typing import TYPE_CHECKING, Any

from pidwarden import __version__
from pidwarden.errors import NotPossible, PidwardenError, UsageError
from pidwarden.guard import executables, waker
from pidwarden.guard.begin import UNLIMITED, Beginning, check_refusal, thresholds
from pidwarden.guard.capped import Capped
from pidwarden.guard.control import Bulk, Server
from pidwarden.guard.files import Files
from pidwarden.guard.harden import harden
from pidwarden.guard.headroom import Looks
from pidwarden.guard.instance import Instance
from pidwarden.guard.orders import Orders
from pidwarden.guard.overview import Overview
from pidwarden.guard.records import everything_known
from pidwarden.guard.respond import Responder
from pidwarden.guard.retention import Retention
from pidwarden.guard.scope import Scope, protection
from pidwarden.guard.succession import ask_for_handover, release_everything, take_over
from pidwarden.judge.case import SECOND
from pidwarden.kernel import procfs
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.record import GroupKind, ProcFlag, SignalKind
from pidwarden.settings import Settings, load, replace
from pidwarden.watch.choose import PROMISES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.guard.report import Reporter
    from pidwarden.guard.rules import Rules

_SIGNS_A_LEASE = 8  # signs of life that the guard gives while its lease runs, if it has nothing else to say
_HOUSEKEEPING_SECONDS = 60  # look again which files are spawners (packages are upgraded), note the headroom
_SHOWN_FAMILIES = 20
_HANDOVER_SECONDS = 15.0
_CHANGEABLE_NEEDS_RESTART = ("gate", "max_records", "run_dir", "source")


class Guard:
    """A guard from start to end; :meth:`run` returns the exit code."""

    def __init__(
        self, settings: Settings, scope: Scope, report: Reporter, *, config: str | None, overrides: dict[str, object]
    ) -> None:
        self.settings, self.scope, self.report = settings, scope, report
        self._config, self._overrides = config, overrides
        self._stop = False
        self._reload = False
        self._handed_over = False
        self._leave = False  # what is held when it ends stays held
        self._headroom = Looks()
        self._rules: Rules | None = None

    # -- life ------------------------------------------------------------------------------------------------------

    def run(self, *, replace: bool = False) -> int:
        """Guards until SIGTERM or SIGINT; with `replace`, in place of the guard that runs there now."""
        with contextlib.ExitStack() as stack:
            wake = stack.enter_context(self._signals())
            instance = Instance(self.settings.run_dir, scoped=not self.scope.everything and not replace)
            if replace:
                ask_for_handover(instance.directory)
                instance.patience = _HANDOVER_SECONDS
            self._instance = stack.enter_context(instance)
            self._begun = Beginning(self.settings, self.scope, self._instance.name)
            self._source, self._refused = self._begun.open()
            stack.callback(self._source.close)
            self._responder = Responder(self._source, self.settings, self.scope, self.report, self._instance.directory)
            self._retention = Retention(self._source, self.report)
            self._orders = Orders(self._responder, self._instance.directory)
            self._rules = self._make_rules(stack)
            stack.callback(self._make_files().close)
            stack.callback(self._end)
            stack.callback(self._files.withdraw)
            self._start()
            server = Server(self._instance.directory, self._handle)
            stack.callback(server.close)
            if self._begun.adopted:
                take_over(self._responder)
            self._responder.freezing.recover()
            self._leave = self._pinned  # if anything unforeseen happens: a crash must not let a bomb go
            self._serve(server, wake)
            self._leave = self._pinned and (self._handed_over or self.settings.at_stop == "leave")
        self.report("stopped")
        return 0

    def _make_rules(self, stack: contextlib.ExitStack) -> Rules | None:
        if not self.settings.rules.on:
            return None
        from pidwarden.guard.rules import Rules  # noqa: PLC0415  (a guard without rules has no use for it)

        rules = Rules(self._source, self._responder, self.scope, self.report)
        stack.callback(rules.close)
        return rules

    def _make_files(self) -> Files:
        overview = Overview(self._responder, self._headroom, self._instance.directory, self._rules)
        self._files = Files(self._instance.directory, self._orders.obey, overview.text, self.report)
        return self._files

    def _start(self) -> None:
        self._apply_protection()
        if self._begun.gate:
            self._responder.keeper.gate = self._begun.gate
        leased = self._source.begin_lease()
        self._waker = 0
        if self._begun.pins and self._begun.pins.directory and leased:
            self._waker = waker.start(self._begun.pins.directory, self.settings.lost_after)
        self._exempt_ourselves()
        self._configure()
        self._settle_limits(newly=True)
        self._missing = harden()
        self._headroom.note()
        self._files.open()
        self.report.on_change = self._files.changed
        # From here on garbage in circles, of which we make next to none, is collected when the house is kept: in the
        # midst of 50,000 records a collection takes as long as a verdict.
        gc.collect()
        gc.freeze()
        gc.disable()
        ready = {"capabilities": self.capabilities(), "gate": self._gate()}
        self.report("ready", version=__version__, **ready, pid=os.getpid())
        better = [f"not held by {passed.gate.name}: {passed.why}; {passed.change}" for passed in self._begun.passed]
        for text in (*self._begun.notes, *self._missing, *self._lease_notes(leased=leased), *better):
            self.report("note", text=text)
        for name, why in self._refused.items():
            self.report("note", text=f"families are not known by {name}: {why}")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[int]:
        """From here on signals only set a flag and make a descriptor readable."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            yield wake_read
        finally:
            signal.set_wakeup_fd(-1)
            os.close(wake_read)
            os.close(wake_write)

    def _serve(self, server: Server, wake: int) -> None:
        next_housekeeping = boot_ns() + _HOUSEKEEPING_SECONDS * SECOND
        capped = Capped(self._source, boot_ns())
        with selectors.DefaultSelector() as selector:
            self._watched = self._source.fileno()
            for fd in (self._watched, server.fileno(), wake):
                if fd >= 0:
                    selector.register(fd, selectors.EVENT_READ)
            while not self._stop:
                next_sign = boot_ns() + int(self.settings.lost_after * SECOND) // _SIGNS_A_LEASE
                due = self._responder.next_ns() or next_housekeeping
                due = min(due, self._source.next_ns() or next_housekeeping, self._files.next_ns())
                due = min(due, self._retention.next_ns, capped.next_ns, next_housekeeping, next_sign)
                due = min(due, (self._rules and self._rules.next_ns()) or next_housekeeping)
                for key, _events in selector.select(max(0.0, (due - boot_ns()) / SECOND)):
                    self._read(key.fd, selector, server, wake)
                for event in self._source.signals():
                    if event.kind is SignalKind.SHORT:
                        self._retention.make_room()
                    else:
                        self._responder.on_signal(event)
                self._tell_notes(selector)
                self._responder.tick()
                self._retention.tick()
                capped.tick(self.settings, boot_ns())
                self._files.tick(selector)
                if self._rules:
                    self._rules.tick()
                self._source.seen()
                if self._reload:
                    self._reload_configuration()
                if boot_ns() >= next_housekeeping:
                    next_housekeeping = boot_ns() + _HOUSEKEEPING_SECONDS * SECOND
                    self._keep_house()

    def _tell_notes(self, selector: selectors.BaseSelector) -> None:
        """What the source has to say of itself: that it fell back to another way, which has no descriptor."""
        for text in self._source.take_notes():
            self.report("note", text=text)
        if self._watched >= 0 and self._source.fileno() < 0:
            selector.unregister(self._watched)
            self._watched = -1

    def _read(self, fd: int, selector: selectors.BaseSelector, server: Server, wake: int) -> None:
        """One descriptor is readable. The ring is read anyway, after all of them."""
        if fd == server.fileno():
            client = server.accept()
            if client is not None:
                selector.register(client, selectors.EVENT_READ)
        elif fd == wake:
            os.read(wake, 4096)
        elif fd == self._files.fileno():
            self._files.read()
        elif fd != self._watched:
            selector.unregister(fd)
            server.serve(fd)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._stop = True

    def _end(self) -> None:
        """Nothing stays held and nothing stays pinned, unless another guard is to take it over."""
        if self._leave:
            self.report("note", text="what is held stays so for another guard, or `pidwarden guard --detach`")
            return
        self._configure(autohold=False)
        release_everything(self._responder)
        if self._waker:
            waker.stop(self._waker)
        if self._begun.pins:
            self._begun.pins.remove()

    @property
    def _pinned(self) -> bool:
        return self._begun.pins is not None and self._begun.pins.directory is not None

    # -- set up ----------------------------------------------------------------------------------------------------

    def _configure(self, *, autohold: bool | None = None) -> None:
        leaky = bool(self._begun.gate and self._begun.gate.hole)
        self._source.configure(thresholds(self.settings, self.scope, autohold=autohold, leaky=leaky))
        self._retention.configure(self.settings.history_window)

    def _settle_limits(self, *, newly: bool = False) -> None:
        """Families that were there before get their budget on top of what they already hold; `newly`: a first one."""
        for group in self._source.groups().values():
            if newly and group.limit < UNLIMITED:
                continue
            base = self.settings.hold_at if group.kind == GroupKind.BRANCH else self.settings.family_limit
            limit = base if group.counted < base // 2 else base + group.counted
            self._source.set_limit(group.id, limit, self.settings.generations)

    def _lease_notes(self, *, leased: bool) -> list[str]:
        if not self._source.gated:
            return ["families are held by SIGSTOP alone: who is stopped when the guard is killed stays so"]
        if not leased:
            return ["the kernel gives BPF programs no timers: what is held when the guard is lost stays so"]
        return []

    def _exempt_ourselves(self) -> None:
        """The guard, and who started it, must never be held by it."""
        wanted = {os.getpid(), *procfs.ancestors(os.getpid())}
        for record in self._source.records():
            if record.key.tgid in wanted and record.alive:
                self._source.flag(record.key, int(ProcFlag.EXEMPT))

    def _apply_protection(self) -> None:
        self._responder.look.protection = protection(self.settings)

    def _reload_configuration(self) -> None:
        """SIGHUP. A broken file is refused and the old configuration kept."""
        self._reload = False
        if self._config is None:
            self.report("note", text="SIGHUP: no configuration file is in use; nothing to read again")
            return
        try:
            settings = replace(load(self._config), **self._overrides)
            for name in _CHANGEABLE_NEEDS_RESTART:
                if getattr(settings, name) != getattr(self.settings, name):
                    msg = f"{name} cannot change while the guard runs; restart it"
                    raise UsageError(msg)
            if settings.rules.on and self._rules is None:
                msg = "no rule was on when the guard started, and it loads nothing while it runs; restart it"
                raise UsageError(msg)
            protection(settings)
            check_refusal(settings, self._begun.gate)
        except PidwardenError as why:
            self.report("note", text=f"SIGHUP: configuration refused, the old one stays: {why}")
            return
        old, self.settings = self.settings, settings
        self._responder.settings = settings
        self._apply_protection()
        self._source.set_executables(executables.identify(settings))
        self._configure()
        if (settings.hold_at, settings.family_limit, settings.generations) != (
            old.hold_at,
            old.family_limit,
            old.generations,
        ):
            self._settle_limits()
        if settings.mode != "observe":
            self._take_back()
        self.report("note", text=f"SIGHUP: configuration read from {self._config}")

    def _take_back(self) -> None:
        """What observing has let grow has its budget of before again: the next fork of it is answered in earnest."""
        for group in self._responder.observed.values():
            self._source.set_limit(group.id, group.limit, group.depth_limit)
        self._responder.observed.clear()

    def _keep_house(self) -> None:
        self._responder.observed = {i: g for i, g in self._responder.observed.items() if self._source.group(i)}
        if not self._responder.incidents:
            gc.collect()
        self._source.set_executables(executables.identify(self.settings))
        if self.scope.look_again():
            self._configure()
        self._headroom.note()

    # -- answers ---------------------------------------------------------------------------------------------------

    def capabilities(self) -> dict[str, str]:
        """How each thing is done here."""
        refused = f", forks are refused with {self.settings.refuse_with}" * (self.settings.at_gate == "refuse")
        return {
            "know": self._source.how,
            "hold": "none (observe)" if self.settings.mode == "observe" else self._responder.keeper.name + refused,
            "kill": "closed set by pidfd" if self.settings.mode == "kill" else "by order only",
        }

    def _gate(self) -> dict[str, Any] | None:
        """The gate in use, what it does not see, and why no better one is; None: there is none in the kernel."""
        gate = self._begun.gate
        if gate is None:
            return None
        better = [passed.as_dict() for passed in self._begun.passed]
        return {"key": gate.key, "name": gate.name, "hole": gate.hole, "better": better}

    def _handle(self, words: list[str]) -> dict[str, Any] | Bulk:
        match words:
            case ["status"]:
                return self._status()
            case ["handover"]:
                if not self._pinned:
                    msg = "nothing is pinned here, so nothing can be handed over; stop the guard and start another"
                    raise NotPossible(msg)
                self._handed_over = self._stop = True
                return {"done": "leaving everything as it is"}
            case ["records"]:
                return everything_known(self._source)
        return {"done": self._orders.obey(words)}

    def _status(self) -> dict[str, Any]:
        self._source.settle()
        groups = self._source.groups().values()
        families = sorted((g for g in groups if g.kind == GroupKind.FAMILY), key=lambda g: g.slots, reverse=True)
        room = self._headroom.room()
        return {
            "pid": os.getpid(),
            "version": __version__,
            "mode": self.settings.mode,
            "capabilities": self.capabilities(),
            "gate": self._gate(),
            "source": self._source.name,
            "not_promised": PROMISES[self._source.name].not_promised,
            "refused": self._refused,
            "limits": [limit._asdict() | {"free": limit.free} for limit in room.limits],
            "tasks_per_hour": room.per_hour,
            "families": [
                {
                    "family": g.id,
                    "founder": self._responder.look.who(self._source.record(g.founder), g.founder),
                    "slots": g.slots,
                    "peak": g.peak,
                    "limit": g.limit,
                    "held": g.held,
                }
                for g in families[:_SHOWN_FAMILIES]
            ],
            "incidents": [i.summary() for i in self._responder.incidents],
            "past": list(self._responder.past),
            "dropped_events": self.report.dropped,
            "history": self._retention.status(),
            "counters": self._source.counters()._asdict(),
            "left_out": self._source.left_out,
            "rules": self._rules.status() if self._rules else None,
        }

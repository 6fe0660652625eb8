"""How holds pass from a guard that was lost to the next one, and how they end with a guard that goes in order."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from pidwarden.guard import policy
from pidwarden.guard.control import ask
from pidwarden.guard.incident import Incident, State
from pidwarden.guard.keep import WAKE_AGAIN_NS
from pidwarden.judge.case import SECOND
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.record import GroupFlag, Rule, Signal, SignalKind
from pidwarden.model.tree import Tree
from pidwarden.model.verdict import Kind

if TYPE_CHECKING:
    from pidwarden.guard.respond import Responder
    from pidwarden.kernel.bpf import Programs
    from pidwarden.kernel.foreign import Foreign
    from pidwarden.model.record import Group


def ask_for_handover(run_dir: str) -> None:
    """Asks the guard that runs there, if any, to go and to leave everything as it is.

    Raises:
        PidwardenError: it refuses, or does not answer.
    """
    ask(run_dir, "handover")


def take_in(programs: Programs, found: Foreign) -> None:
    """Makes what programs of another version hold held by these, so that those can go: same members, new families.

    Who was born since those were read is stopped at both gates, and is found by the judge as any descendant.
    """
    for held in found.held:
        records = [r for r in map(programs.record, held.members) if r is not None]
        family = programs.split(records[0].family, held.founder) if records else 0
        if not family:
            continue
        for record in records:
            programs.move(record.key, family)
        if held.doubted:
            programs.doubt(family)
        if not held.judged:
            programs.forget(family)  # it is not watched as a verdict's, so it will be judged
    for key in found.stopped:
        programs.mark_stopped(key)


def take_over(responder: Responder) -> None:
    """What a guard before us held when it was lost is still held: answer it now.

    What it had released but not woken goes on, and what it was told of but did not answer is told again.
    """
    for group in responder.source.groups().values():
        if group.held and group.flags & GroupFlag.WATCHED:
            _execute(responder, group)
    for group in responder.source.groups().values():
        if responder.find(group.id):
            continue
        if group.held:
            responder.on_signal(_alarm(group, group.family))
            continue
        if group.flags & GroupFlag.ALARMED:
            responder.source.release(group.id)
        if group.flags & GroupFlag.WATCHED:
            responder.source.forget(group.id)  # its hold has lapsed: what it is now the next alarm will tell
    responder.drop_done()
    responder.freezing.recover()
    responder.keeper.wake_released()


def _alarm(group: Group, family: int) -> Signal:
    when, rule = group.alarm_ns or boot_ns(), group.rule or Rule.FAMILY_SLOTS  # taken in: nobody told of an alarm
    return Signal(when, group.id, family, group.founder, SignalKind.ALARM, rule, group.slots, group.flags)


def _execute(responder: Responder, group: Group) -> None:
    """What was split off is judged already; what follows from that our own settings say."""
    origin = _split_from(responder, group)
    incident = Incident(_alarm(group, origin or group.family))
    incident.guilty_family = group.id
    incident.founder = responder.source.record(group.founder)
    incident.origin = responder.look.who(incident.founder, group.founder)
    responder.incidents.append(incident)
    if origin:
        incident.roots = (group.founder,)
        responder.finish_split(incident)
    action = policy.decide(responder.settings, Kind.UNSURE if group.flags & GroupFlag.DOUBTED else Kind.BOMB)
    if responder.settings.mode == "observe" or action.do == "release":
        responder.release(incident)
    elif action.do == "kill":
        responder.kill(incident)
    else:
        responder.wait(incident, action)


def _split_from(responder: Responder, group: Group) -> int:
    """The family that still has guilty members because the guard was lost while it moved them; 0 if none has.

    Left there, with their creators gone, they are no subtree of any weight: the judge would find nobody to blame.
    """
    held = {g.id for g in responder.source.groups().values() if g.held}
    below = Tree(responder.source.records()).subtree(group.founder)
    left = Counter(r.family for r in below if r.slots > 0 and {r.family, r.branch} & held and r.family != group.id)
    return max(left, key=lambda family: left[family], default=0)


def release_everything(responder: Responder) -> None:
    """Lets go of all that is held: the guard is about to end. Nothing may be held anew by then (`autohold` off)."""
    for incident in responder.incidents:
        if incident.state in (State.HELD, State.WAITING):
            responder.release(incident)
    for group in responder.source.groups().values():
        if group.held:
            responder.source.release(group.id)
    responder.freezing.recover()
    responder.keeper.wake_released()
    time.sleep(WAKE_AGAIN_NS / SECOND)
    responder.keeper.wake_released()

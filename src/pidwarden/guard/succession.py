"""How holds pass from a guard that was lost to the next one, and how they end with a guard that goes in order."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pidwarden.guard import policy
from pidwarden.guard.control import ask
from pidwarden.guard.incident import Incident, State
from pidwarden.guard.keep import WAKE_AGAIN_NS
from pidwarden.judge.case import SECOND
from pidwarden.model.record import GroupFlag, Signal, SignalKind
from pidwarden.model.verdict import Kind

if TYPE_CHECKING:
    from pidwarden.guard.respond import Responder
    from pidwarden.model.record import Group


def ask_for_handover(run_dir: str) -> None:
    """Asks the guard that runs there, if any, to go and to leave everything as it is.

    Raises:
        PidwardenError: it refuses, or does not answer.
    """
    ask(run_dir, "handover")


def take_over(responder: Responder) -> None:
    """What a guard before us held when it was lost is still held: answer it now.

    What it had released but not woken goes on, and what it was told of but did not answer is told again.
    """
    for group in responder.source.groups().values():
        if responder.find(group.id):
            continue
        if group.held:
            _answer(responder, group)
            continue
        if group.flags & GroupFlag.ALARMED:
            responder.source.release(group.id)
        if group.flags & GroupFlag.WATCHED:
            responder.source.forget(group.id)  # its hold has lapsed: what it is now the next alarm will tell
    responder.drop_done()
    responder.keeper.wake_released()


def _answer(responder: Responder, group: Group) -> None:
    kind = SignalKind.ALARM
    alarm = (group.alarm_ns, group.id, group.family, group.founder, kind, group.rule, group.slots, group.flags)
    signal = Signal(*alarm)
    if not group.flags & GroupFlag.WATCHED:
        responder.on_signal(signal)
        return
    # Split off, so judged already; what follows from that our own settings say.
    incident = Incident(signal)
    incident.guilty_family = group.id
    incident.founder = responder.source.record(group.founder)
    responder.incidents.append(incident)
    action = policy.decide(responder.settings, Kind.UNSURE if group.flags & GroupFlag.DOUBTED else Kind.BOMB)
    if responder.settings.mode == "observe" or action.do == "release":
        responder.release(incident)
    elif action.do == "kill":
        responder.kill(incident)
    else:
        responder.wait(incident, action)


def release_everything(responder: Responder) -> None:
    """Lets go of all that is held: the guard is about to end. Nothing may be held anew by then (`autohold` off)."""
    for incident in responder.incidents:
        if incident.state in (State.HELD, State.WAITING):
            responder.release(incident)
    for group in responder.source.groups().values():
        if group.held:
            responder.source.release(group.id)
    responder.keeper.wake_released()
    time.sleep(WAKE_AGAIN_NS / SECOND)
    responder.keeper.wake_released()

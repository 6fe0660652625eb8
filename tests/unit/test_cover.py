"""How a family would be frozen, out of root folders like a v2, a v1 and a hybrid machine; and the way back."""

from __future__ import annotations

import json
import os

import pytest

from pidwarden.act import cover, wayback
from pidwarden.act.cover import How, Step, Ways
from pidwarden.guard.freezing import ways_for
from pidwarden.kernel import cgroup, freezer
from pidwarden.model.key import ProcessKey
from pidwarden.model.verdict import Kind
from pidwarden.settings import Settings

ANY = Ways(cgroups=True, quarantine=True, name="pidwarden-quarantine-pidwarden-7")
NONE_MOVED = Ways(cgroups=True, quarantine=False)


class Machine:
    """Cgroups as folders, and a /proc that says who is where."""

    def __init__(self, root, *, v2=True, v1=False):
        self.proc, self.root = root / "proc", root
        self.proc.mkdir()
        self.v2, self.v1 = root / "v2", root / "v1"
        for top in (self.v2, self.v1):
            top.mkdir()
            (top / "cgroup.procs").write_text("")
        self.mounts = cgroup.Mounts(str(self.v2) if v2 else None, {"freezer": str(self.v1)} if v1 else {})
        self.where: dict[int, list[str]] = {}

    def make(self, path, top=None, **files):
        here = (top or self.v2) / path.strip("/")
        here.mkdir(parents=True)
        plain = {"cgroup.procs": "", "cgroup.freeze": "0", "cgroup.type": "domain", "cgroup.subtree_control": ""}
        if top is self.v1:
            plain = {"cgroup.procs": "", "freezer.state": "THAWED", "freezer.self_freezing": "0"}
        for name, text in (plain | files).items():
            (here / name).write_text(text)
        return str(here)

    def put(self, pids, path, top=None):
        number = "4:freezer" if top is self.v1 else "0:"
        with ((top or self.v2) / path.strip("/") / "cgroup.procs").open("a") as file:
            for pid in pids:
                file.write(f"{pid}\n")
                self.where.setdefault(pid, []).append(f"{number}:{path}\n")
        for pid in pids:
            (self.proc / str(pid)).mkdir(exist_ok=True)
            (self.proc / str(pid) / "cgroup").write_text("".join(self.where[pid]))

    def plan(self, pids, ways=ANY, within=None):
        keys = {p: ProcessKey(p, p) for p in pids}
        inside = {p: ProcessKey(p, p) for p in within} if within else None
        return cover.plan(keys, ways, self.mounts, within=inside, proc=str(self.proc))

    def exact(self, pids):
        return cover.exact({p: ProcessKey(p, p) for p in pids}, self.mounts, str(self.proc))


@pytest.fixture
def pure(tmp_path, monkeypatch):
    made = Machine(tmp_path)
    # Tests may run as anybody: whose cgroup it is is not the question here, but in one test.
    monkeypatch.setattr(cover, "_delegated", lambda _directory: "")
    return made


def shown(plan):
    return [(s.how, os.path.basename(s.directory), [k.tgid for k in s.members]) for s in plan.steps]


def test_a_cgroup_with_nobody_else_in_it_is_frozen_as_it_is(pure):
    pure.make("/app")
    pure.make("/app/sub")
    pure.put([5, 6], "/app")
    pure.put([7], "/app/sub")
    assert shown(pure.plan([5, 6, 7])) == [(How.V2, "app", [5, 6, 7])]
    assert pure.exact([5, 6, 7]) == [f"{pure.v2}/app"]


def test_two_cgroups_are_two_steps(pure):
    for name, pid in (("/a", 5), ("/b", 6)):
        pure.make(name)
        pure.put([pid], name)
    assert shown(pure.plan([5, 6])) == [(How.V2, "a", [5]), (How.V2, "b", [6])]
    assert pure.exact([5, 6]) == [f"{pure.v2}/a", f"{pure.v2}/b"]


def test_a_stranger_below_makes_it_shared(pure):
    pure.make("/app")
    pure.make("/app/sub")
    pure.put([5], "/app")
    pure.put([9], "/app/sub")
    plan = pure.plan([5], NONE_MOVED)
    assert shown(plan) == [(How.SIGNAL, "", [5])]
    assert plan.strangers == {9}
    assert "1 others are in it" in plan.lines()[1]
    assert pure.exact([5]) == []


def test_who_shares_is_quarantined_below_where_it_is(pure):
    pure.make("/app")
    pure.put([5, 6, 9], "/app")
    [step] = pure.plan([5, 6]).steps
    assert step == Step(How.QUARANTINE, f"{pure.v2}/app/{ANY.name}", (ProcessKey(5, 5), ProcessKey(6, 6)))
    assert step.parent == f"{pure.v2}/app"
    assert step.text == (
        f"make {step.directory}, freeze it, move 2 processes into it; back: move them to {step.parent}, remove it"
    )


def test_the_root_has_no_freezer_but_room_for_a_quarantine(pure):
    pure.put([5, 9], "/")
    assert shown(pure.plan([5])) == [(How.QUARANTINE, ANY.name, [5])]
    assert shown(pure.plan([5], NONE_MOVED)) == [(How.SIGNAL, "", [5])]


def test_part_alone_part_shared(pure):
    pure.make("/own")
    pure.make("/app")
    pure.put([5], "/own")
    pure.put([6, 9], "/app")
    assert shown(pure.plan([5, 6])) == [(How.V2, "own", [5]), (How.QUARANTINE, ANY.name, [6])]
    assert shown(pure.plan([6], within=[5, 6])) == [(How.QUARANTINE, ANY.name, [6])]


@pytest.mark.parametrize(
    ("path", "files", "why"),
    [
        ("/app", {"cgroup.type": "threaded"}, "its type is threaded"),
        ("/app", {"cgroup.type": "domain threaded"}, "its type is domain threaded"),
        ("/app", {"cgroup.subtree_control": "pids memory"}, "it passes controllers on (pids memory)"),
        ("/app", {"cgroup.freeze": "1"}, "somebody else has frozen it"),
        (f"/docker-{'0a' * 32}.scope", {}, "a container's manager would not know of it"),
        (f"/docker/{'0a' * 32}/app", {}, "a container's manager would not know of it"),
        ("/pidwarden-pen-1-1", {}, "it is pidwarden's own"),
        ("/pidwarden-quarantine-other-3", {}, "it is pidwarden's own"),
    ],
)
def test_where_nobody_may_be_moved(pure, path, files, why):
    pure.make(path, **files)
    pure.put([5, 9], path)
    plan = pure.plan([5])
    assert shown(plan) == [(How.SIGNAL, "", [5])]
    assert any(why in reason for reason in plan.reasons)


def test_what_is_delegated_is_left_to_whom_it_is_delegated(tmp_path):
    machine = Machine(tmp_path)
    where = machine.make("/user")
    machine.put([5, 9], "/user")
    if os.geteuid() == 0:
        os.chown(where, 1000, 1000)
    if owner := os.stat(where).st_uid:
        assert any(f"delegated to user {owner}" in r for r in machine.plan([5]).reasons)


def test_what_somebody_else_has_frozen_is_not_ours_to_thaw(pure):
    pure.make("/app", **{"cgroup.freeze": "1"})
    pure.put([5], "/app")
    assert shown(pure.plan([5])) == [(How.SIGNAL, "", [5])]
    assert pure.exact([5]) == [f"{pure.v2}/app"]  # but to kill


def test_who_moves_away_or_is_out_of_sight_gets_a_signal(pure):
    pure.make("/app")
    pure.put([5], "/app")
    (pure.v2 / "app" / "cgroup.procs").write_text("")
    assert shown(pure.plan([5])) == [(How.SIGNAL, "", [5])]
    (pure.proc / "6").mkdir()
    (pure.proc / "6" / "cgroup").write_text("0::/../elsewhere\n")
    assert shown(pure.plan([6])) == [(How.SIGNAL, "", [6])]


def test_pids_of_other_namespaces_are_strangers(pure):
    pure.make("/app")
    pure.put([5], "/app")
    with (pure.v2 / "app" / "cgroup.procs").open("a") as file:
        file.write("0\n")
    assert shown(pure.plan([5], NONE_MOVED)) == [(How.SIGNAL, "", [5])]


def test_v1_is_used_where_v2_is_shared_and_before_anybody_is_moved(tmp_path, monkeypatch):
    monkeypatch.setattr(cover, "_delegated", lambda _directory: "")
    hybrid = Machine(tmp_path, v1=True)
    hybrid.make("/app")
    hybrid.put([5, 9], "/app")
    hybrid.make("/alone", top=hybrid.v1)
    hybrid.put([5], "/alone", top=hybrid.v1)
    assert shown(hybrid.plan([5])) == [(How.V1, "alone", [5])]
    assert hybrid.exact([5]) == []  # v1 has no cgroup.kill


@pytest.mark.parametrize(("together", "how"), [(["freezer"], How.QUARANTINE_V1), (["freezer", "memory"], How.SIGNAL)])
def test_v1_alone(tmp_path, monkeypatch, together, how):
    """A quarantine only where the freezer has its hierarchy to itself: elsewhere limits would be left behind."""
    monkeypatch.setattr(cover, "_delegated", lambda _directory: "")
    machine = Machine(tmp_path, v2=False, v1=True)
    machine.mounts = machine.mounts._replace(v1=dict.fromkeys(together, str(machine.v1)))
    machine.make("/app", top=machine.v1)
    machine.put([5, 9], "/app", top=machine.v1)
    assert [s.how for s in machine.plan([5]).steps] == [how]


def test_nothing_but_signals_where_cgroups_are_not_to_be_used(pure):
    pure.make("/app")
    pure.put([5], "/app")
    assert shown(pure.plan([5], Ways(cgroups=False, quarantine=True))) == [(How.SIGNAL, "", [5])]


@pytest.mark.parametrize(
    ("settings", "verdict", "ways"),
    [
        ({}, Kind.BOMB, (True, False)),
        ({}, Kind.UNSURE, (False, False)),
        ({}, None, (False, False)),
        ({}, Kind.BURST, None),
        ({"quarantine": True}, Kind.BOMB, (True, True)),
        ({"quarantine": True}, Kind.UNSURE, (False, True)),
        ({"freeze": "signal"}, Kind.BOMB, (False, False)),
        ({"freeze": "never"}, Kind.BOMB, None),
    ],
)
def test_only_a_bomb_is_left_to_a_freezer_that_outlives_the_guard(settings, verdict, ways):
    found = ways_for(Settings(**settings), verdict, "name")
    assert ways == (found and (found.cgroups, found.quarantine))


# -- the way back ------------------------------------------------------------------------------------------------------


STEPS = (
    Step(How.QUARANTINE, "/sys/fs/cgroup/a\udcff b/pidwarden-quarantine-x-7", (ProcessKey(5, 6), ProcessKey(7, 8))),
    Step(How.SIGNAL, "", (ProcessKey(9, 10),)),
)


def test_the_way_back_is_found_as_it_was_saved_and_forgotten(tmp_path):
    assert wayback.save(str(tmp_path), 7, STEPS)
    assert wayback.save(str(tmp_path), 8, STEPS[1:])
    assert wayback.find(str(tmp_path)) == [(7, STEPS), (8, STEPS[1:])]
    wayback.forget(str(tmp_path), 7)
    assert [w.family for w in wayback.find(str(tmp_path))] == [8]
    wayback.forget(str(tmp_path), 8)
    assert os.listdir(tmp_path) == []
    assert not wayback.save(str(tmp_path / "gone"), 7, STEPS)


@pytest.mark.parametrize(
    "change",
    [
        {"boot_id": "another"},
        {"steps": 5},
        {"family": "x"},
        {"steps": [{"how": "magic", "directory": "/", "members": []}]},
    ],
)
def test_what_is_of_another_boot_or_broken_is_not_acted_upon(tmp_path, change):
    wayback.save(str(tmp_path), 7, STEPS)
    path = tmp_path / "frozen-7.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert wayback.find(str(tmp_path)) == []
    assert not path.exists()


# -- files -------------------------------------------------------------------------------------------------------------


def test_both_freezers_are_written_and_read(tmp_path):
    machine = Machine(tmp_path, v1=True)
    v2 = machine.make("/a", **{"cgroup.events": "populated 1\nfrozen 0\n"})
    v1 = machine.make("/a", top=machine.v1)
    for directory in (v2, v1):
        assert freezer.exists(directory)
        assert freezer.freeze(directory)
        assert not freezer.is_frozen(v2)
    assert (cgroup.read(f"{v2}/cgroup.freeze"), cgroup.read(f"{v1}/freezer.state")) == ("1", "FROZEN")
    assert freezer.is_asked(v2)
    assert freezer.is_frozen(v1)
    assert freezer.wait([v1], 0) == []
    for directory in (v2, v1):
        assert freezer.thaw(directory)
    assert (cgroup.read(f"{v2}/cgroup.freeze")[:1], cgroup.read(f"{v1}/freezer.state")) == ("0", "THAWED")
    assert freezer.is_populated(v2)
    assert not freezer.exists(str(machine.v2))
    assert not freezer.freeze(str(tmp_path / "gone"))

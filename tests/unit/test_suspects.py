"""Who fills the table, out of two looks: the bomb whole, and nobody beside it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pidwarden.rescue.suspects import Room, find
from pidwarden.rescue.table import Proc

_COPY, _KERNEL = 0x40, 0x200000
FULL = Room("pid_max", 1000, 1000)
START = 100_000  # ticks


class World:
    """Processes as they are made."""

    def __init__(self):
        self.procs = {}
        self.add(1, 0, exe="/sbin/init", start=1)
        self.add(2, 0, exe="", start=1, flags=_KERNEL)

    def add(self, pid, ppid, exe="/bin/bash", *, copy=False, **more):
        fields = {"comm": exe.encode()[-15:], "state": "S", "pgrp": pid, "session": pid, "tty": 0, "tpgid": -1}
        fields |= {"threads": 1, "uid": 7, "start": START, "flags": _COPY if copy else 0, **more}
        start = fields.pop("start")
        self.procs[pid] = Proc(
            pid=pid, ppid=ppid, start_ticks=start, exe="" if fields["state"] == "Z" else exe, **fields
        )
        return pid

    def bomb(self, root, count, **more):
        """Copies of copies, below a process that is there."""
        for i in range(count):
            self.add(root + 1 + i, root + (i + 1) // 2, copy=True, start=START + 1 + i // 10, state="R", **more)

    def suspects(self, *spared, room=FULL, before=None):
        everybody = list(self.procs.values())
        keys = {self.procs[pid].key for pid in (1, *spared)}
        return find(everybody if before is None else before, everybody, keys, room)

    def pids(self, suspect):
        return sorted(p.pid for p in suspect.members)


def test_a_tree_of_copies_is_certain_and_nobody_beside_it_belongs():
    world = World()
    shell = world.add(500, 1, start=50_000, tty=34816)
    script = world.add(600, shell, start=START - 1000)
    neighbour = world.add(601, script, start=START)
    world.add(602, script, copy=True, start=START + 2)  # a subshell of the script
    root = world.add(1000, shell, start=START)
    world.bomb(root, 600)
    (suspect,) = world.suspects(shell)
    assert suspect.sure
    assert world.pids(suspect) == list(range(1000, 1601))
    assert neighbour not in world.pids(suspect)


def test_orphans_belong_to_it_whatever_group_they_are_in():
    world = World()
    for i in range(500):
        world.add(1000 + i, 1, "/usr/bin/python3", copy=True, start=START + i // 20)
    daemon = world.add(700, 1, "/usr/bin/python3", copy=True, start=START - 90_000)
    others = world.add(701, 1, "/usr/bin/python3", copy=True, start=START + 3, uid=8)
    (suspect,) = world.suspects()
    assert suspect.sure
    assert world.pids(suspect) == list(range(1000, 1500))
    assert {daemon, others}.isdisjoint(world.pids(suspect))


def test_each_member_another_user():
    world = World()
    world.add(1000, 1, "/usr/bin/python3")
    world.bomb(1000, 400, exe="/usr/bin/python3")
    world.procs = {pid: p._replace(uid=pid) if pid > 1000 else p for pid, p in world.procs.items()}
    (suspect,) = world.suspects()
    assert suspect.sure
    assert len(suspect.members) == 401


def test_a_pool_is_a_suspect_and_not_certain():
    world = World()
    world.add(1000, 1, "/usr/sbin/apache2")
    for i in range(400):
        world.add(1001 + i, 1000, "/usr/sbin/apache2", copy=True, start=START + i)
    (suspect,) = world.suspects()
    assert not suspect.sure
    assert len(suspect.members) == 401


def test_a_build_is_not_certain():
    world = World()
    make = world.add(1000, 1, "/usr/bin/make")
    for i in range(300):
        shell = world.add(2000 + i, make, "/bin/dash")
        world.add(3000 + i, world.add(4000 + i, shell, "/usr/bin/gcc"), "/usr/lib/gcc/cc1")
    assert not any(s.sure for s in world.suspects())


def test_a_program_that_starts_itself_again():
    world = World()
    world.add(1000, 1, "/tmp/again")
    for i in range(400):
        world.add(1001 + i, 1000 + (i + 1) // 2, "/tmp/again", start=START + i // 10)
    (suspect,) = world.suspects()
    assert suspect.sure
    assert len(suspect.members) == 401


def test_through_a_shell():
    world = World()
    world.add(1000, 1, "/tmp/again")
    for i in range(200):
        shell = world.add(5001 + i, 1000 + (i + 1) // 2, "/bin/dash", start=START + i // 10)
        world.add(1001 + i, shell, "/tmp/again", start=START + i // 10)
    (suspect,) = world.suspects()
    assert suspect.sure
    assert len(suspect.members) == 401


def test_threads_of_one_process():
    world = World()
    world.add(1000, 1, "/usr/bin/java", threads=800)
    (suspect,) = world.suspects()
    assert suspect.sure
    assert suspect.slots == 800


def test_zombies_of_one_parent():
    world = World()
    world.add(1000, 1, "/usr/bin/python3")
    for i in range(700):
        world.add(1001 + i, 1000, state="Z", copy=True, pgrp=1000)
    (suspect,) = world.suspects()
    assert suspect.sure
    assert (len(suspect.members), suspect.zombies, suspect.slots) == (1, 700, 701)


def test_zombies_that_came_slowly_are_a_leak():
    world = World()
    world.add(1000, 1, "/usr/bin/python3", start=10)
    for i in range(700):
        world.add(1001 + i, 1000, state="Z", copy=True, pgrp=1000, start=1000 + 100 * i)
    (suspect,) = world.suspects()
    assert not suspect.sure


def test_a_chain_is_known_by_what_it_left():
    """Process 1 has not reaped them yet; who lives is in their process group, or was missed at the look."""
    world = World()
    for i in range(700):
        world.add(1001 + i, 1, state="Z", copy=True, pgrp=1000)
    (suspect,) = world.suspects(before=list(world.procs.values())[:-5])
    assert suspect.sure
    assert suspect.groups == {1000}
    (suspect,) = world.suspects()
    assert not suspect.sure, "it is over: another bomb's, perhaps, of a moment ago"
    world.add(2000, 1, copy=True, pgrp=1000)
    (suspect,) = world.suspects()
    assert world.pids(suspect) == [2000]


def test_one_program_started_many_times():
    world = World()
    parent = world.add(1000, 1, "/bin/bash")
    for i in range(500):
        world.add(1001 + i, parent, "/bin/sleep")
    (suspect,) = world.suspects()
    assert not suspect.sure
    assert len(suspect.members) == 501


def test_where_nothing_is_full_and_nobody_grows_nobody_is_certain():
    world = World()
    world.add(1000, 1)
    world.bomb(1000, 600)
    before = list(world.procs.values())
    room = Room("pid_max", 700, 32768)
    assert not world.suspects(room=room)[0].sure
    assert world.suspects(room=room, before=before[:300])[0].sure


def test_programs_that_may_not_be_read_are_told_apart_by_name():
    world = World()
    world.add(1000, 1)
    world.bomb(1000, 600)
    world.procs = {pid: p._replace(exe="", comm=b"x") if pid >= 1000 else p for pid, p in world.procs.items()}
    world.add(900, 1, exe="", comm=b"other")
    (suspect,) = world.suspects()
    assert len(suspect.members) == 601


@given(st.data())
def test_nobody_is_in_two_suspects_and_nobody_spared_in_any(data):
    pids = data.draw(st.lists(st.integers(3, 300), min_size=30, max_size=120, unique=True))
    world = World()
    for pid in pids:
        world.add(
            pid,
            data.draw(st.sampled_from([1, *pids])),
            data.draw(st.sampled_from(["/a", "/b", "/sbin/init", ""])),
            start=data.draw(st.integers(START, START + 50)),
            copy=data.draw(st.booleans()),
            state=data.draw(st.sampled_from("RSZT")),
            pgrp=data.draw(st.sampled_from(pids)),
        )
    spared = data.draw(st.sets(st.sampled_from(pids)))
    seen = set()
    for suspect in world.suspects(*spared):
        members = {p.pid for p in suspect.members}
        assert not members & (seen | spared | {1, 2})
        assert all(not p.ended for p in suspect.members)
        seen |= members

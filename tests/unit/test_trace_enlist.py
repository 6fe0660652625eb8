"""A tree that forks on and on is enlisted as soon as all who were there before are."""

from __future__ import annotations

import pytest

from pidwarden.trace import enlist


class Kernel:
    """A tree whose root has a child more at each look; children of who is on the list are on it."""

    def __init__(self):
        self.listed, self.there, self.looks = set(), {100, 101, 102}, 0

    def look(self):
        self.looks += 1
        child = 200 + self.looks
        self.there.add(child)
        if 100 in self.listed:
            self.listed.add(child)
        return dict.fromkeys(self.there, 1)

    def enlist(self, tids):
        self.listed.update(tids)

    def lists(self, tid):
        return tid in self.listed


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(enlist, "threads", lambda pid: [pid])
    monkeypatch.setattr(enlist, "_start_of", lambda _pid: 1)
    return Kernel()


def test_who_is_born_to_a_member_is_not_new(kernel):
    enlisting = enlist.Enlisting(kernel, kernel.look)
    assert enlisting.run() == 2
    assert kernel.listed == kernel.there == set(enlisting.members) == enlisting.tids

"""Network namespaces: which one is meant, whoever does not answer, and the words of an error."""

from __future__ import annotations

import os

import pytest

from pidwarden.errors import NoPermission, PidwardenError
from pidwarden.kernel import netns, patience


@pytest.fixture
def root(tmp_path):
    """A folder that stands for /proc, with two processes and ours in three namespaces."""
    for name in ("self", "7", "8"):
        (tmp_path / name / "ns").mkdir(parents=True)
        (tmp_path / name / "ns/net").touch()
    return tmp_path


def test_each_is_found_once_our_own_first(root, monkeypatch):
    monkeypatch.setattr(netns, "NAMED", ())
    (root / "9/ns").mkdir(parents=True)
    os.link(root / "7/ns/net", root / "9/ns/net")
    found = netns.seen(str(root))
    assert [n.name for n in found] == ["this network namespace", "that of pid 7", "that of pid 8"]
    assert found[0] == netns.own(str(root))
    assert netns.find("7", "tables", str(root)) == found[1]


def test_who_does_not_answer_is_said_to_be_stuck_and_passed_over_among_others(root, monkeypatch):
    monkeypatch.setattr(netns, "NAMED", ())
    never = os.pipe()  # nobody writes

    def stat(path, real=os.stat, **more):
        if str(path).endswith("/7/ns/net"):
            os.read(never[0], 1)
        return real(path, **more)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(PidwardenError, match="does not answer for it; see why: `sudo pidwarden stuck`"):
        netns.find("7", "tables", str(root))
    assert [n.name for n in netns.seen(str(root))] == ["this network namespace", "that of pid 8"]
    os.close(never[1])


def test_no_thread_to_be_had_is_no_reason_not_to_look(root, monkeypatch):
    def none(*_arguments, **_more):
        raise BlockingIOError

    monkeypatch.setattr(patience, "sweep", none)
    monkeypatch.setattr(patience.Reader, "__call__", none)
    assert netns.find("8", "tables", str(root)) in netns.seen(str(root))


def test_a_pid_that_is_somebody_elses_by_now_is_not_entered(root):
    found = netns.find("7", "tables", str(root))
    (root / "8/ns/net").rename(root / "7/ns/net")
    with pytest.raises(PidwardenError, match="leads to another network namespace than a moment ago"):
        netns.enter(found, "tables")


def test_what_is_no_namespace_and_what_was_typed(root, monkeypatch):
    with pytest.raises(PidwardenError, match=r"no-such\\x1bname.*ip netns"):
        netns.find("no-such\x1bname", "tables", str(root))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(NoPermission, match="type `sudo pidwarden conntrack …`"):
        netns.enter(netns.find("7", "conntrack", str(root)), "conntrack")

"""What they are told who lack a right: root without a capability, and whom /proc hides others from."""

from __future__ import annotations

import errno
import os

from pidwarden.act import places
from pidwarden.cli import source, tables_look


def test_root_who_lacks_a_capability_is_not_told_to_be_root(monkeypatch):
    refused = PermissionError(errno.EACCES, "Permission denied")
    for uid, words in ((0, "root lacks a capability here"), (1000, "it takes root")):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert words in str(places.failed("tried", refused))


def test_processes_that_proc_hides_are_said_to_be_missing(monkeypatch):
    monkeypatch.setattr(source, "hidden_by", lambda: "hidepid=invisible")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "hidepid=invisible: processes of others are not counted" in tables_look._hidden()[0]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not tables_look._hidden()

"""Changes and their undo record, on files that stand for the kernel's and on files of settings."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pidwarden.act import change
from pidwarden.act.change import State, Wanted
from pidwarden.act.journal import Journal
from pidwarden.errors import NotPossible, PidwardenError
from pidwarden.model.undo import Kind, Step, Target


class Place:
    """A folder with two values of the kernel's, a file of settings that may not be there, and the record."""

    def __init__(self, root):
        self.root = Path(root)
        for name in ("a", "b"):
            (self.root / name).write_text("10\n")
        self.journal = Journal(f"{root}/state")

    def step(self, name, new):
        if name == "conf":
            path = self.root / "etc/sysctl.d/conf"
            return Step(Target(Kind.CONFIG, str(path)), path.read_text() if path.exists() else None, new)
        return Step(Target(Kind.KERNEL, str(self.root / name)), self.value(name), new)

    def value(self, name):
        return (self.root / name).read_text().strip()

    def change(self, **values):
        steps = tuple(self.step(name, new) for name, new in values.items())
        return change.carry_out(Wanted("it", "limits set it", steps), self.journal)

    def all(self):
        """Everything but the record: names and contents."""
        found = sorted(p for p in self.root.rglob("*") if "state" not in p.parts)
        return [(str(p), p.read_text() if p.is_file() else None) for p in found]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


_CHANGES = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "conf"]), st.integers(1, 5).map(str), min_size=1), min_size=1, max_size=6
)


@settings(max_examples=40)
@given(_CHANGES, st.booleans())
def test_undo_is_exact_after_any_sequence_of_changes(changes, there):
    with tempfile.TemporaryDirectory() as root:
        place = Place(root)
        if there:
            (place.root / "etc/sysctl.d").mkdir(parents=True)
            (place.root / "etc/sysctl.d/conf").write_text("somebody's\n")
            (place.root / "etc/sysctl.d/conf").chmod(0o640)
        seen = [(place.all(), place.change(**values).number) for values in changes]
        for before, number in reversed(seen):
            change.undo(number, place.journal)
            assert [(n, (t or "").strip()) for n, t in place.all()] == [(n, (t or "").strip()) for n, t in before]
        assert all(entry.undone for entry in place.journal.read())
        if there:
            assert (place.root / "etc/sysctl.d/conf").stat().st_mode & 0o777 == 0o640


@settings(max_examples=40)
@given(_CHANGES.map(lambda changes: changes[0]), st.integers(0, 2), st.booleans())
def test_what_is_cut_short_anywhere_can_be_undone(values, at, done):
    """As if killed just before or just after a step."""
    with tempfile.TemporaryDirectory() as root:
        place, calls, original = Place(root), [], change._do
        before = place.all()

        def do(step):
            calls.append(step)
            if len(calls) > at:
                if done:
                    original(step)
                raise KeyboardInterrupt
            original(step)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(change, "_do", do)
            if at < len(values):
                with pytest.raises(KeyboardInterrupt):
                    place.change(**values)
            else:
                place.change(**values)
        [entry] = place.journal.read()
        assert entry.done == (at >= len(values))
        change.undo(entry.number, place.journal)
        assert [(n, (t or "").strip()) for n, t in place.all()] == [(n, (t or "").strip()) for n, t in before]


def failing(original, name):
    def replace(path, *rest):
        if path.endswith(name):
            raise NotPossible("no")
        original(path, *rest)

    return replace


def test_a_step_that_fails_takes_back_those_before_it(place):
    before = place.all()
    steps = (
        place.step("a", "20"),
        place.step("conf", "x = 1\n"),
        Step(Target(Kind.CONFIG, f"{place.root}/b"), None, "x"),
    )
    with pytest.raises(PidwardenError):
        change.carry_out(Wanted("it", "limits set it", steps), place.journal)
    assert place.all() == before
    assert not [e for e in place.journal.read() if not e.undone]


def test_a_value_that_the_kernel_makes_another_of_is_taken_back(place, monkeypatch):
    write = change.File.write

    def rounding(self, value):
        write(self, "19" if value == "20" else value)

    monkeypatch.setattr(change.File, "write", rounding)
    with pytest.raises(PidwardenError, match=r"the kernel made 19 of it; all is as it was before"):
        place.change(b="12", a="20")
    assert (place.value("a"), place.value("b")) == ("10", "10")


def test_what_changed_between_plan_and_deed_is_left_alone(place):
    step = place.step("a", "20")
    (place.root / "a").write_text("11\n")
    with pytest.raises(PidwardenError, match="it holds 11 by now and not 10; nothing was changed"):
        change.carry_out(Wanted("it", "limits set it", (step,)), place.journal)
    assert place.value("a") == "11"


def test_what_somebody_else_changed_is_set_back_by_force_only_and_then_none_of_it(place):
    number = place.change(a="20", b="21").number
    (place.root / "a").write_text("30\n")
    with pytest.raises(PidwardenError, match=r"a holds 30 and not, as we left it, 20: somebody else .* `pidwarden"):
        change.undo(number, place.journal)
    assert (place.value("a"), place.value("b")) == ("30", "21")
    assert [f.state for f in change.look(place.journal.read()[0])] == [State.OURS, State.FOREIGN]
    change.undo(number, place.journal, force=True)
    assert (place.value("a"), place.value("b")) == ("10", "10")


def test_a_file_of_ours_that_somebody_edited_is_kept(place):
    number = place.change(conf="x = 1\n").number
    (place.root / "etc/sysctl.d/conf").write_text("x = 2\n")
    with pytest.raises(PidwardenError, match=r"somebody else has changed .*conf since; nothing was done"):
        change.undo(number, place.journal)
    assert (place.root / "etc/sysctl.d/conf").read_text() == "x = 2\n"


def test_an_older_change_of_the_same_limit_waits_for_the_newer(place):
    first, second = place.change(a="20").number, place.change(a="30").number
    with pytest.raises(PidwardenError, match=f"change {second} has changed .*/a since; undo that first"):
        change.undo(first, place.journal)
    change.undo(second, place.journal)
    change.undo(first, place.journal)
    assert place.value("a") == "10"


def test_changes_of_different_limits_are_undone_in_any_order(place):
    first, _second = place.change(a="20").number, place.change(b="30").number
    change.undo(first, place.journal)
    assert (place.value("a"), place.value("b")) == ("10", "30")


def edit(journal, **values):
    data = json.loads(Path(journal.path).read_text())
    data["changes"][0].update(values)
    Path(journal.path).write_text(json.dumps(data))


def test_after_a_reboot_values_are_the_kernels_own_and_files_are_still_ours(place):
    number = place.change(a="20", conf="x = 20\n").number
    edit(place.journal, boot="another")
    (place.root / "a").write_text("17\n")
    found = {f.step.target.kind: f.state for f in change.undo(number, place.journal)}
    assert found == {Kind.CONFIG: State.OURS, Kind.KERNEL: State.GONE}
    assert place.value("a") == "17"
    assert not (place.root / "etc").exists()


def test_a_value_that_a_file_of_ours_set_again_after_a_reboot_is_undone(place):
    number = place.change(a="20", conf="x = 20\n").number
    edit(place.journal, boot="another")
    change.undo(number, place.journal)
    assert place.value("a") == "10"


def test_in_another_namespace_nothing_is_set(place, monkeypatch):
    number = place.change(a="20").number
    edit(place.journal, namespaces={"net": "net:[1]"})
    monkeypatch.setattr(change, "_lives", lambda *_which: True)
    with pytest.raises(NotPossible, match=r"made in the namespace net:\[1\] .* somebody else's value"):
        change.undo(number, place.journal, force=True)
    assert place.value("a") == "20"


@pytest.mark.root
def test_what_was_set_in_a_namespace_that_is_gone_is_gone(place):
    number = place.change(a="20").number
    edit(place.journal, namespaces={"net": "net:[1]"})
    assert [f.state for f in change.undo(number, place.journal)] == [State.GONE]
    assert place.value("a") == "20"


def test_what_is_forgotten_stays_as_it_is(place):
    number = place.change(a="20").number
    change.forget(number, place.journal)
    assert (place.value("a"), place.journal.read()) == ("20", [])
    with pytest.raises(PidwardenError, match="there is no change 1"):
        change.undo(number, place.journal)


def test_an_undo_that_fails_halfway_is_finished_later(place):
    number = place.change(a="20", conf="x = 1\n").number
    path = place.root / "a"

    def refused(_self, _value):
        raise NotPossible("no")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(change.File, "write", refused)
        with pytest.raises(NotPossible):
            change.undo(number, place.journal)
    assert not (place.root / "etc").exists()
    assert [s.undone for s in place.journal.read()[0].steps] == [False, True]
    change.undo(number, place.journal)
    assert path.read_text() == "10"


# -- the record --------------------------------------------------------------------------------------------------------


def test_the_record_is_for_its_owner_alone(place):
    place.change(a="20")
    assert os.stat(place.journal.path).st_mode & 0o777 == 0o600
    assert os.stat(place.journal.directory).st_mode & 0o777 == 0o700
    assert sorted(os.listdir(place.journal.directory)) == ["changes.json", "lock"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 2, "changes": []}', '{"format": 1, "changes": [{}]}', "[" * 100_000,
             '{"format": 1, "changes": [{"number": 1, "steps": []}]}', '{"format": 1, "changes": 5}'],
)  # fmt: skip
def test_a_record_that_is_not_understood_is_left_alone_and_nothing_is_changed(place, text):
    os.mkdir(place.journal.directory, 0o700)
    path = Path(place.journal.path)
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(PidwardenError, match="tried to understand the undo record"):
        place.change(a="20")
    assert (place.value("a"), path.read_text()) == ("10", text)


def test_a_record_that_others_can_write_is_not_believed(place):
    place.change(a="20")
    os.chmod(place.journal.path, 0o622)
    with pytest.raises(NotPossible, match="is not a file that only root writes"):
        change.undo(1, place.journal)
    assert place.value("a") == "20"


def test_of_what_is_undone_the_last_are_kept(place):
    open_one = place.change(b="99").number
    for n in range(60):
        change.undo(place.change(a=str(100 + n)).number, place.journal)
    kept = [e.number for e in place.journal.read()]
    assert kept[0] == open_one
    assert len(kept) == 51
    assert kept[-1] == 61


def test_two_at_once(place):
    with place.journal.locked(), pytest.raises(NotPossible, match="another pidwarden is changing a limit"):
        place.change(a="20")
    assert place.value("a") == "10"


def test_a_file_of_settings_is_never_a_link(place, tmp_path):
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    (tmp_path / "etc/sysctl.d/conf").symlink_to("/etc/hostname")
    step = Step(Target(Kind.CONFIG, str(tmp_path / "etc/sysctl.d/conf")), None, "x")
    with pytest.raises(PidwardenError):
        change.carry_out(Wanted("it", "limits set it", (step,)), place.journal)
    assert (tmp_path / "etc/sysctl.d/conf").is_symlink()


def test_bytes_that_are_no_text_come_back_as_they_were(place, tmp_path):
    path = tmp_path / "etc/sysctl.d/conf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"# \xff\x1b[2J\n")
    old = os.fsdecode(path.read_bytes())
    number = change.carry_out(
        Wanted("it", "limits set it", (Step(Target(Kind.CONFIG, str(path)), old, "x"),)), place.journal
    ).number
    change.undo(number, place.journal)
    assert path.read_bytes() == b"# \xff\x1b[2J\n"

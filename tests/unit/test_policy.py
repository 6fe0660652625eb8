"""What is done on a verdict, how large the next budget is, how often there was one; whom the configuration protects."""

from __future__ import annotations

import pytest
from histories import SECOND, record
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.act.spare import Protection, system_units
from pidwarden.errors import ConfigError
from pidwarden.guard.policy import Strikes, budget, budgets, decide, rules
from pidwarden.guard.scope import protection
from pidwarden.kernel import cgroup
from pidwarden.kernel.limits import Limit
from pidwarden.model.key import ProcessKey
from pidwarden.model.record import Group, GroupKind
from pidwarden.model.verdict import Kind
from pidwarden.settings import Settings, parse


def test_the_judges_numbers_are_the_settings():
    found = rules(Settings(min_members=7, branch_age=2.5, slow_after=60))
    assert (found.min_members, found.branch_age_ns, found.slow_ns) == (7, SECOND * 5 // 2, 60 * SECOND)


# -- what is done ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "do", "seconds", "then"),
    [
        (Kind.BOMB, {}, "kill", 0, "kill"),
        (Kind.BOMB, {"grace": 3.0}, "hold", 3, "kill"),
        (Kind.BOMB, {"on_bomb": "hold", "grace": 3.0}, "hold", 0, "kill"),
        (Kind.BOMB, {"mode": "hold"}, "hold", 0, "kill"),
        (Kind.BURST, {}, "release", 0, "kill"),
        (Kind.BURST, {"mode": "hold"}, "release", 0, "kill"),
        (Kind.BURST, {"on_burst": "hold"}, "hold", 0, "kill"),
        (Kind.UNSURE, {}, "hold", 0, "kill"),
        (Kind.UNSURE, {"unsure_timeout": 60.0}, "hold", 60, "release"),
        (Kind.UNSURE, {"unsure_timeout": 60.0, "unsure_then": "kill"}, "hold", 60, "kill"),
        (Kind.UNSURE, {"unsure_timeout": 60.0, "mode": "hold"}, "hold", 0, "kill"),
        (Kind.UNSURE, {"on_unsure": "release"}, "release", 0, "kill"),
        (Kind.UNSURE, {"on_unsure": "release", "mode": "hold"}, "hold", 0, "kill"),
        (Kind.UNSURE, {"on_unsure": "kill"}, "kill", 0, "kill"),
        (Kind.UNSURE, {"on_unsure": "kill", "grace": 2.0}, "hold", 2, "kill"),
        (Kind.UNSURE, {"on_unsure": "kill", "mode": "hold"}, "hold", 0, "kill"),
    ],
)
def test_what_is_done_on_a_verdict(kind, settings, do, seconds, then):
    action = decide(Settings(**settings), kind)
    assert (action.do, action.seconds, action.then) == (do, seconds, then)
    assert bool(action.why) == (do == "hold")


@given(st.sampled_from(Kind), st.sampled_from(["kill", "hold"]), st.sampled_from(["hold", "release", "kill"]))
def test_mode_hold_kills_nobody(kind, on_bomb, on_unsure):
    settings = Settings(mode="hold", on_bomb=on_bomb, on_unsure=on_unsure, unsure_timeout=1.0, unsure_then="kill")
    action = decide(settings, kind)
    assert action.do != "kill"
    assert not action.seconds


# -- the next budget ---------------------------------------------------------------------------------------------------

_FREE = Limit("pid_max", 1000, 32_768)


def test_a_burst_of_a_thousand_threads_fits_into_its_first_larger_budget():
    assert budget(Settings(), 300, 301, _FREE, doubtful=False) >= 1100
    assert budget(Settings(), 300, 301, None, doubtful=False) >= 1100


def test_what_smells_of_a_bomb_stays_below_twice_hold_at():
    assert 450 < budget(Settings(), 300, 300, _FREE, doubtful=True) < 600


def test_what_grew_past_its_limit_before_it_stood_still_has_had_a_part_of_the_larger_budget():
    assert budget(Settings(), 300, 900, None, doubtful=False) == 1200


@given(st.integers(4, 5000), st.integers(0, 5000), st.integers(0, 40_000), st.booleans())
def test_no_budget_is_more_than_half_of_what_is_free_nor_less_than_what_is_there(limit, slots, used, doubtful):
    tightest = Limit("pid_max", used, 32_768)
    found = budget(Settings(), limit, slots, tightest, doubtful=doubtful)
    assert slots < found <= slots + max(1, tightest.free // 2)


def group(number, kind, slots, limit):
    who = ProcessKey(5, 1)
    return Group(number, 1, who, who, 0, 0, 0, 0, 0, 0, slots, 0, slots, limit, 150, kind, 0, 0, 0)


def groups(*branches, family):
    made = [group(1, GroupKind.FAMILY, *family)]
    made += [group(at, GroupKind.BRANCH, *slots_and_limit) for at, slots_and_limit in enumerate(branches, 2)]
    return {g.id: g for g in made}


def test_a_branch_can_use_its_budget_before_its_family_is_held():
    made = groups((300, 300), (20, 300), family=(320, 450))
    found = budgets(Settings(), made, [made[2]], None, doubtful=False)
    assert found[2] == 1200
    assert found[1] >= 20 + 1200
    assert 3 not in found


def test_the_budget_of_a_family_is_never_made_smaller():
    made = groups((300, 300), family=(320, 5000))
    assert budgets(Settings(), made, [made[2]], None, doubtful=True)[1] == 5000


def test_a_family_and_its_large_branches_grow_together():
    made = groups((280, 300), (20, 300), family=(450, 450))
    found = budgets(Settings(), made, [made[1]], None, doubtful=False)
    assert found == {1: 1800, 2: 1200}


# -- how often ---------------------------------------------------------------------------------------------------------


def test_strikes_are_those_of_the_group_that_crossed():
    strikes = Strikes()
    strikes.add([3], 1, SECOND)
    assert strikes.count([3], 2 * SECOND, 30) == 1
    assert strikes.count([4], 2 * SECOND, 30) == 0
    assert strikes.count([3, 4], 2 * SECOND, 30) == 1


def test_strikes_are_forgotten_after_a_while():
    strikes = Strikes()
    strikes.add([3], 2, SECOND)
    assert strikes.count([3], 31 * SECOND, 30) == 2
    assert strikes.count([3], 31 * SECOND + 1, 30) == 0
    assert strikes.count([3], 2 * SECOND, 30) == 0


# -- whom the configuration protects -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "units"),
    [
        ("/system.slice/postgresql.service", {"system.slice", "postgresql.service"}),
        ("/system.slice/postgresql.service/postgresql.service", {"system.slice", "postgresql.service"}),
        ("/user.slice/user-7.slice/user@7.service/app.slice/nginx.service", {"user-7.slice", "user@7.service"}),
        ("/system.slice/docker-1.scope/system.slice/nginx.service", {"docker-1.scope"}),
        ("/", set()),
    ],
)
def test_units_are_those_that_systemd_itself_keeps(path, units):
    found = set(system_units(path))
    assert units <= found
    assert "nginx.service" not in found


@pytest.mark.parametrize(
    ("paths", "rules", "why"),
    [
        (["/a/b"], {"cgroups": ("/a",)}, "cgroup /a is protected"),
        (["/x", "/a"], {"cgroups": ("/a",)}, "cgroup /a is protected"),
        (["/ab"], {"cgroups": ("/a",)}, ""),
        (["/a"], {"cgroups": ("/a/b",)}, ""),
        (["/anything"], {"cgroups": ("",)}, "cgroup / is protected"),
        (["/system.slice/pg.service"], {"units": {"pg.service"}}, "unit pg.service is protected"),
        (["/user.slice/user@7.service/pg.service"], {"units": {"pg.service"}}, ""),
        (["/system.slice/xpg.service"], {"units": {"pg.service"}}, ""),
        ([], {"cgroups": ("",), "units": {"pg.service"}}, ""),
    ],
)
def test_who_is_protected_by_cgroup_or_unit(monkeypatch, paths, rules, why):
    monkeypatch.setattr(cgroup, "paths", lambda _pid: paths)
    rules = {name: frozenset(value) if name == "units" else value for name, value in rules.items()}
    assert Protection(**rules).why(record(ProcessKey(5, 1))) == why


def test_who_is_protected_by_user():
    rules = Protection(uids=frozenset([7]))
    assert rules.why(record(ProcessKey(5, 1), uid=7)) == "user 7 is protected"
    assert rules.why(record(ProcessKey(5, 1), uid=8)) == ""


def test_a_cgroup_is_protected_as_it_is_shown_or_where_it_is_mounted(monkeypatch):
    monkeypatch.setattr(cgroup, "mounts", lambda: cgroup.Mounts("/sys/fs/cgroup", {}))
    made = protection(Settings(protect_cgroups=("/sys/fs/cgroup/a/", "/b", "/"), protect_users=("7",)))
    assert made == Protection(frozenset([7]), ("/a", "/b", ""), frozenset())
    assert made.by_cgroup
    assert not protection(Settings()).by_cgroup


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('\nprotect_cgroups = ["a"]', "/proc/PID/cgroup"),
        ('\nprotect_cgroups = ["/a\\u0000"]', "no cgroup's path"),
        ('\nprotect_units = ["a/b.service"]', "systemctl status"),
        ('\nprotect_units = ["postgresql"]', "postgresql.service"),
        ('\nprotect_units = ["a b.service"]', "no unit"),
    ],
)
def test_what_is_no_cgroup_and_no_unit_is_refused_with_what_to_type(text, what):
    with pytest.raises(ConfigError, match="line 2") as why:
        parse(text, "x")
    assert what in str(why.value)


def test_cgroups_and_units_as_they_should_be():
    text = 'protect_cgroups = ["/a"]\nprotect_units = ["x@1.service", "y.scope", "z-a.slice"]'
    assert parse(text, "x").protect_units == ("x@1.service", "y.scope", "z-a.slice")

"""Who else sets a limit: the files of sysctl.d with their precedence, and programs, on a machine made of files."""

from __future__ import annotations

import os

import pytest

from pidwarden.diagnose import owners
from pidwarden.diagnose.owners import Ours
from pidwarden.kernel import owners as others
from pidwarden.kernel import sysctld
from pidwarden.model.limit import find

PID_MAX, CT_MAX, CT_BUCKETS = "kernel/pid_max", "net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_buckets"


@pytest.fixture
def machine(tmp_path):
    class Files:
        root = str(tmp_path)
        proc = str(tmp_path / "proc")

        def write(self, name, text):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())

        def decides(self, key=PID_MAX):
            found = owners.at_boot(sysctld.assignments(self.root), key).decides
            return found and (os.path.relpath(found.path, tmp_path), found.line, found.value)

        def claims(self, *keys):
            return others.claims(keys, self.root, self.proc)

    (tmp_path / "proc").mkdir()
    return Files()


def test_the_last_name_decides_in_whichever_folder_it_is(machine):
    machine.write("usr/lib/sysctl.d/50-a.conf", "kernel.pid_max = 1\n")
    machine.write("etc/sysctl.d/10-b.conf", "kernel.pid_max = 2\n")
    assert machine.decides() == ("usr/lib/sysctl.d/50-a.conf", 1, "1")


def test_of_one_name_the_first_folder_counts(machine):
    for n, folder in enumerate(("usr/lib", "run", "etc")):
        machine.write(f"{folder}/sysctl.d/50-a.conf", f"\n# comment\n; comment\nkernel/pid_max={n}\n")
    assert machine.decides() == ("etc/sysctl.d/50-a.conf", 4, "2")


def test_a_file_may_be_masked(machine, tmp_path):
    machine.write("usr/lib/sysctl.d/50-a.conf", "kernel.pid_max = 1\n")
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    (tmp_path / "etc/sysctl.d/50-a.conf").symlink_to("/dev/null")
    assert machine.decides() is None


def test_the_last_line_of_a_file_decides_and_blanks_do_not_count(machine):
    machine.write("etc/sysctl.d/a.conf", "kernel.pid_max=1\n  -kernel.pid_max\t=\t 2  \nno line\n=5\n")
    assert machine.decides() == ("etc/sysctl.d/a.conf", 2, "2")


def test_a_name_goes_before_a_pattern_and_a_pattern_has_exceptions(machine):
    machine.write(
        "etc/sysctl.d/a.conf", "kernel.pid_max = 1\nkernel.pid_* = 2\nkernel.threads-* = 3\n-kernel.threads-max\n"
    )
    assert machine.decides() == ("etc/sysctl.d/a.conf", 1, "1")
    assert machine.decides("kernel/threads-max") is None
    assert machine.decides("kernel/pid_other") == ("etc/sysctl.d/a.conf", 2, "2")


def test_sysctl_conf_is_read_last_by_all_but_systemd(machine):
    machine.write("etc/sysctl.d/zz.conf", "kernel.pid_max = 1\n")
    machine.write("etc/sysctl.conf", "kernel.pid_max = 2\n")
    assert machine.decides() == ("etc/sysctl.conf", 1, "2")
    machine.write("run/systemd/system/x", "")
    assert machine.decides() == ("etc/sysctl.d/zz.conf", 1, "1")
    by_hand = owners.at_boot(sysctld.assignments(machine.root), PID_MAX).by_hand
    assert [a.value for a in by_hand] == ["2"]


def test_pipes_and_hostile_bytes_stop_nobody(machine, tmp_path):
    machine.write("etc/sysctl.d/b\x1b[2J.conf", b"\xff\xfe = 1\nkernel.pid_max = 7\n")
    os.mkfifo(tmp_path / "etc/sysctl.d/c.conf")
    found = machine.decides()
    assert found is not None
    assert found[2] == "7"


@pytest.mark.parametrize(
    ("key", "slashed"),
    [
        ("kernel.pid_max", PID_MAX),
        ("kernel/pid_max", PID_MAX),
        ("net.ipv4.conf.eth0/1.x", "net/ipv4/conf/eth0.1/x"),
        ("x", "x"),
    ],
)
def test_separators(key, slashed):
    assert sysctld.slashed(key) == slashed


def warnings(machine, value, *, lasts, key=PID_MAX):
    ours = Ours({key: value}, f"{machine.root}/etc/sysctl.d/99-zz-pidwarden-pid_max.conf", lasts)
    return owners.warnings(ours, sysctld.assignments(machine.root), machine.claims(key))


def test_another_file_is_named_before_we_fight_it(machine):
    machine.write("etc/sysctl.d/50-a.conf", "kernel.pid_max = 1\n")
    [said] = warnings(machine, "5", lasts=True)
    assert said.endswith("50-a.conf:1 sets kernel.pid_max to 1: our file is applied after it")
    [said] = warnings(machine, "5", lasts=False)
    assert "so it will be again after the next boot" in said
    assert warnings(machine, "1", lasts=True) == []


def test_a_file_that_is_applied_after_ours_takes_it_away(machine):
    machine.write("etc/sysctl.d/zzz.conf", "kernel.pid_max = 1\n")
    [said] = warnings(machine, "5", lasts=True)
    assert "zzz.conf:1 is applied after our file and sets kernel.pid_max to 1: with it the value is lost" in said


def test_our_own_file_is_not_somebody_else(machine):
    machine.write("etc/sysctl.d/99-zz-pidwarden-pid_max.conf", "kernel.pid_max = 1\n")
    assert warnings(machine, "5", lasts=True) == []


# -- programs ----------------------------------------------------------------------------------------------------------


def test_the_kernels_command_line(machine):
    machine.write("proc/cmdline", "ro sysctl.kernel.pid_max=9 nf_conntrack.hashsize=77 quiet\n")
    assert [(c.who, c.value) for c in machine.claims("kernel.pid_max")] == [("the kernel's command line", "9")]
    assert [c.value for c in machine.claims("net.netfilter.nf_conntrack_buckets")] == ["77"]


def test_options_of_the_module(machine):
    machine.write(
        "etc/modprobe.d/x.conf", "# options nf_conntrack hashsize=1\noptions nf_conntrack acct=1 hashsize=5000\n"
    )
    [claim] = machine.claims("net.netfilter.nf_conntrack_buckets")
    assert (claim.value, claim.where.endswith("x.conf:2")) == ("5000", True)
    assert machine.claims("kernel.pid_max") == []


def test_kube_proxy_by_its_file_or_its_name(machine):
    assert machine.claims("net.netfilter.nf_conntrack_max") == []
    machine.write("proc/77/comm", "kube-proxy\n")
    [claim] = machine.claims("net.netfilter.nf_conntrack_max")
    assert claim.where == "it runs as process 77"
    assert claim.value == str(max(32768 * (os.cpu_count() or 1), 131072))
    machine.write("var/lib/kube-proxy/config.conf", "conntrack:\n  maxPerCore: 1000\n  min: 99000000\n")
    [claim] = machine.claims("net.netfilter.nf_conntrack_max")
    assert (claim.value, claim.last) == ("99000000", True)
    machine.write("var/lib/kube-proxy/config.conf", "conntrack:\n  maxPerCore: 0\n")
    assert machine.claims("net.netfilter.nf_conntrack_max") == []


def test_the_profile_of_tuned_and_those_it_includes(machine):
    machine.write("etc/tuned/active_profile", "mine\n")
    machine.write("etc/tuned/mine/tuned.conf", "[main]\ninclude=theirs, mine\n[vm]\nkernel.pid_max=1\n")
    machine.write("usr/lib/tuned/theirs/tuned.conf", "[sysctl]\nkernel.pid_max = 4\n")
    [claim] = machine.claims("kernel.pid_max")
    assert (claim.who, claim.value, claim.where.endswith("theirs/tuned.conf:2")) == ("tuned", "4", True)


def test_ufw(machine):
    machine.write("etc/ufw/sysctl.conf", "#x\nkernel/pid_max=4\n")
    assert [(c.who, c.value, c.last) for c in machine.claims("kernel.pid_max")] == [("ufw", "4", True)]


def test_cloud_init(machine):
    machine.write("etc/cloud/cloud.cfg.d/9.cfg", "# kernel.pid_max\nruncmd:\n - sysctl -w kernel.pid_max=7\n")
    [claim] = machine.claims("kernel.pid_max")
    assert (claim.who, claim.where.endswith("9.cfg:3")) == ("cloud-init", True)


def test_who_is_named_in_the_list(machine):
    setting = find("pid_max").setting
    assert owners.owner(setting, [], []) == ("", "")
    machine.write("etc/sysctl.d/a.conf", "kernel.pid_max = 1\n")
    where, value = owners.owner(setting, sysctld.assignments(machine.root), [])
    assert (where.endswith("a.conf:1"), value) == (True, "1")

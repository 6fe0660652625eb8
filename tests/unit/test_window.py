"""When the dead stay longer than the window, by values; and how /proc says that memory is short."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pidwarden.guard.retention import Look, Watch
from pidwarden.kernel.pressure import Memory, memory

SECOND = 1_000_000_000
CALM = Memory()


def look(second, slots=100, memory=CALM, held=0):
    return Look(int(second * SECOND), slots, memory, held)


def watch(*looks, window=30):
    """What the last of several looks says."""
    found = Watch(window * SECOND)
    return [found.trouble(one) for one in looks][-1]


def test_a_calm_machine_is_no_trouble():
    assert watch(*(look(s) for s in range(0, 60, 5))) == ""


def test_a_held_family_is_trouble_at_the_first_look():
    assert watch(look(0, held=2)) == "2 held"


def test_slots_that_rise_are_trouble_until_the_rise_is_older_than_the_window():
    rise = [look(0), look(5), look(10, 200)]
    assert watch(*rise) == "the number of slots rises: 100 to 200"
    assert "rises" in watch(*rise, look(20, 200))
    assert watch(*rise, look(41, 200)) == ""


@given(st.integers(0, 100_000), st.integers(0, 100_000))
def test_a_rise_is_32_slots_or_an_eighth(before, after):
    assert bool(watch(look(0, before), look(5, after))) == (after - before >= max(32, before // 8))


def test_memory_that_runs_short_is_trouble_while_it_does():
    for short in (Memory(stalls=7), Memory(scanned=99), Memory(waiting=50.0)):
        assert watch(look(0), look(5, memory=short))
    assert watch(look(0), look(5, memory=Memory(stalls=7)), look(10, memory=Memory(stalls=7))) == ""


def test_an_oom_kill_is_remembered_for_a_window():
    killed = Memory(oom_kills=1)
    assert watch(look(0), look(5, memory=killed)) == "1 out-of-memory kills"
    assert "out-of-memory" in watch(look(0), look(5, memory=killed), look(25, memory=killed))
    assert watch(look(0), look(5, memory=killed), look(40, memory=killed)) == ""


def test_memory_is_read_from_vmstat_and_the_pressure_file(tmp_path):
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure/memory").write_text(
        "some avg10=12.50 avg60=1.00 avg300=0.00 total=7\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=3\n"
    )
    (tmp_path / "vmstat").write_text(
        "nr_free_pages 7\nallocstall_dma 1\nallocstall_normal 4\npgscan_kswapd 9\noom_kill 2\n"
    )
    assert memory(str(tmp_path)) == Memory(stalls=5, scanned=9, oom_kills=2, waiting=12.5)


def test_a_kernel_without_pressure_stall_information_is_no_error(tmp_path):
    (tmp_path / "vmstat").write_text("oom_kill 2\n")
    assert memory(str(tmp_path)) == Memory(oom_kills=2)

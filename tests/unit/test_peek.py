"""Memory is read only where it is: no page is fetched for it."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

import pytest

from pidwarden.kernel import peek
from pidwarden.kernel.procfs import PAGE


@pytest.fixture
def pages():
    """Four pages that nobody has touched, and where they are."""
    area = mmap.mmap(-1, 4 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    view = ctypes.c_char.from_buffer(area)
    yield area, ctypes.addressof(view)
    del view
    area.close()


def test_what_is_there_is_read_and_no_more(pages):
    area, address = pages
    area[PAGE - 4 : PAGE] = b"here"
    assert peek.memory(peek.asked, os.getpid(), address + PAGE - 4, 64) == b"here"
    assert peek.memory(peek.asked, os.getpid(), address + PAGE - 4, 2) == b"he"


def test_a_page_that_is_not_there_is_not_fetched(pages):
    _area, address = pages
    with pytest.raises(OSError, match="not in memory") as why:
        peek.memory(peek.asked, os.getpid(), address + PAGE, 8)
    assert why.value.errno == errno.EFAULT
    with pytest.raises(OSError, match="not in memory"):
        peek.memory(peek.asked, os.getpid(), 0, 8)


def test_only_shared_memory_is_said_to_be_shared(pages):
    _area, address = pages
    me = os.getpid()
    assert peek.mapped(peek.asked, me, address) == ("", "")
    shared = mmap.mmap(-1, PAGE)
    view = ctypes.c_char.from_buffer(shared)
    what = peek.mapped(peek.asked, me, ctypes.addressof(view))
    assert all(what)
    assert peek.maps_it(peek.asked, me, what)
    assert not peek.maps_it(peek.asked, me, ("00:00", "1"))
    del view
    shared.close()

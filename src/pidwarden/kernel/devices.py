"""Device numbers as the kernel itself has them."""

from __future__ import annotations

import os


def kernel_device(st_dev: int) -> int:
    """The kernel's own encoding of a device number (include/linux/kdev_t.h): major above 20 bits of minor."""
    return os.major(st_dev) << 20 | os.minor(st_dev)

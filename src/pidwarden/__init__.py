"""pidwarden keeps the process table of a Linux machine usable."""

__version__ = "0.1.0"

"""What goes wrong in the lab: what was tried, why it failed, and what to type next."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot do what it was asked to."""


class Unavailable(LabError):  # noqa: N818  (a state of the machine)
    """A thing the lab needs is not on this machine and cannot be had: a reason to skip, not a failure."""

"""Fixtures of several files here."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def no_copy_left():
    """The copy of the package that an ordinary user runs is taken away at the end."""
    from cli_kit import forget_copy  # noqa: PLC0415  (of few tests only)

    yield
    forget_copy()


@pytest.fixture
def asked(capsys):
    """`pidwarden orphans`, asked in this process."""
    from orphankit import Asked  # noqa: PLC0415

    return Asked(capsys, "--no-guard")


@pytest.fixture
def ask(capsys):
    """`pidwarden trace --why`, asked in this process."""
    from whykit import Asking  # noqa: PLC0415

    return Asking(capsys)

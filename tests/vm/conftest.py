"""The virtual machines' tests, as items of this pytest; in a machine there is nothing to add."""

import os

if os.environ.get("PIDWARDEN_IN_GUEST"):
    collect_ignore = ["test_lab.py"]
else:
    from lab.plugin import pytest_collect_file, pytest_sessionfinish, pytest_terminal_summary  # noqa: F401

    collect_ignore = ["guest"]

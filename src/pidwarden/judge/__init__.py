"""Families in, verdicts out. Pure."""

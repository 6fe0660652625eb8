"""System calls by family: who is traced, what is captured, what it says, how it is shown, and what each waits for.

:mod:`tracer`, :mod:`rings` and :mod:`enlist` talk to the kernel; the rest is pure: events in, values and text out.
"""

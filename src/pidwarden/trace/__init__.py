<<<<<<< HEAD
"""System calls by family: who is traced, what is captured, what it says, how it is shown.

:mod:`tracer` and :mod:`rings` talk to the kernel; the rest is pure: events in, values and text out.
"""
=======
"""What processes are doing: system calls, and who waits for whom."""
>>>>>>> why

"""What processes are doing: system calls, and who waits for whom."""

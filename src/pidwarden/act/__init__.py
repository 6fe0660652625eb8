"""What changes the system, each with its undo or its proof beside it."""

"""Game days: real bombs, in a pen with a dead-man switch, against the guard as it is shipped."""

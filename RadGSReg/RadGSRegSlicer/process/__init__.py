"""Child processes, timers, and what is installed."""

"""Child processes and their drivers, timers, and what is installed."""

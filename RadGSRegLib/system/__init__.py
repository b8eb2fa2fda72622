"""What long work needs of the machine: progress, threads, signals, and warp's start."""

"""What the measurements of speed share: devices, timing, counted work, scenes, guarded parts.

For `Testing/benchmarks/floors.py` and `Testing/gpu/measure.py`, which have `Testing` and
`Testing/benchmarks` on their path.
"""

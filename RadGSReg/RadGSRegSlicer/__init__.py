"""Everything of RadGSReg that knows Slicer: scene, X-ray nodes, segments, child processes, results.

Nothing here imports torch; the pipeline runs in a child process (`jobs`, `tasks`).
"""

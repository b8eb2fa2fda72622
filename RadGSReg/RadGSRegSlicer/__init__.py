"""Everything of RadGSReg that knows Slicer.

The rooms, each of which may use those before it: scene and process, exchange, operations, review,
panel. Nothing here imports torch; the pipeline runs in a child process.
"""

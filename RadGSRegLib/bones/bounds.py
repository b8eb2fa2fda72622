"""The numbers that decide what is bone, and which way it faces.

Each stands here once: its value, its unit, and what it was measured on. "No evidence" means that
neither a document nor the history of the code says so.
"""

# What is above this percentile of a reconstruction's values is bone: the published value.
PERCENTILE = 80.0

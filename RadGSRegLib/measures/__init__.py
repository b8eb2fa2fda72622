"""How far a result lies from the truth: errors of a pose, and of a volume."""

"""Training: losses, data made on the fly, the three stages, checkpoints (math.md section 3)."""

"""The nodes of the scene: X-rays, segments, starts, results, drawings, what the user has chosen."""

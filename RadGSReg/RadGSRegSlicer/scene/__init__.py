"""The nodes of the scene: X-rays, frames, segments, levels, starts, the C-arm's drawing."""

"""Baselines, as simple as their papers have them: what our own methods are measured against."""

from .entries import descent, gaussians, start, voxels

__all__ = ["descent", "gaussians", "start", "voxels"]

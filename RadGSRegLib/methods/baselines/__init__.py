"""Baselines, as simple as their papers have them: what our own methods are measured against."""

from .entries import descent as descent
from .entries import gaussians as gaussians
from .entries import start as start
from .entries import voxels as voxels

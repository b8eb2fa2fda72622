"""Rivals, as simple as their papers have them: what our own methods are measured against."""

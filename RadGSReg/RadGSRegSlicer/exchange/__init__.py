"""Nodes to case folders, and result files to nodes."""

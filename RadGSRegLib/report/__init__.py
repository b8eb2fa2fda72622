"""Everything that a result shows on disk: overlays, pages, and the result files."""

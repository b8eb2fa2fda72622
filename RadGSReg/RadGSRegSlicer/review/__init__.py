"""Step 5, the review: nodes only, no window; `RadGSRegSlicer.panel` calls it."""

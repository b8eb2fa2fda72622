"""Step 5, the review: see what was registered, correct it by hand, accept it or take it back.

Everything here works on nodes and needs no window; `RadGSRegSlicer.panel` only calls it.
"""

"""Networks that learn reconstruction and registration (math.md section 3)."""

"""What the logic can do: one file per operation."""

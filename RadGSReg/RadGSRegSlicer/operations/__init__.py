"""What the logic can do: one file per operation, each with its typed request."""

"""What a recorded history comes to under another policy (docs/whatif.md)."""

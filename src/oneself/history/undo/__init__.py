"""Taking decisions back, and splitting users (docs/undo.md)."""

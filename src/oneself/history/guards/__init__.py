"""What guards held off, and what is shared by many (docs/guards.md)."""

"""The whole life of a profile, and who held an identity when (docs/why.md)."""

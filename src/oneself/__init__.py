"""Oneself: identity resolution and customer profiles, self-hosted."""

__version__ = "0.1.0"

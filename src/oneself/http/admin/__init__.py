"""The admin API: what is known of users, what is coming in, and what was set aside (docs/admin-api.md)."""

from oneself.http.admin.routes import AdminRoutes

__all__ = ["AdminRoutes"]

"""Jobs: what the server does by itself, beside its answers and in small steps (docs/alias.md, docs/retention.md)."""

from oneself.jobs.aliases import AliasJob
from oneself.jobs.expiry import ExpiryJob
from oneself.jobs.job import Counts, Job, Work
from oneself.jobs.retention import RetentionJob
from oneself.jobs.runner import Jobs

__all__ = ["AliasJob", "Counts", "ExpiryJob", "Job", "Jobs", "RetentionJob", "Work"]

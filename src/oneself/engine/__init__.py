"""The engine: collects waiting requests, reads once, decides in order, commits once, answers."""

from oneself.engine.calls import Call, Outcome
from oneself.engine.engine import ENVIRONMENTS, Engine
from oneself.engine.policies import adopt_policies

__all__ = ["ENVIRONMENTS", "Call", "Engine", "Outcome", "adopt_policies"]

"""The engine: collects waiting requests, reads once, decides in order, commits once, answers."""

from oneself.engine.calls import Call, Delivery, Outcome
from oneself.engine.engine import ENVIRONMENTS, Engine
from oneself.engine.intake import delivery, misfit
from oneself.engine.policies import adopt_policies

__all__ = ["ENVIRONMENTS", "Call", "Delivery", "Engine", "Outcome", "adopt_policies", "delivery", "misfit"]

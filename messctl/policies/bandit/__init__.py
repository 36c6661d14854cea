"""`bandit`: queries one model per request, learns from the feedback on its answer alone, and needs no V.

It serves the model with the least expected cost less λ times expected satisfaction. λ, the price of satisfaction, rises
with the debt. If the debt grows too large, a guard serves the model that can pay it, whatever else is predicted.

- `prompt`: what it sees of a prompt · `satisfaction`, `costs`: what it expects of each model
- `price`: λ · `choice`: the decision · `trials`: coins that try other models
- `debt`, `pending`: the balance, and feedback that is still to come
- `search`: the search for a cheap model that suffices alone · `guard`: who pays the debt
- `tuning`: all constants · `state`: all that is known · `rounds`: a replay · `policy`, `calls`: the policy itself

docs/bandit.md explains the algorithm, with a figure, a table of the constants, and why the debt is paid.
"""

from __future__ import annotations

from messctl.policies.bandit.policy import POLICY, STATE_VERSION, Bandit
from messctl.policies.bandit.tuning import Tuning

__all__ = ["POLICY", "STATE_VERSION", "Bandit", "Tuning"]

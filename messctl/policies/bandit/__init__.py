"""`bandit`: queries one model per request, learns from the feedback on its answer alone, and needs no V.

It serves the model with the least expected cost less λ times expected satisfaction. λ, the price of satisfaction, rises
as the balance of good answers falls. The balance is steered to a small surplus, a reserve against bad luck. If half of
that is gone a guard decides, whatever is predicted of the prompt.

- `prompt`: what it sees of a prompt · `satisfaction`, `costs`: what it expects of each model
- `balance`, `pending`: the balance and its reserve, and feedback that is still to come
- `price`: λ · `choice`: the decision, and the guard · `trials`: coins that try other models
- `tuning`: all constants · `state`: all that is known · `rounds`: a replay · `policy`, `calls`: the policy itself

docs/bandit.md explains the algorithm, with a figure, a table of the constants, and why the debt is paid.
"""

from __future__ import annotations

from messctl.policies.bandit.policy import POLICY, STATE_VERSION, Bandit
from messctl.policies.bandit.tuning import Tuning

__all__ = ["POLICY", "STATE_VERSION", "Bandit", "Tuning"]

"""`messplus`: the router of MESS+ (arXiv:2505.19947).

With probability min(1, c / t^¼) it explores: it queries and pays for every model, learns each label, and serves the
reference's answer. Otherwise it serves argmin of V·Ē + Q·(α − ŝ).

A request whose answers nobody will grade cannot be explored, as is common in live use. There it learns from the
feedback on the served answer alone. Ē is the running mean, as published: what is known in advance about the cost of a
request (`Request.prompt_cost`) is not used.
"""

from __future__ import annotations

from messctl.policies.messplus.policy import POLICY, STATE_VERSION, MessPlus

__all__ = ["POLICY", "STATE_VERSION", "MessPlus"]

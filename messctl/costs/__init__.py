"""Costs: what an answer costs, measured, stated or estimated."""

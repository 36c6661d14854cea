"""Replay: plays a recorded trace through policies and measures cost and attainment."""

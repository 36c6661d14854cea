"""Record: every model answers every prompt, the answers are graded, and a trace is written."""

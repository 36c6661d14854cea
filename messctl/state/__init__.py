"""State: requests, answers, feedback and what the policies have learned, in one SQLite file."""

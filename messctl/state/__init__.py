"""State: requests, answers, feedback and what the policies learned, in one SQLite file."""

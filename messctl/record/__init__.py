"""Record: asks every model every prompt, grades the answers and writes a trace."""

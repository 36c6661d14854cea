"""Live: a request goes through the policy to a model, and what it teaches goes into the state."""

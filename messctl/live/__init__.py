"""Live: a request goes through the policy to a model, and what comes of it into the state."""

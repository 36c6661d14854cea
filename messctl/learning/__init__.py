"""Learning: features of prompts, predictors, the virtual queue, mean costs, random streams, and stored state."""

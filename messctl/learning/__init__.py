"""Learning: features, predictor, virtual queue, mean costs, and the named random streams."""

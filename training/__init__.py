"""Trains, exports and measures the zoo in the box: tiny puzzle models of the Llama architecture."""

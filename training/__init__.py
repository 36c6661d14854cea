"""Trains, exports and measures the packaged models: tiny puzzle models of the Llama architecture."""

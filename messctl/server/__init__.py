"""The HTTP server: any program that speaks OpenAI's protocol asks the live router through it."""

"""Route each prompt to the cheapest model of a zoo while a service-level promise holds."""

__version__ = "0.1.0"

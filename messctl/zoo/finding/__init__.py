"""The search for models that are on this machine already, and the zoo.yaml that is written for them."""

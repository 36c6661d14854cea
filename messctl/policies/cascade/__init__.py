"""The cascade: the bandit that may ask several models for one request, and shows the answer it believes most.

A request goes through the modules in this order: `choice` says which model to ask first, `plan` whether to ask another
one, `learning` takes the feedback on the shown answer. `difficulty` says how likely answers are to be right together,
`agreement` how likely they are to be equal, and `confidence` what their log-probabilities tell. See
docs/second-look.md.
"""

"""Off-policy evaluation: what a policy would have attained and cost, from the log of another that served live."""

from messctl.off_policy.evaluation import Estimated, Evaluated, Evaluation, evaluate
from messctl.off_policy.log import Log, read

__all__ = ["Estimated", "Evaluated", "Evaluation", "Log", "evaluate", "read"]

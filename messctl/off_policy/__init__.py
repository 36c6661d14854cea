"""Off-policy evaluation: an estimate, from the log of one policy, of what another would have attained and cost."""

from messctl.off_policy.evaluation import Estimated, Evaluated, Evaluation, evaluate
from messctl.off_policy.log import Log, read

__all__ = ["Estimated", "Evaluated", "Evaluation", "Log", "evaluate", "read"]

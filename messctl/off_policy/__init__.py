"""Off-policy evaluation: an estimate, from the log of one policy, of what another would have attained and cost."""

from messctl.off_policy.evaluation import EstimatorResult, Evaluation, PolicyEstimates, evaluate
from messctl.off_policy.log import Log, read

__all__ = ["EstimatorResult", "Evaluation", "Log", "PolicyEstimates", "evaluate", "read"]

"""The zoo: which models there are, in what order, what is promised, and how the promise is kept."""

from messctl.zoo.check import ModelCheck, Problem, ZooCheck, check_zoo
from messctl.zoo.file import DEFAULT_FILE, PACKAGED_FILE, SUBTRACTED, ZooFile, load_settings, load_zoo
from messctl.zoo.models import CostPerToken, ModelSpec, Zoo, costliest
from messctl.zoo.settings import Settings

__all__ = [
    "DEFAULT_FILE",
    "PACKAGED_FILE",
    "SUBTRACTED",
    "CostPerToken",
    "ModelCheck",
    "ModelSpec",
    "Problem",
    "Settings",
    "Zoo",
    "ZooCheck",
    "ZooFile",
    "check_zoo",
    "costliest",
    "load_settings",
    "load_zoo",
]

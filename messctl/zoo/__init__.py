"""The zoo: its models and their order, the promise, and the settings that keep it, all from zoo.yaml."""

from messctl.zoo.check import ModelCheck, Problem, ZooCheck, check_zoo
from messctl.zoo.file import DEFAULT_FILE, PACKAGED_FILE, SUBTRACTED, ZooFile, load_settings, load_state_place, load_zoo
from messctl.zoo.grading import Grading
from messctl.zoo.models import CostPerToken, ModelSpec, Zoo, costliest
from messctl.zoo.settings import Settings

__all__ = [
    "DEFAULT_FILE",
    "PACKAGED_FILE",
    "SUBTRACTED",
    "CostPerToken",
    "Grading",
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
    "load_state_place",
    "load_zoo",
]

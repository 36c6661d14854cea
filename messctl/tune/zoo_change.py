"""The change to a zoo.yaml that writes a chosen setting into it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from messctl.tune.space import SEARCHED, zoo_values
from messctl.zoo import DEFAULT_FILE, Settings, load_settings
from messctl.zoo.edit import edit_settings


def zoo_change(output: Path, zoo: Path | None, settings: Settings) -> tuple[Path, str, str]:
    """Return the zoo file to start from, its text, and the text for `output`.

    The file to start from is `output` if it exists, else `zoo`, else ./zoo.yaml. The change sets every searched key,
    and every other key in which the file differs from the settings that were played. Raises ConfigError, with the
    line, for a file that is not valid.
    """
    source = output if output.exists() else zoo or DEFAULT_FILE
    current = load_settings(source)[0] if source.exists() else Settings()
    stated = zoo_values(replace(current, policy=settings.policy))
    values = {key: value for key, value in zoo_values(settings).items() if key in SEARCHED or value != stated[key]}
    return source, *edit_settings(source, values, output)

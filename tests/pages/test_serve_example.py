"""examples/serve/: the dashboard and the page name the metrics that there are, and the unit can be started."""

import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import command_lines
import pages
import pytest
import yaml
from long_states import judged, new_store

pytest.importorskip("prometheus_client")

FOLDER = pages.ROOT / "examples" / "serve"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
UNIT = (FOLDER / "messctl.service").read_text(encoding="utf-8")
WORDS = {"sum", "by", "rate", "max", "histogram_quantile", "le"}
"""What PromQL itself knows, of the words on the dashboard."""


@pytest.fixture(scope="module")
def series():
    """The labels of every series, by name."""
    from messctl.server.metrics import Metrics, Reading
    from messctl.state.ledger import Ledger

    with new_store() as store:
        judged(store, [(0.8, 1.0)])
        reading = Reading(0.8, Ledger.of(store), ("a",))
    metrics = Metrics(lambda: {"default": reading}, dict)
    found = {}
    for family in metrics._registry.collect():
        ends = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        own = {label for sample in family.samples for label in sample.labels}
        counter = metrics._counters.get(family.name.removeprefix("messctl_"))
        own |= set(counter._labelnames) if counter else set()
        for end in ends:
            found[family.name + end] = own | ({"le"} if end == "_bucket" else set())
    for name, histogram in (("first_token", metrics._first_token), ("decision", metrics._decision)):
        found[f"messctl_{name}_seconds_bucket"] |= set(histogram._labelnames)
    return found


def expressions():
    return [target for panel in DASHBOARD["panels"] for target in panel["targets"]]


def names(expression):
    return set(re.findall(r"messctl_\w+", expression))


def test_every_metric_of_the_dashboard_exists_with_its_labels(series):
    assert len(expressions()) > 15
    for target in expressions():
        own = names(target["expr"])
        assert own
        assert own <= set(series), target["expr"]
        labels = set().union(*(series[name] for name in own))
        grouped = [word for each in re.findall(r"by \(([^)]*)\)", target["expr"]) for word in each.split(", ")]
        chosen = re.findall(r"(\w+)=~?\"", target["expr"])
        shown = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
        assert {*grouped, *chosen, *shown} <= labels | {"le"}, target["expr"]
        assert set(shown) <= set(grouped) or not grouped
        plain = re.sub(r"messctl_\w+|\"[^\"]*\"|\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)", "", target["expr"])
        assert set(re.findall(r"[a-z_]+", plain)) <= WORDS


def test_every_metric_is_on_the_dashboard_and_on_the_page(series):
    shown = {name for target in expressions() for name in names(target["expr"])}
    page = (pages.ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in series if name.startswith("messctl_")}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown} == ours
    assert set(re.findall(r"`(messctl_[a-z_]+)`", page)) == ours


def test_panels_do_not_overlap_and_have_numbers_of_their_own():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & taken
        assert place["x"] + place["w"] <= 24
        taken |= own
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_prometheus_reads_the_port_that_the_unit_serves():
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert f"--port {target.rpartition(':')[2]}" in UNIT


def test_the_unit_starts_a_command_that_exists_and_waits_for_its_answers():
    from messctl.cli.serve import serve
    from messctl.server.run import LONGEST_FAREWELL_S

    grace_s = inspect.signature(serve).parameters["grace"].default

    program, *words = shlex.split(re.search(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)[1])
    assert Path(program).name == "messctl"
    assert command_lines.problem(words) is None
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)[1]) > grace_s + LONGEST_FAREWELL_S


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd here")
    unit = tmp_path / "messctl.service"
    unit.write_text(UNIT.replace("/opt/messctl/bin/messctl", sys.executable), encoding="utf-8")
    done = subprocess.run([program, "verify", unit], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "messctl.service" in line]
    assert not complaints

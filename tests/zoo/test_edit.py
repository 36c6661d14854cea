"""A change to a zoo.yaml keeps its comments in place, its line ends, and the files that its paths lead to."""

import pytest

from messctl.errors import ConfigError
from messctl.zoo import CostPerToken, load_settings, load_zoo
from messctl.zoo.edit import difference, edit_costs, edit_settings, write

NEXT = "\n# What an answer costs\nenergy:\n  meter: auto\n"
SLA = "\nsla:\n  alpha: 0.9\n"

PLACES = [
    ("router:\n  seed: 7\n", "router:\n  seed: 7\n  v: 0.25\n"),
    ("router:\n  seed: 7  # mine\n", "router:\n  seed: 7  # mine\n  v: 0.25\n"),
    ("router:\n  seed: 7\n  # margin: 0\n", "router:\n  seed: 7\n  v: 0.25\n  # margin: 0\n"),
    ("router:\n  features:\n    gguf: x.gguf  # e\n", "router:\n  features:\n    gguf: x.gguf  # e\n  v: 0.25\n"),
    ("router:\n  features: {gguf: x.gguf}  # e\n", "router:\n  features: {gguf: x.gguf}  # e\n  v: 0.25\n"),
    ("router:  # how\n", "router:  # how\n  v: 0.25\n"),
    ("router: {seed: 7}  # how\n", "router: {seed: 7, v: 0.25} # how\n"),
    ("router:\n  v: 2  # old\n", "router:\n  v: 0.25 # old\n"),
    ("router:\n  v: 0.250  # as it was\n", "router:\n  v: 0.250  # as it was\n"),
]


@pytest.mark.parametrize(("before", "after"), PLACES)
def test_new_keys_go_into_their_section_and_new_sections_to_the_end(tmp_path, before, after):
    """The comment above the next section stays above it."""
    path = tmp_path / "zoo.yaml"
    path.write_text(before + NEXT)
    assert edit_settings(path, {"v": 0.25, "alpha": 0.9}) == (before + NEXT, after + NEXT + SLA)
    path.write_text(after + NEXT + SLA)
    assert edit_settings(path, {"v": 0.25, "alpha": 0.9})[1] == after + NEXT + SLA


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", SLA.removeprefix("\n")),
        ("# mine\n", "# mine\n" + SLA),
        ("---\n# mine\n", "---\n# mine\n" + SLA),
        ("---\nmemory:\n  cpu_gb: 1\n", "---\nmemory:\n  cpu_gb: 1\n" + SLA),
        ("memory:\n  cpu_gb: 1\n# gpu_gb: 1\n", "memory:\n  cpu_gb: 1\n# gpu_gb: 1\n" + SLA),
        ("{memory: {cpu_gb: 1}}\n", "{memory: {cpu_gb: 1}, sla: {alpha: 0.9}}\n"),
    ],
)
def test_a_new_section_is_last_below_a_blank_line(tmp_path, before, after):
    path = tmp_path / "zoo.yaml"
    path.write_text(before)
    assert edit_settings(path, {"alpha": 0.9})[1] == after


def test_a_new_key_in_a_cost_keeps_the_comments_below(tmp_path):
    path = tmp_path / "zoo.yaml"
    cost = "models:\n  - name: a\n    path: a.gguf\n    cost:\n      unit: J\n      prompt: 1.0\n      generated: 1.0\n"
    path.write_text(cost + NEXT)
    _, after = edit_costs(path, {"a": CostPerToken("J", 2.0, 3.0, fixed=1.0, measured="here")})
    changed = cost.replace("prompt: 1.0", "prompt: 2.0").replace("generated: 1.0", "generated: 3.0")
    assert after == f"{changed}      fixed: 1.0\n      measured: here\n{NEXT}"


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_line_ends_and_byte_order_mark_are_preserved(tmp_path, bom, ends):
    path = tmp_path / "zoo.yaml"
    before = bom + b"sla:\n  alpha: 0.7  # \xc3\xa4\nrouter:\n  seed: 7\n\n# models\nmodels: []\n".replace(b"\n", ends)
    path.write_bytes(before)
    text, after = edit_settings(path, {"alpha": 0.9, "margin": 0.01})
    assert text.encode() == before
    write(path, after)
    seed = b"seed: 7" + ends
    expected = before.replace(b"alpha: 0.7", b"alpha: 0.9").replace(seed, seed + b"  margin: 0.01" + ends)
    assert path.read_bytes() == expected
    assert load_settings(path)[0].margin == 0.01


MOVED = """\
defaults:
  chat_template: &ours {file: templates/t.jinja}
router:
  features: {gguf: "models/e.gguf"}
models:
  - {name: a, path: models/a.gguf}
  - name: b
    path: ./../b.gguf  # beside
    chat_template: {file: t.jinja}
  - {name: c, path: 'box:pico-34k.gguf', chat_template: *ours}
  - {name: d, path: /models/d.gguf}
  - {name: e, path: ~/e.gguf}
"""


@pytest.mark.parametrize("folder", ["old", "old/new", "other/deep", "linked"])
@pytest.mark.parametrize("costs", [False, True])
def test_in_another_folder_paths_lead_to_the_same_files(tmp_path, folder, costs):
    old, new = tmp_path / "old" / "zoo.yaml", tmp_path / folder / "new.yaml"
    (tmp_path / "old" / "templates").mkdir(parents=True)
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(tmp_path / "far" / "away")
    new.parent.mkdir(parents=True, exist_ok=True)
    old.write_text(MOVED)
    for name in ("templates/t.jinja", "t.jinja"):
        (tmp_path / "old" / name).write_text(name)
    before, after = edit_costs(old, {}, new) if costs else edit_settings(old, {"alpha": 0.9}, new)
    assert before == MOVED
    write(new, after)
    models, moved = load_zoo(old).models, load_zoo(new).models
    assert [model.file.resolve() for model in moved] == [model.file.resolve() for model in models]
    assert [model.chat_template for model in moved] == [model.chat_template for model in models]
    assert load_settings(new)[0].features.resolve() == tmp_path / "old" / "models" / "e.gguf"
    assert str(tmp_path) not in after  # paths stay relative
    assert [line in after for line in MOVED.splitlines()[-2:]] == [True, True]
    if folder == "old":
        assert after.startswith(MOVED)


def test_the_path_of_an_encoder_is_relative_to_the_file(tmp_path):
    path = tmp_path / "zoo.yaml"
    for encoder, text in ((tmp_path / "m" / "e.gguf", "{gguf: m/e.gguf}"), (None, "words")):
        write(path, edit_settings(path, {"features": encoder or "words"})[1])
        assert f"features: {text}" in path.read_text()
        assert load_settings(path)[0].features == encoder


def test_a_reference_must_be_a_model_of_the_file(tmp_path):
    path = tmp_path / "zoo.yaml"
    path.write_text("models: [{name: a, path: a.gguf}]\n")
    with pytest.raises(ConfigError, match=r"the reference 'large' is not one of its models \(a\)"):
        edit_settings(path, {"reference": "large"})
    write(path, edit_settings(path, {"reference": "a"})[1])
    assert load_zoo(path).settings.reference == "a"


def test_a_diff_marks_a_last_line_without_line_end(tmp_path):
    path = tmp_path / "zoo.yaml"
    path.write_text("sla: {alpha: 0.7}")
    before, after = edit_settings(path, {"alpha": 0.9})
    assert difference(path, before, path, after).splitlines()[2:] == [
        "@@ -1 +1 @@",
        "-sla: {alpha: 0.7}",
        "\\ No newline at end of file",
        "+sla: {alpha: 0.9}",
    ]
    assert difference(path, after, path, after) == ""


@pytest.mark.parametrize(
    "cost",
    [
        "    cost: {unit: J, prompt: 1.0, generated: 1.0, estimated: true}\n",
        "    cost:\n      unit: J\n      prompt: 1.0\n      generated: 1.0\n      estimated: true\n",
        "    cost:\n      estimated: true\n      unit: J\n      prompt: 1.0\n      generated: 1.0\n",
    ],
)
def test_a_measured_cost_is_no_estimate_any_more(tmp_path, cost):
    path = tmp_path / "zoo.yaml"
    path.write_text(f"models:\n  - name: a\n    path: a.gguf\n{cost}{NEXT}")
    _, after = edit_costs(path, {"a": CostPerToken("J", 2.0, 3.0, measured="here")})
    assert "estimated" not in after
    assert after.endswith(NEXT)
    path.write_text(after)
    assert load_zoo(path).models[0].cost == CostPerToken("J", 2.0, 3.0, measured="here")


def test_a_measured_cost_of_0_replaces_an_older_one(tmp_path):
    path = tmp_path / "zoo.yaml"
    path.write_text("models:\n- {name: a, path: a, cost: {unit: J, prompt: 1, generated: 1, fixed: 0.5}}\n")
    new = CostPerToken("J", 0.0, 3.0, fixed=0.0, load=0.0)
    path.write_text(edit_costs(path, {"a": new})[1])
    assert load_zoo(path).models[0].cost == new


@pytest.mark.parametrize("folder", [".", "elsewhere"])
@pytest.mark.parametrize(
    "rest", ["models: [null]", "models: 5", "models: {a: b}", "models: [a, [b]]", "defaults: 5", "{}"]
)
def test_settings_are_edited_whatever_stands_in_place_of_models(tmp_path, folder, rest):
    path = tmp_path / "zoo.yaml"
    path.write_text(f"sla: {{alpha: 0.8}}\n{rest}\n" if rest != "{}" else rest)
    try:
        _, after = edit_settings(path, {"alpha": 0.9, "reference": "a"}, tmp_path / folder / "zoo.yaml")
    except ConfigError:
        return
    assert "0.9" in after


@pytest.mark.parametrize("dash", ["-\n    ", "  -\n    ", "  - # the first\n    ", "  - "])
def test_a_dash_may_stand_alone_on_its_line(tmp_path, dash):
    (tmp_path / "zoo.yaml").write_text(
        f"sla: {{alpha: 0.8}}\nmodels:\n{dash}name: a\n    path: a.gguf\n{dash}name: b\n    path: b.gguf\n"
    )
    write(tmp_path / "zoo.yaml", edit_settings(tmp_path / "zoo.yaml", {"alpha": 0.9})[1])
    assert [model.name for model in load_zoo(tmp_path / "zoo.yaml").models] == ["a", "b"]
    assert load_settings(tmp_path / "zoo.yaml")[0].alpha == 0.9

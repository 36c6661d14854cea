"""zoo.yaml and its models: what is read, what is refused and at which line, and how files are checked."""

from __future__ import annotations

import re
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from gguf_making import write_gguf
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from messctl.errors import ConfigError, MissingExtraError, UnknownNameError, UsageError
from messctl.graders import REFERENCE_GRADERS
from messctl.zoo import CostPerToken, Grading, ModelSpec, Settings, Zoo, check_zoo, load_settings, load_zoo
from messctl.zoo import file as zoo_file_module
from messctl.zoo.grading import GRADERS
from messctl.zoo.memory import format_bytes, memory_needed
from messctl.zoo.models import BOX

MODEL = "models:\n  - name: a\n    path: a.gguf\n"


def written(tmp_path, text):
    path = tmp_path / "zoo.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_models_are_sorted_and_indexed_by_name():
    zoo = Zoo.of(["b", "c/x", "a"], "c/x")
    assert zoo.models == ("a", "b", "c/x")
    assert [zoo.index(model) for model in zoo.models] == [0, 1, 2]
    with pytest.raises(UnknownNameError, match="did you mean 'c/x'"):
        Zoo.of(["a", "c/x"], "c/y")


def test_zoo_yaml_at_the_top_states_the_defaults(root, tmp_path, monkeypatch):
    from_file, path = load_settings(root / "zoo.yaml")
    assert from_file == Settings()
    assert path == root / "zoo.yaml"
    text = (root / "zoo.yaml").read_text()
    assert all(f"{field.name}:" in text for field in (*fields(Settings), *fields(ModelSpec), *fields(CostPerToken)))
    monkeypatch.chdir(tmp_path)
    assert load_settings(None) == (Settings(), None)
    (tmp_path / "zoo.yaml").write_text("sla: {alpha: 0.5}\nrouter:\n  v: 2\n  cost_scale: 1\n  reference: big\n")
    settings, path = load_settings(None)
    assert settings == Settings(alpha=0.5, v=2.0, cost_scale=1.0, reference="big")
    assert str(path) == "zoo.yaml"


def test_the_zoo_in_the_box_equals_the_one_at_the_top(root, tmp_path, monkeypatch):
    assert (root / "zoo.yaml").read_bytes() == (BOX / "zoo.yaml").read_bytes()
    monkeypatch.chdir(tmp_path)
    in_the_box = load_zoo(None)
    assert in_the_box.path == BOX / "zoo.yaml"
    assert len(in_the_box.models) == 4
    assert {model.path.parent for model in in_the_box.models} == {BOX}
    written(tmp_path, MODEL)
    assert load_zoo(None).names == ("a",)


def test_the_commented_example_in_zoo_yaml_is_valid(root, tmp_path):
    above, _, example = (root / "zoo.yaml").read_text().partition("# Your own models")
    lines = [line.removeprefix("#").removeprefix(" ") for line in example.splitlines()]
    text = "\n".join(lines[lines.index("defaults:") :])
    (tmp_path / "gemma.jinja").write_text("{{ messages }}")
    zoo_file = load_zoo(written(tmp_path, text))
    assert [model.name for model in zoo_file.models] == ["qwen-0.5b", "llama-8b", "gemma-27b", "qwen-72b"]
    assert zoo_file.models[2].chat_template == "{{ messages }}"
    commented = "\n".join(line.replace("# ", "", 1) if line.startswith("  # ") else line for line in above.splitlines())
    assert load_zoo(written(tmp_path, commented)).settings.reference is not None


def test_a_missing_box_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zoo_file_module, "PACKAGED_FILE", tmp_path / "box" / "zoo.yaml")
    with pytest.raises(ConfigError, match="the zoo in the box .* is not installed; install messctl again"):
        load_zoo(None)


@pytest.mark.parametrize("text", ["", "sla:\n", "router:\nsla:\n", "# nothing\n", "models:\n", "models: []\ndefaults:"])
def test_missing_sections_have_defaults_and_missing_models_are_an_error(tmp_path, text):
    path = written(tmp_path, text)
    assert load_settings(path)[0] == Settings()
    with pytest.raises(ConfigError, match="lists no models; add them under `models`"):
        load_zoo(path)


def test_every_section_of_a_zoo_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    (tmp_path / "t.jinja").write_text("{{ é }}", encoding="utf-8")
    text = """
energy: {flop_per_j: 1.0e10}
grader: exact
defaults:
  n_ctx: 512
  n_threads: 2
  temperature: 1
  chat_template: {file: t.jinja}
  cost: &price {unit: USD, prompt: 1e-7, generated: 2.0E-07}
models:
- {name: org/a, path: ../a.gguf, n_threads: auto, system: "two\\nlines", cost: *price}
- {name: b, path: ~/b.gguf, n_ctx: 0, n_gpu_layers: -1, chat_template: "{{ x }}", top_k: 0, min_p: 0, top_p: 1}
- {name: "3", path: "box:c.gguf", chat_template: null, max_tokens: 7}
router: {reference: b}
"""
    zoo_file = load_zoo(written(tmp_path, text))
    a, b, c = zoo_file.models
    price = CostPerToken("USD", 1e-7, 2e-7)
    common = {"n_ctx": 512, "n_threads": 2, "temperature": 1.0, "chat_template": "{{ é }}", "cost": price}
    assert a == ModelSpec("org/a", tmp_path / "../a.gguf", **common | {"n_threads": None, "system": "two\nlines"})
    differing = {"n_ctx": 0, "chat_template": "{{ x }}", "top_k": 0, "min_p": 0.0, "top_p": 1.0, "n_gpu_layers": -1}
    assert b == ModelSpec("b", Path("/home/someone/b.gguf"), **common | differing)
    assert c == ModelSpec("3", BOX / "c.gguf", **common | {"chat_template": None, "max_tokens": 7})
    assert (zoo_file.flop_per_j, zoo_file.grader, zoo_file.settings.reference) == (1e10, Grading(name="exact"), "b")
    assert zoo_file.model("b") is b
    with pytest.raises(UnknownNameError, match="did you mean 'org/a'"):
        zoo_file.model("org/b")


@pytest.mark.parametrize(
    ("text", "grading"),
    [
        *((name, Grading(name=name)) for name in REFERENCE_GRADERS),
        ("none", None),
        ("", None),
        ("{regex: exact}", Grading(pattern="exact")),
        ("'^-?[0-9]+$'", Grading(pattern="^-?[0-9]+$")),
        ("(?i)yes", Grading(pattern="(?i)yes")),
    ],
)
def test_a_grader_is_a_name_or_a_regular_expression(tmp_path, text, grading):
    assert load_zoo(written(tmp_path, f"grader: {text}\n{MODEL}")).grader == grading


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("numerical", " (did you mean 'numeric'?)"),
        ("Exact", " (did you mean 'exact'?)"),
        ("exact_match", " (did you mean 'exact'?)"),
        ("forty-two", ""),
        ("yes or no", ""),
    ],
)
def test_a_regular_expression_that_looks_like_a_name_is_doubted(tmp_path, text, hint):
    zoo_file = load_zoo(written(tmp_path, f"\ngrader: {text}\n{MODEL}"))
    assert zoo_file.grader.pattern == text
    assert f"line 2: grader {text!r} is taken for a regular expression{hint}; write" in zoo_file.grader.doubt
    assert [problem.text for problem in check_zoo(zoo_file, None).problems if not problem.fatal] == [
        zoo_file.grader.doubt
    ]


SETTINGS_REFUSED = [
    ("sla:\n  alpa: 1", "line 2: unknown key 'alpa' in sla (did you mean 'alpha'?); known: alpha"),
    ("routr:\n  v: 1", "line 1: unknown key 'routr' in the file (did you mean 'router'?)"),
    ("sla:\n  alpha: 1.5", "line 2: sla.alpha is 1.5; it must be a finite number of at least 0 and at most 1"),
    ("sla:\n  alpha: high", "line 2: sla.alpha is 'high'; it must be a finite number"),
    ("sla:\n  alpha: true", "line 2: sla.alpha is True"),
    ("sla:\n  alpha:", "line 2: sla.alpha is None"),
    ("sla:\n  alpha: .nan", "line 2: sla.alpha is nan"),
    ("sla:\n  alpha: [1]", "line 2: sla.alpha is a list; it must be one value"),
    ("sla:\n  alpha: {a: 1}", "line 2: sla.alpha is keys and values; it must be one value"),
    ("sla:\n  alpha: !!int x", "line 2: sla.alpha is 'x', which YAML cannot read; if it is text, put quotes around it"),
    (
        "sla:\n  alpha: !!python/object:os.x y",
        "line 2: sla.alpha is 'y', which YAML cannot read; if it is text, put quotes around it",
    ),
    (
        "sla:\n  alpha: 2026-99-99",
        "line 2: sla.alpha is '2026-99-99', which YAML cannot read; if it is text, put quotes around it",
    ),
    ("router:\n\n  v: -1", "line 3: router.v is -1; it must be 'auto' or a finite number of at least 0"),
    ("router:\n  v: .inf", "line 2: router.v is inf"),
    ("router:\n  v: 1e999", "line 2: router.v is inf"),
    (f"router:\n  v: {'9' * 400}", "line 2: router.v is 99999"),
    (f"router:\n  v: {'9' * 9999}", "line 2: router.v is '99999"),
    ("router:\n  v: '1'", "line 2: router.v is '1'"),
    (
        "router:\n  exponent: 1000",
        "line 2: router.exponent is 1000; it must be a finite number of at least 0 and at most 10",
    ),
    ("sla:\n  alpha: !!timestamp noon", "line 2: sla.alpha is 'noon', which YAML cannot read"),
    ("sla:\n  alpha: !!binary '\u00e9'", "line 2: sla.alpha is '\u00e9', which YAML cannot read"),
    ("sla:\n  alpha: !!int ''", "line 2: sla.alpha is '', which YAML cannot read"),
    ("defaults:\n  parameters: 1.7e+308", "line 2: defaults.parameters is 1.7e+308; it must be 'unknown' or a finite"),
    (
        "defaults:\n  cost: {unit: J, prompt: 1.7e+308, generated: 1}",
        "line 2: defaults.cost.prompt is 1.7e+308; it must be a finite number of at least 0 and at most 1e+80, and 0",
    ),
    (
        "defaults:\n  cost: {unit: J, prompt: 5e-324, generated: 1}",
        "at least 0 and at most 1e+80, and 0 or at least 1e-80",
    ),
    ("energy:\n  load_watts: 1e300", "line 2: energy.load_watts is 1e+300; it must be 'uncounted' or a finite number"),
    ("router:\n  seed: 1.5", "line 2: router.seed is 1.5; it must be a whole number of at least 0"),
    ("router:\n  policy: 3", "line 2: router.policy is 3; it must be text (put quotes around it)"),
    ("router:\n  policy: ' '", "line 2: router.policy is ' '; it must be text that is not blank"),
    ("router:\n  cost_scale: 0", "line 2: router.cost_scale is 0; it must be 'auto' or a finite number above 0"),
    ("sla: 3", "line 1: sla must be keys and values"),
    ("- a", "line 1: the file must be keys and values"),
    ("sla:\n  alpha: 1\n  alpha: 0", "line 3: key 'alpha' is given twice in sla; remove one"),
    ("sla:\n  [1]: 0", "line 2: unknown key 'a list' in sla"),
    ("sla:\n  ? {a: 1}\n  : 0", "line 2: unknown key 'keys and values' in sla"),
    ("sla: [", "invalid YAML"),
    ("sla:\n\talpha: 1", "line 2: invalid YAML"),
    ("a: 1\n---\nb: 1", "line 2: invalid YAML"),
    ("a: \x07", "invalid YAML"),
    ("[" * 5000, "nested too deeply"),
    (
        "energy:\n  flop_per_j: 0",
        "line 2: energy.flop_per_j is 0; it must be a finite number of at least 1 and at most 1e+30",
    ),
    ("energy:\n  flops: 1", "line 2: unknown key 'flops' in energy (did you mean 'flop_per_j'?)"),
    ("grader: []", "line 1: grader is a list"),
    ("grader: 42", "line 1: grader is 42; it must be exact, contains, regex, numeric, choice, none, or {regex:"),
    ("grader: ''", "line 1: grader is ''; it must be exact, contains"),
    ("grader: {regx: a}", "line 1: unknown key 'regx' in grader (did you mean 'regex'?); known: regex"),
    ("grader: {}", "line 1: grader has no regex; it must be exact"),
    ("grader: {regex: 3}", "line 1: grader.regex is 3; it must be text (put quotes around it)"),
    ("grader:\n  regex: '('", "line 2: grader.regex is not a valid regular expression (missing ), unterminated"),
    ("grader: '('", "line 1: grader is not a valid regular expression"),
    ("grader: judge", "line 1: grader is 'judge', which needs a model that grades; name both to `messctl record`"),
    ("defaults:\n  name: a", "line 2: unknown key 'name' in defaults"),
    ("defaults:\n  path: a", "line 2: unknown key 'path' in defaults"),
    ("defaults:\n  temperatur: 1", "line 2: unknown key 'temperatur' in defaults (did you mean 'temperature'?)"),
    ("models: a", "line 1: models must be a list"),
    ("models:\n  a: {path: b}", "line 2: models must be a list"),
    ("models:\n  - a.gguf", "line 2: models[1] must be keys and values"),
    (f"{MODEL}    pth: a.gguf", "line 4: unknown key 'pth' in models[1] (did you mean 'path'?)"),
    (f"{MODEL}  - nctx: 1", "line 4: unknown key 'nctx' in models[2] (did you mean 'n_ctx'?)"),
]

MODEL_VALUES_REFUSED = [
    ("name: 3", "models[1].name is 3; it must be text (put quotes around it)"),
    ('name: "a\\e[31m"', r"models[1].name is 'a\x1b[31m'; it must be text on one line"),
    (f"name: '{'n' * 99}\t'", f"models[1].name is '{'n' * 59}…; it must be text on one line"),
    ("name: ''", "models[1].name is ''; it must be text that is not blank"),
    ("path:", "models[1].path is None; it must be text"),
    ('path: "a\\0"', "models[1].path is "),
    ("path: 'box:../a'", "models[1].path is 'box:../a'; after 'box:' give a file name without a folder"),
    ("path: 'box:'", "models[1].path is 'box:'"),
    ("path: ~nobody-of-this-name/a", "there is no such home folder"),
    ("n_ctx: -1", "models[1].n_ctx is -1; it must be 'auto' or a whole number of at least 0 and at most 2147483647"),
    ("n_ctx: 2147483648", "models[1].n_ctx is 2147483648"),
    ("n_ctx: 1.0", "models[1].n_ctx is 1; it must be 'auto' or a whole number"),
    ("n_gpu_layers: -2", "models[1].n_gpu_layers is -2; it must be 'auto' or a whole number of at least -1"),
    ("n_gpu_layers: all", "models[1].n_gpu_layers is 'all'"),
    ("gpu: of", "models[1].gpu is 'of' (did you mean 'off'?); it must be one of auto, require, off"),
    ("gpu: [off]", "models[1].gpu is a list; it must be one value"),
    ("main_gpu: -1", "models[1].main_gpu is -1; it must be a whole number of at least 0"),
    (
        "split_mode: layers",
        "models[1].split_mode is 'layers' (did you mean 'layer'?); it must be one of none, layer, row",
    ),
    ("tensor_split: 1", "models[1].tensor_split must be a list"),
    ("tensor_split: [1, -1]", "models[1].tensor_split[2] is -1; it must be a finite number of at least 0"),
    ("tensor_split: [0, 0]", "models[1].tensor_split must be a list of numbers of at least 0, not all of them 0"),
    ("flash_attn: true", "models[1].flash_attn is 'true'; it must be one of auto, on, off"),
    ("cache_type_k: q8", "models[1].cache_type_k is 'q8' (did you mean 'q8_0'?)"),
    ("cost: {unit: J, prompt: 1, generated: 1, fixed: -1}", "models[1].cost.fixed is -1; it must be a finite number"),
    ("n_threads: 0", "models[1].n_threads is 0; it must be 'auto' or a whole number of at least 1"),
    ("chat_template: ' '", "models[1].chat_template is ' '; it must be text that is not blank"),
    ("chat_template: {}", "models[1].chat_template has no file; it must be text or {file: template.jinja}"),
    ("chat_template: {fil: a}", "unknown key 'fil' in models[1].chat_template (did you mean 'file'?)"),
    ("chat_template: {file: 1}", "models[1].chat_template.file is 1; it must be text"),
    ("system: 1", "models[1].system is 1; it must be text"),
    ("max_tokens: 0", "models[1].max_tokens is 0; it must be 'auto' or a whole number of at least 1"),
    ("temperature: -0.1", "models[1].temperature is -0.1"),
    ("top_p: 0", "models[1].top_p is 0; it must be a finite number above 0 and at most 1"),
    ("top_k: -1", "models[1].top_k is -1"),
    ("min_p: 1.1", "models[1].min_p is 1.1"),
    ("cost: 3", "models[1].cost must be keys and values"),
    ("cost: {unit: J}", "models[1].cost has no prompt; it needs unit, prompt, generated"),
    ("cost: {unit: 1, prompt: 0, generated: 0}", "models[1].cost.unit is 1; it must be text"),
    ("cost: {unit: J, prompt: -1, generated: 0}", "models[1].cost.prompt is -1"),
    ("cost: {unit: J, prompt: 0, generate: 0}", "unknown key 'generate' in models[1].cost (did you mean 'generated'?)"),
]

ZOOS_REFUSED = [
    ("models:\n- path: a", "line 2: models[1] has no name"),
    (
        f"{MODEL}  - name: b",
        "line 4: model 'b' has no path and no url; give its GGUF file, relative to zoo.yaml, or its server",
    ),
    (f"{MODEL}  - name: a\n    path: b", "line 4: model 'a' is given twice"),
    (f"router:\n  reference: ab\n{MODEL}", "line 2: router.reference is 'ab' (did you mean 'a'?); it must be one of a"),
    (f"{MODEL}    chat_template: {{file: absent}}", "line 4: the chat template"),
    (f"{MODEL}    chat_template: {{file: zoo.yaml/x}}", "cannot be read (Not a directory)"),
    (f"{MODEL}    cost: {{unit: J, prompt: 0, generated: 0}}", "all models cost 0"),
    (
        f"{MODEL}  - {{name: b, path: b, cost: {{unit: J, prompt: 1, generated: 1}}}}",
        "line 4: model 'b' has a stated cost, but 'a' has none; state all costs, or none",
    ),
    (
        f"{MODEL}    cost: {{unit: J, prompt: 1, generated: 1}}\n  - {{name: b, path: b}}",
        "line 5: model 'a' has a stated cost, but 'b' has none",
    ),
    (
        f"{MODEL}    cost: &c {{unit: J, prompt: 1, generated: 1}}\n"
        "  - {name: b, path: b, cost: *c}\n  - {name: c, path: c, cost: {unit: USD, prompt: 1, generated: 1}}",
        "line 6: model 'c' costs USD, but 'a' costs J; the router cannot compare them",
    ),
]


@pytest.mark.parametrize(("text", "message"), SETTINGS_REFUSED)
@pytest.mark.parametrize("load", [load_settings, load_zoo])
def test_an_invalid_setting_is_reported_with_its_line(tmp_path, text, message, load):
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "zoo.yaml"))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(("text", "message"), MODEL_VALUES_REFUSED)
def test_an_invalid_value_of_a_model_is_reported_with_its_line(tmp_path, text, message):
    for load in (load_settings, load_zoo):
        with pytest.raises(ConfigError) as caught:
            load(
                written(
                    tmp_path,
                    f"models:\n  - n_gpu_layers: 0\n    {text}".replace(
                        "n_gpu_layers: 0\n    n_gpu", "n_ctx: 0\n    n_gpu"
                    ),
                )
            )
        assert message in str(caught.value)
        assert "zoo.yaml, line 3: " in str(caught.value)


@pytest.mark.parametrize(("text", "message"), ZOOS_REFUSED)
def test_models_that_do_not_fit_together_are_refused_except_for_settings_alone(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_zoo(path)
    assert message in str(caught.value)
    assert load_settings(path)[1] == path


def test_nested_yaml_aliases_are_refused_at_once(tmp_path):
    bombs = "\n".join(f"  - &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, 30))
    with pytest.raises(ConfigError, match=r"models\[1\] must be keys and values"):
        load_zoo(written(tmp_path, f"models:\n  - &x0 [a]\n{bombs}"))
    with pytest.raises(ConfigError, match="must be keys and values"):
        load_zoo(written(tmp_path, "models: &a [*a]"))


def test_an_unreadable_zoo_file_is_reported(tmp_path):
    for load in (load_settings, load_zoo):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(tmp_path / "absent.yaml")
        with pytest.raises(ConfigError, match="cannot be read"):
            load(tmp_path)
        (tmp_path / "zoo.yaml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match="not UTF-8"):
            load(tmp_path / "zoo.yaml")


def test_an_unusable_chat_template_file_is_reported(tmp_path):
    path = written(tmp_path, f"{MODEL}    chat_template: {{file: t}}")
    (tmp_path / "t").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="line 4: the chat template .* is not UTF-8"):
        load_zoo(path)
    (tmp_path / "t").write_bytes(b"\n")
    with pytest.raises(ConfigError, match="line 4: the chat template .* is blank"):
        load_zoo(path)


@pytest.mark.parametrize("wrong", [{"alpha": -0.1}, {"v": -1}, {"c": float("inf")}, {"seed": -1}, {"cost_scale": -2}])
def test_settings_out_of_range_are_refused_in_code(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Settings(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"path": "text"}, {"n_ctx": 1.5}, {"chat_template": 3}, {"cost": 3}, {"top_p": 0}]
)
def test_models_out_of_range_are_refused_in_code(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        replace(ModelSpec("a", Path("a")), **wrong)
    with pytest.raises(UsageError, match="unit"):
        CostPerToken("", 0, 0)


def text_as_written(text: str) -> bool:
    """Exclude `0E0`: PyYAML writes it without quotes, and here, as in JSON, it is a number."""
    return text.isprintable() and bool(text.strip()) and not re.fullmatch(r"[-+.\d]+[eE][-+\d]+", text)


line = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(text_as_written)
share = st.floats(0, 1)
amount = st.floats(0, 1e300) | st.integers(0, 10**12)
count = st.integers(0, 2**31 - 1)
router_keys = st.fixed_dictionaries(
    {},
    optional={
        "policy": line,
        "v": st.floats(0, 1e100),
        "c": amount,
        "exponent": st.floats(0, 10),
        "cost_scale": st.floats(1e-300, 1e300),
        "trial_budget": amount,
        "seed": st.integers(0, 2**70),
    },
)
model_keys = st.fixed_dictionaries(
    {},
    optional={
        "n_ctx": st.none() | count,
        "n_gpu_layers": st.none() | st.integers(-1, 2**31 - 1),
        "gpu": st.sampled_from(["auto", "require", "off"]),
        "main_gpu": st.integers(0, 15),
        "split_mode": st.sampled_from(["none", "layer", "row"]),
        "flash_attn": st.sampled_from(["auto", "on", "off"]),
        "cache_type_k": st.sampled_from(["f16", "q8_0", "q4_0"]),
        "n_threads": st.none() | st.integers(1, 1000),
        "chat_template": st.none() | line,
        "system": st.none() | line,
        "max_tokens": st.none() | st.integers(1, 2**31 - 1),
        "temperature": amount,
        "top_p": st.floats(1e-9, 1),
        "top_k": count,
        "min_p": share,
    },
)
prices = st.fixed_dictionaries({"prompt": st.just(0.0) | st.floats(1e-80, 1e80), "generated": st.floats(1e-12, 1e3)})


@examples(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    alpha=st.none() | share,
    router=router_keys,
    defaults=model_keys,
    models=st.dictionaries(line, model_keys, min_size=1, max_size=4),
    price=st.none() | prices,
    flop_per_j=st.none() | st.floats(1, 1e30),
)
def test_any_valid_values_are_read_as_they_were_written(tmp_path, alpha, router, defaults, models, price, flop_per_j):
    cost = {} if price is None else {"cost": {"unit": "J", **price}}
    document = {
        "sla": {} if alpha is None else {"alpha": alpha},
        "router": router,
        "energy": {} if flop_per_j is None else {"flop_per_j": flop_per_j},
        "defaults": defaults | cost,
        "models": [{"name": name, "path": "/m.gguf", **keys} for name, keys in models.items()],
    }
    text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
    zoo_file = load_zoo(written(tmp_path, text))
    assert zoo_file.settings == Settings(**({} if alpha is None else {"alpha": alpha}), **router)
    assert zoo_file.settings == load_settings(zoo_file.path)[0]
    stated = None if price is None else CostPerToken("J", **price)
    assert zoo_file.models == tuple(
        ModelSpec(name, Path("/m.gguf"), **(defaults | keys), cost=stated) for name, keys in models.items()
    )
    assert zoo_file.flop_per_j == (1e10 if flop_per_j is None else flop_per_j)


def test_a_check_reports_the_problems_of_each_file(tmp_path):
    write_gguf(tmp_path / "good.gguf")
    write_gguf(tmp_path / "bare.gguf", template=None)
    write_gguf(tmp_path / "lora.gguf", kind="adapter")
    write_gguf(tmp_path / "odd.gguf", architecture="neverheardof")
    text = """
defaults: {max_tokens: 64}
models:
- {name: good, path: good.gguf, n_ctx: 0}
- {name: bare, path: bare.gguf, n_ctx: 257}
- {name: told, path: bare.gguf, n_ctx: 64, chat_template: x}
- {name: lora, path: lora.gguf, n_ctx: 256}
- {name: odd, path: odd.gguf, n_ctx: 256}
- {name: gone, path: gone.gguf}
"""
    result = check_zoo(load_zoo(written(tmp_path, text)), 1 << 30)
    assert not result.usable
    assert [(problem.model, problem.fatal) for problem in result.problems] == [
        ("bare", False),
        ("bare", False),
        ("told", False),
        ("lora", True),
        ("odd", False),
        ("gone", True),
    ]
    problems = [str(problem) for problem in result.problems]
    assert problems[0] == "bare: has no chat template; set chat_template to the one that its authors publish"
    assert problems[1].startswith("bare: n_ctx is 257, but the model's own context is 256")
    assert problems[2] == (
        "told: max_tokens is 64, which leaves no room for a prompt in a context of 64; lower it, or remove it"
    )
    assert "is of the kind 'adapter', not a model" in problems[3]
    assert "does not know the architecture 'neverheardof'" in problems[4]
    assert "there is no such model file" in problems[5]
    assert [model.context for model in result.models] == [256, 257, 64, 256, 256, None]
    assert result.needed_bytes == sum(model.needed_bytes or 0 for model in result.models)


@pytest.mark.parametrize(
    ("keys", "own", "context"),
    [
        *(("", 256, 256), ("", 4095, 4095), ("", 131_072, 4096), ("", 0, 4096), ("n_ctx: auto", 256, 256)),
        *(("n_ctx: 0", 131_072, 131_072), ("n_ctx: 512", 256, 512), ("n_ctx: 8192", 131_072, 8192)),
    ],
)
def test_the_context_is_the_models_own_up_to_4096_unless_n_ctx_says_otherwise(tmp_path, keys, own, context):
    (model,) = load_zoo(written(tmp_path, f"{MODEL}    {keys}")).models
    assert model.context(own) == context


def test_a_check_without_n_ctx_uses_the_context_in_the_file(tmp_path):
    write_gguf(tmp_path / "a.gguf")  # for 256 tokens
    checked, stated = (
        check_zoo(load_zoo(written(tmp_path, f"memory: {{cpu_gb: 1}}\n{MODEL}    max_tokens: 9{keys}")), None)
        for keys in ("", "\n    n_ctx: 256")
    )
    assert (checked.models[0].context, checked.problems) == (256, ())
    assert checked.needed_bytes == stated.needed_bytes
    assert memory_needed(checked.models[0].spec, checked.models[0].header, offload=False) == {
        "cpu": stated.needed_bytes
    }


@pytest.mark.parametrize(("keys", "problems"), [("", 0), ("max_tokens: auto", 0), ("max_tokens: 256", 1)])
def test_the_default_answer_limit_fits_a_small_context(tmp_path, keys, problems):
    write_gguf(tmp_path / "a.gguf")  # for 256 tokens
    checked = check_zoo(load_zoo(written(tmp_path, f"{MODEL}    {keys}")), None)
    assert len(checked.problems) == problems
    assert checked.models[0].spec.answer_limit() == (256 if problems else 512)


def test_a_missing_library_names_the_extra(tmp_path, monkeypatch):
    write_gguf(tmp_path / "a.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"checking a model file needs gguf: .*messctl\[llama\]"):
        check_zoo(load_zoo(written(tmp_path, MODEL)), None)


def test_too_little_memory_is_a_warning(tmp_path):
    write_gguf(tmp_path / "a.gguf")
    zoo_file = load_zoo(written(tmp_path, f"{MODEL}    n_ctx: 0\n    max_tokens: 9"))
    for available, problems in ((1 << 30, 0), (1000, 1), (None, 0)):
        result = check_zoo(zoo_file, available)
        assert (result.usable, len(result.problems), result.available_bytes) == (True, problems, available)
    assert "but 1 kB are free" in str(check_zoo(zoo_file, 1000).problems[0])


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *(
            (0, "0 B"),
            (999, "999 B"),
            (2000, "2 kB"),
            (76_800, "76.8 kB"),
            (5_000_000, "5 MB"),
            (-2_500_000, "-2.5 MB"),
        ),
        *((999_700_000, "1 GB"), (17_062_003_712, "17.1 GB"), (3 * 10**12, "3,000 GB")),
    ],
)
def test_bytes_are_written_with_decimal_units(size, text):
    assert format_bytes(size) == text


# --- models at servers ------------------------------------------------------------------------------

URL = "http://localhost:8080/v1"


def test_a_zoo_may_mix_files_and_servers(tmp_path):
    text = f"""
defaults: {{n_ctx: 512, top_k: 3, timeout_s: 5, key_env: A_KEY, system: Be brief.}}
models:
- {{name: near, path: a.gguf, parameters: 7}}
- {{name: far, url: "{URL}/", model: org/far, retries: 0, parameters: 8e9}}
- {{name: other, url: "https://[::1]:1/x", key_env: null, timeout_s: 0.5, parameters: 1}}
"""
    with pytest.raises(ConfigError, match=r"line 4: models\[1\].parameters applies only to a model with a url"):
        load_zoo(written(tmp_path, text))
    near, far, other = load_zoo(written(tmp_path, text.replace(", parameters: 7", ""))).models
    assert (near.n_ctx, near.top_k, near.key_env, near.timeout_s, near.url) == (512, 3, None, 60.0, None)
    assert (far.url, far.model, far.key_env, far.timeout_s, far.retries) == (URL, "org/far", "A_KEY", 5.0, 0)
    assert (far.n_ctx, far.parameters, far.system, far.path) == (None, 8e9, "Be brief.", None)
    assert (other.url, other.key_env, other.timeout_s) == ("https://[::1]:1/x", None, 0.5)
    assert (near.place, far.place) == (str(near.path), f"{URL}, org/far")
    with pytest.raises(UsageError, match="has no file here"):
        _ = far.file


SERVERS_REFUSED = [
    (f"path: a.gguf, url: {URL}", "line 2: models[1] has both a path and a url; keep"),
    (f"url: {URL}", "line 2: model 'm' has a url, so no file says what it costs; state its cost, or its active param"),
    (f"url: {URL}, n_gpu_layers: 1", "line 2: models[1].n_gpu_layers applies only to a model with a path"),
    (f"url: {URL}, chat_template: x", "line 2: models[1].chat_template applies only to a model with a path"),
    ("path: a.gguf, key_env: X", "line 2: models[1].key_env applies only to a model with a url; remove it"),
    ("path: a.gguf, model: X", "line 2: models[1].model applies only to a model with a url"),
    (
        "url: localhost:8080",
        "line 2: models[1].url must be the base url of an OpenAI-compatible server, such as http://",
    ),
    ("url: ftp://x/v1", "line 2: models[1].url must be the base url"),
    ("url: http://", "line 2: models[1].url must be the base url"),
    ("url: 'http://[x/v1'", "line 2: models[1].url must be the base url"),
    ("url: http://x:99999/v1", "line 2: models[1].url must be the base url"),
    ("url: 'http://x /v1'", "line 2: models[1].url must be the base url"),
    ("url: 3", "line 2: models[1].url must be the base url"),
    ("url:", "line 2: models[1].url must be the base url"),
    ("url: [x]", "line 2: models[1].url is a list; it must be one value"),
    (
        r"url: http://models.test\.localhost/v1",
        "line 2: models[1].url must be the base url of an OpenAI-compatible server",
    ),
    (f"url: {URL}/chat/completions", "line 2: models[1].url must be the base url of an OpenAI-compatible server"),
    (f"url: '{URL}?key=sk-secret'", "line 2: models[1].url must be the base url"),
    ("url: http://me:sk-secret@x/v1", "line 2: models[1].url must be a url without a user or password; set key_env"),
    (f"url: {URL}, key_env: sk-secret", "line 2: models[1].key_env must be the name of an environment variable in cap"),
    (f"url: {URL}, key_env: sksecret", "line 2: models[1].key_env must be the name of an environment variable in"),
    (f"url: {URL}, timeout_s: 0", "line 2: models[1].timeout_s is 0; it must be a finite number above 0"),
    (f"url: {URL}, retries: 1.5", "line 2: models[1].retries is 1.5; it must be a whole number"),
    (
        f"url: {URL}, parameters: -1",
        "line 2: models[1].parameters is -1; it must be 'unknown' or a finite number above 0",
    ),
    (f"ulr: {URL}", "line 2: unknown key 'ulr' in models[1] (did you mean 'url'?)"),
    (f"url: {URL}, omit: [topp]", "line 2: models[1].omit[1] is 'topp' (did you mean 'top_p'?); it must be one of max"),
    (f"url: {URL}, omit: [seed, model]", "line 2: models[1].omit[2] is 'model'"),
    (f"url: {URL}, omit: [1]", "line 2: models[1].omit[1] is '1'; it must be one of max_tokens, temperature, top_p"),
    (f"url: {URL}, omit: top_p", "line 2: models[1].omit must be a list, as in [max_tokens]"),
    (f"url: {URL}, omit: {{top_p: true}}", "line 2: models[1].omit must be a list, as in [max_tokens]"),
    ("path: a.gguf, omit: [top_p]", "line 2: models[1].omit applies only to a model with a url; remove it"),
    (f"url: {URL}, max_tokens_key: max_token", "is 'max_token' (did you mean 'max_tokens'?); it must be one of max_"),
    ("path: a.gguf, max_tokens_key: max_tokens", "line 2: models[1].max_tokens_key applies only to a model with a url"),
]


@pytest.mark.parametrize(("keys", "message"), SERVERS_REFUSED)
def test_invalid_servers_are_refused_without_repeating_secrets(tmp_path, keys, message):
    with pytest.raises(ConfigError) as raised:
        load_zoo(written(tmp_path, f"models:\n- {{name: m, {keys}}}\n"))
    assert message in str(raised.value)
    assert "secret" not in str(raised.value)


def test_what_requests_leave_out_is_read_for_each_model(tmp_path):
    text = f"""
defaults: {{omit: [top_p, top_p, stream_options], max_tokens_key: max_completion_tokens}}
models:
- {{name: a, url: {URL}, parameters: 1}}
- {{name: b, url: {URL}, parameters: 1, omit: [seed], max_tokens_key: max_tokens}}
- {{name: c, url: {URL}, parameters: 1, omit: []}}
- {{name: d, url: {URL}, parameters: 1, omit: }}
- {{name: e, path: e.gguf}}
"""
    models = load_zoo(written(tmp_path, text)).models
    assert [model.omit for model in models] == [("top_p", "stream_options"), ("seed",), (), (), ()]
    assert [model.max_tokens_key for model in models[:2]] == ["max_completion_tokens", "max_tokens"]


def test_a_server_made_in_code_is_checked_too():
    with pytest.raises(UsageError, match="omit is .* it must be some of max_tokens, temperature, top_p"):
        ModelSpec("m", url="http://x/v1", omit=("topp",))
    with pytest.raises(UsageError, match="max_tokens_key is 'n'; it must be one of max_tokens, max_completion_tokens"):
        ModelSpec("m", url="http://x/v1", max_tokens_key="n")
    with pytest.raises(UsageError, match="either a path or a url"):
        ModelSpec("m")
    with pytest.raises(UsageError, match="url must be a url without a user or password") as raised:
        ModelSpec("m", url="http://me:sk-secret@x/v1")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "listed", "same"),
    [
        ("smollm2", "smollm2", True),
        ("smollm2", "smollm2:latest", True),
        ("smollm2:latest", "smollm2:latest", True),
        ("SmolLM2", "smollm2:latest", True),
        ("smollm2:135M", "smollm2:135m", True),
        ("library/smollm2", "smollm2:latest", True),
        ("registry.ollama.ai/library/smollm2:latest", "smollm2:latest", True),
        ("hf.co/Qwen/Qwen3-GGUF", "hf.co/qwen/qwen3-gguf:latest", True),
        ("gemini-2.5-flash", "models/gemini-2.5-flash", True),
        ("smollm2", "smollm2:135m", False),
        ("smollm2:135m", "smollm2:latest", False),
        ("smollm", "smollm2:latest", False),
        ("qwen/qwen3", "Qwen/Qwen3", False),  # vLLM finds no name in another case
        ("latest", ":latest", False),
    ],
)
def test_names_that_mean_the_same_model_are_the_same(name, listed, same, tmp_path):
    zoo_file = load_zoo(written(tmp_path, f"models:\n- {{name: m, url: {URL}, model: '{name}', parameters: 1}}\n"))
    assert (check_zoo(zoo_file, None, lambda spec: ("other", listed)).problems == ()) == same


def test_a_check_reports_a_model_that_its_server_does_not_list(tmp_path):
    zoo_file = load_zoo(written(tmp_path, f"models:\n- {{name: m, url: {URL}, parameters: 1}}\n"))
    asked = []

    def listed(spec):
        asked.append(spec.name)
        return ("a", "b")

    assert check_zoo(zoo_file, None).problems == ()
    result = check_zoo(zoo_file, None, listed)
    assert (asked, result.usable, result.models[0].listed) == (["m"], True, ("a", "b"))
    assert [str(problem) for problem in result.problems] == [
        f"m: {URL} lists no model 'm'; it lists a, b: set `model` to one of these"
    ]


@pytest.mark.parametrize(
    ("memory", "budget", "rooms", "broken"),
    [
        ("{}", {}, [], []),
        ("{cpu_gb: none}", {}, [], []),
        ("{cpu_gb: 1}", {"cpu": 1e9}, ["cpu_gb allows 1 GB, which holds all 4 models"], []),
        ("{cpu_gb: 0.006}", {"cpu": 6e6}, ["cpu_gb allows 6 MB, which holds at most 3 of 4 models"], []),
        ("{cpu_gb: 0.004}", {"cpu": 4e6}, ["cpu_gb allows 4 MB, which holds at most 2 of 4"], ["mini-1m"]),
        (
            "{gpu_gb: 0.006, cpu_gb: 0.001}",
            {"cpu": 1e6, "gpu": 6e6},
            ["cpu_gb allows 1 MB, which holds all 1 models", "gpu_gb allows 6 MB, which holds all 2 models"],
            [],
        ),
    ],
)
def test_a_check_reports_what_the_memory_budgets_hold(tmp_path, memory, budget, rooms, broken):
    pytest.importorskip("gguf", reason="gguf is not installed")
    path = tmp_path / "zoo.yaml"
    models = "".join(
        f"- {{name: {name}, path: 'box:{name}.gguf', n_ctx: 0, n_gpu_layers: {layers}}}\n"
        for name, layers in (("pico-34k", 0), ("nano-109k", -1), ("micro-400k", -1), ("mini-1m", -1))
        if name != "micro-400k" or len(budget) < 2
    )
    path.write_text(f"memory: {memory}\nmodels:\n{models}")
    described = load_zoo(path)
    assert described.budget == budget
    result = check_zoo(described, 2**40)
    assert len(result.budgets) == len(rooms)
    assert all(f"memory.{expected}" in str(room) for room, expected in zip(result.budgets, rooms, strict=True))
    assert [problem.model for problem in result.problems if problem.fatal] == broken
    assert not [problem for problem in check_zoo(described, 0).problems if problem.model is None and budget]


def test_the_zoo_knows_the_graders_by_name():
    assert tuple(REFERENCE_GRADERS) == GRADERS

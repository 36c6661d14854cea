from dataclasses import fields

import pytest

from messctl.errors import ConfigError, UnknownNameError, UsageError
from messctl.zoo import Settings, Zoo, load_settings


def test_models_are_sorted_and_indexed_by_name():
    zoo = Zoo.of(["b", "c/x", "a"], "c/x")
    assert zoo.models == ("a", "b", "c/x")
    assert [zoo.index(model) for model in zoo.models] == [0, 1, 2]
    with pytest.raises(UnknownNameError, match="did you mean 'c/x'"):
        Zoo.of(["a", "c/x"], "c/y")


def test_the_zoo_file_in_the_box_says_what_is_true_without_it(root, tmp_path, monkeypatch):
    from_file, path = load_settings(root / "zoo.yaml")
    assert from_file == Settings()
    assert path == root / "zoo.yaml"
    text = (root / "zoo.yaml").read_text()
    assert all(field.name in text for field in fields(Settings))
    monkeypatch.chdir(tmp_path)
    assert load_settings(None) == (Settings(), None)
    (tmp_path / "zoo.yaml").write_text("sla: {alpha: 0.5}\nrouter:\n  v: 2\n  cost_scale: 1\n  reference: big\n")
    settings, path = load_settings(None)
    assert settings == Settings(alpha=0.5, v=2.0, cost_scale=1.0, reference="big")
    assert str(path) == "zoo.yaml"


@pytest.mark.parametrize("text", ["", "sla:\n", "router:\nsla:\n", "# nothing\n"])
def test_what_is_left_out_is_the_default(tmp_path, text):
    (tmp_path / "zoo.yaml").write_text(text)
    assert load_settings(tmp_path / "zoo.yaml")[0] == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sla:\n  alpa: 1", "line 2: unknown key 'alpa' in sla (did you mean 'alpha'?)"),
        ("routr:\n  v: 1", "line 1: unknown key 'routr' in the file (did you mean 'router'?)"),
        ("sla:\n  alpha: 1.5", "line 2: alpha is 1.5"),
        ("sla:\n  alpha: high", "line 2: sla.alpha is 'high'; it must be a number"),
        ("sla:\n  alpha: true", "line 2: sla.alpha is True"),
        ("sla:\n  alpha: .nan", "line 2: alpha is nan"),
        ("sla:\n  alpha: [1]", "line 2: sla.alpha is [1]"),
        ("router:\n\n  v: -1", "line 3: v is -1"),
        ("router:\n  v: .inf", "line 2: v is inf"),
        ("router:\n  seed: 1.5", "line 2: router.seed is 1.5"),
        ("router:\n  policy: 3", "line 2: router.policy is 3; it must be text"),
        ("router:\n  cost_scale: 0", "line 2: cost_scale is 0"),
        ("sla: 3", "line 1: sla must be keys and values"),
        ("- a", "line 1: the file must be keys and values"),
        ("sla:\n  alpha: 1\n  alpha: 0", "line 3: key 'alpha' stands twice"),
        ("sla: [", "not YAML"),
        ("sla:\n\talpha: 1", "line 2: not YAML"),
    ],
)
def test_a_wrong_file_is_named_by_line(tmp_path, text, message):
    (tmp_path / "zoo.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "zoo.yaml")
    assert message in str(caught.value)
    assert "zoo.yaml" in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "absent.yaml")
    (tmp_path / "zoo.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_settings(tmp_path / "zoo.yaml")


@pytest.mark.parametrize("wrong", [{"alpha": -0.1}, {"v": -1}, {"c": float("inf")}, {"seed": -1}, {"cost_scale": -2}])
def test_impossible_settings(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Settings(**wrong)

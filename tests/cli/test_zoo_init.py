"""`messctl zoo init` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from backends_files import says
from backends_files import write_gguf as write_model
from gguf_making import write_gguf
from live_making import typed
from model_folders import gguf_file, hugging_face, llama_cpp, lm_studio, ollama
from servers import misbehaving

from messctl.cli import run
from messctl.zoo import load_zoo
from messctl.zoo.models import BOX

MOVED = ("OLLAMA_MODELS", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "LLAMA_CACHE")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder without models, and an empty current folder in it."""
    for variable in MOVED:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("messctl.zoo.finding.places._SERVICE", ())
    work = tmp_path / "home" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    typed(monkeypatch)
    return tmp_path / "home"


@pytest.fixture
def all_programs(home, tmp_path):
    """One model in the folder of each program."""
    made = [gguf_file(tmp_path / "made" / f"{width}.gguf", width) for width in (32, 64, 96, 128)]
    ollama(home / ".ollama" / "models", "llama3.2:1b", made[0])
    lm_studio(home / ".lmstudio" / "models", "lmstudio-community/Qwen2.5-GGUF", "Qwen2.5-Q4_K_M.gguf", made[1])
    hugging_face(home / ".cache" / "huggingface" / "hub", "o/SmolLM2-GGUF", "smollm2-q8_0.gguf", made[2])
    llama_cpp(home / ".cache" / "llama.cpp", "ggml-org/gemma-3-1b-it-GGUF", "gemma-3-1b-it-Q4_K_M.gguf", made[3])
    return ["llama3.2-1b", "qwen2.5-q4_k_m", "smollm2-q8_0", "gemma-3-1b-it-q4_k_m"]


def outcome(capsys, *arguments):
    code = run(["zoo", "init", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_models_of_all_programs_are_written_from_the_cheapest_to_the_costliest(all_programs, home, capsys):
    code, out, err = outcome(capsys, "--yes")
    assert (code, err) == (0, "")
    zoo = load_zoo(None)
    assert zoo.names == tuple(all_programs)
    assert zoo.settings.reference == "gemma-3-1b-it-q4_k_m"
    assert [model.n_ctx for model in zoo.models] == [256] * 4
    costs = [model.cost.generated for model in zoo.models]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(2 * 320 / 1e10)
    assert all(model.cost.estimated and model.cost.unit == "J" for model in zoo.models)
    text = (home / "work" / "zoo.yaml").read_text()
    assert "path: ~/.lmstudio/models/lmstudio-community/Qwen2.5-GGUF/Qwen2.5-Q4_K_M.gguf" in text
    assert "# Ollama: llama3.2:1b, 320 parameters, F16" in text
    for name in all_programs:
        assert name in out
    assert run(["zoo", "check"]) == 0
    out = capsys.readouterr().out
    assert "costs: estimated: J per prompt token" in out
    assert "! " not in out


def test_two_files_in_a_folder_are_enough_to_ask(home, capsys):
    pytest.importorskip("llama_cpp")
    write_model(home / "work" / "yes.gguf", says(b"yes"))
    write_model(home / "work" / "no.gguf", says(b"no"), blocks=1, n_ctx=512)
    assert outcome(capsys, "--yes")[0] == 0
    assert load_zoo(None).names == ("no", "yes")
    assert run(["zoo", "check"]) == 0
    capsys.readouterr()
    assert run(["ask", "hi", "--model", "yes", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["answer"], document["cost_quality"]) == ("yes", "estimated")


def test_a_model_of_ollama_answers(home, capsys, tmp_path):
    pytest.importorskip("llama_cpp")
    ollama(home / ".ollama" / "models", "yes:1b", write_model(tmp_path / "yes.gguf", says(b"yes")))
    assert outcome(capsys, "--yes")[0] == 0
    assert run(["ask", "hi", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["model"], document["answer"]) == ("yes-1b", "yes")


def test_a_user_without_a_home_folder_is_served(home, capsys, monkeypatch):
    def refuse():
        raise RuntimeError("Could not determine home directory.")

    gguf_file(home / "work" / "m.gguf")
    monkeypatch.setattr(Path, "home", refuse)
    assert outcome(capsys, "--yes")[0] == 0
    assert load_zoo(None).names == ("m",)


def test_two_equal_costs_take_the_first_name_as_reference(home, capsys):
    for name in ("b", "a"):
        gguf_file(home / "work" / f"{name}.gguf", texts={"general.name": name})
    assert outcome(capsys, "--yes")[0] == 0
    assert load_zoo(None).settings.reference == "a"


def test_a_file_that_exists_is_never_overwritten(all_programs, home, capsys):
    for number, make in enumerate(
        (Path.mkdir, lambda path: path.write_text("mine"), lambda path: path.symlink_to("x"))
    ):
        make(home / "work" / "zoo.yaml")
        code, out, err = outcome(capsys, "--yes")
        assert (code, out) == (2, "")
        assert err == "messctl: zoo.yaml: exists already, and is not overwritten; give another file with --output\n"
        (home / "work" / "zoo.yaml").rename(home / "work" / f"old{number}")
    assert outcome(capsys, "--yes", "--output", "new.yaml")[0] == 0
    assert len(load_zoo(home / "work" / "new.yaml").models) == 4


def test_a_file_that_appears_while_the_user_is_asked_stays(all_programs, home, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(
        "messctl.cli.output.prompt_user", lambda question: (home / "work" / "zoo.yaml").write_text("mine") and "y"
    )
    assert outcome(capsys)[0] == 2
    assert (home / "work" / "zoo.yaml").read_text() == "mine"


@pytest.mark.parametrize(("reply", "written"), [(b"y\n", True), (b"yes\n", True), (b"n\n", False), (b"", False)])
def test_a_terminal_is_asked_before_anything_is_written(all_programs, home, capsys, monkeypatch, reply, written):
    typed(monkeypatch, reply)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    code, out, err = outcome(capsys)
    assert code == 0
    assert "Write zoo.yaml? [y/N]" in err
    assert (home / "work" / "zoo.yaml").exists() is written
    assert ("zoo.yaml: not written" in out) is not written


def test_without_a_terminal_nothing_is_written_unless_yes_is_given(all_programs, home, capsys):
    code, out, err = outcome(capsys)
    assert code == 2
    assert "llama3.2-1b" in out
    assert err.count("\n") == 1
    assert "give --yes" in err
    assert not (home / "work" / "zoo.yaml").exists()


def test_a_dry_run_prints_the_file_and_writes_nothing(all_programs, home, capsys, tmp_path):
    code, out, err = outcome(capsys, "--dry-run")
    assert (code, err) == (0, "")
    (tmp_path / "printed.yaml").write_text(out[out.index("# Models that") :])
    assert load_zoo(tmp_path / "printed.yaml").names == tuple(all_programs)
    assert not (home / "work" / "zoo.yaml").exists()


def test_json_says_what_was_found_and_what_was_written(all_programs, home, capsys):
    (home / "work" / "bad.gguf").write_bytes(b"x")
    code, out, err = outcome(capsys, "--json")
    document = json.loads(out)
    assert (code, err, document["written"]) == (0, "", False)
    assert "models:" in document["text"]
    assert [each["name"] for each in document["models"]] == all_programs
    assert [each["from"] for each in document["models"]] == ["Ollama", "LM Studio", "Hugging Face", "llama.cpp"]
    assert [each["what"] for each in document["left_out"]] == [str(home / "work" / "bad.gguf")]
    code, out, err = outcome(capsys, "--json", "--yes")
    assert (code, json.loads(out)["written"], json.loads(out)["text"]) == (0, True, None)
    assert (home / "work" / "zoo.yaml").exists()


def test_broken_files_and_other_kinds_are_named(home, capsys):
    gguf_file(home / "work" / "good.gguf")
    (home / "work" / "bad.gguf").write_bytes(b"GGUF")
    gguf_file(home / "work" / "mmproj-good-f16.gguf", architecture="clip")
    code, out, _ = outcome(capsys, "--yes")
    assert code == 0
    assert f"! left out: {home / 'work' / 'bad.gguf'}: ends within its header" in out
    assert "mmproj-good-f16.gguf: is the part of a model that reads pictures" in out
    assert load_zoo(None).names == ("good",)


def test_without_models_it_says_where_it_looked(home, capsys):
    (home / "work" / "bad.gguf").write_bytes(b"GGUF")
    code, out, err = outcome(capsys, "--yes", "--folder", home / "work")
    assert code == 2
    for place in (".ollama/models", ".lmstudio/models", ".cache/huggingface/hub", ".cache/llama.cpp", "work"):
        assert str(home / place) in out
    assert "bad.gguf: ends within its header" in out
    assert err.count("\n") == 1
    assert err.startswith(
        "messctl: no model was found in 6 places (this folder, Ollama, LM Studio, Hugging Face, llama.cpp); "
    )
    assert not (home / "work" / "zoo.yaml").exists()
    code, out, err = outcome(capsys, "--json")
    assert code == 2
    assert {each["state"] for each in json.loads(out)["searched"]} == {"does not exist", "searched"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folder", "nowhere"], "--folder nowhere: there is no such folder"),
        (["--folder", "file"], "--folder file: is a file; give the folder that it is in"),
        (["--key-env", "KEY"], "--key-env is for servers; add --url"),
        (["--output", "nowhere/zoo.yaml"], "does not exist"),
        (["--model", "llama3.2-1bb"], "unknown model 'llama3.2-1bb' (did you mean 'llama3.2-1b'?)"),
        (["--url", "ftp://x"], "--url ftp://x: url must be the base url"),
        (["--url", "http://user:secret@127.0.0.1:9"], "--url http://…@127.0.0.1:9: url must be a url without a user"),
    ],
)
def test_bad_options_are_refused_in_one_line(all_programs, home, capsys, options, message):
    (home / "work" / "file").touch()
    code, out, err = outcome(capsys, "--yes", *options)
    assert code == 2
    assert message in err
    assert "secret" not in out + err
    assert err.count("\n") == 1


def test_only_named_models_are_taken(all_programs, capsys):
    assert outcome(capsys, "--yes", "--model", "llama3.2-1b", "--model", "*q4*")[0] == 0
    assert load_zoo(None).names == ("llama3.2-1b", "qwen2.5-q4_k_m", "gemma-3-1b-it-q4_k_m")


STRANGE = ("~m", "box:m", "1e5", "on", "null", "#m", "- m", "m: n", "*m", "'m'", "5", "ü ö", 'a"b', "a\\b", "{m}")


def test_a_zoo_with_strange_file_names_loads(home, capsys):
    for number, name in enumerate(STRANGE):
        gguf_file(home / "work" / "in" / f"{name}.gguf", 32 + number)
        gguf_file(home / "work" / f"{name}.gguf", 64 + number)
    assert outcome(capsys, "--yes")[0] == 0
    zoo = load_zoo(None)
    assert len(zoo.models) == 2 * len(STRANGE)
    assert all(model.path.is_file() for model in zoo.models)
    assert run(["zoo", "check"]) == 0


@pytest.mark.parametrize("output", ["zoo.yaml", "sub/zoo.yaml", "../zoo.yaml"])
def test_paths_lead_to_the_files_from_wherever_the_zoo_is(home, capsys, output):
    (home / "work" / "sub").mkdir()
    gguf_file(home / "work" / "sub" / "m.gguf")
    gguf_file(home / "n.gguf", 64)
    assert outcome(capsys, "--yes", "--folder", "..", "--output", output)[0] == 0
    assert sorted(model.path.resolve() for model in load_zoo(home / "work" / output).models) == sorted(
        [home / "work" / "sub" / "m.gguf", home / "n.gguf"]
    )


def test_a_model_without_a_chat_template_is_said(home, capsys):
    write_gguf(home / "work" / "base.gguf", template=None)
    assert outcome(capsys, "--yes")[0] == 0
    assert "no chat template: set chat_template if it is a chat model" in (home / "work" / "zoo.yaml").read_text()


def test_a_long_context_is_cut_and_the_models_own_is_said(home, capsys):
    gguf_file(home / "work" / "m.gguf", context=131072)
    assert outcome(capsys, "--yes")[0] == 0
    assert load_zoo(None).models[0].n_ctx == 8192
    assert "the model's own is 131,072" in (home / "work" / "zoo.yaml").read_text()


@pytest.mark.parametrize(("free", "budget"), [(10**12, None), (3_000_000, 0.0027), (1_000, None)])
def test_models_that_do_not_fit_together_take_turns(home, capsys, monkeypatch, free, budget):
    monkeypatch.setattr("messctl.backends.machine.free_memory", lambda: free)
    monkeypatch.setattr("messctl.zoo.finding.draft._budget", lambda available: round(available * 0.9 / 1e9, 6))
    for number in range(3):
        weights = (BOX / "micro-400k.gguf").read_bytes()
        (home / "work" / f"m{number}.gguf").write_bytes(weights + bytes([number]))
    assert outcome(capsys, "--yes")[0] == 0
    assert load_zoo(None).cpu_gb == budget


def listing(*entries):
    text = json.dumps({"object": "list", "data": list(entries)}).encode()
    return lambda handler: handler.answer(text, 200, "application/json")


def absent(handler):
    handler.answer(b"404 page not found", 404, "text/plain")


def test_a_server_is_asked_for_its_models(home, capsys):
    entries = [
        {"id": "qwen2.5:7b"},
        {"id": "nomic-embed-text"},
        {"id": "my-model", "meta": {"n_params": 3e9}},
        {"id": "gpt-4o"},
    ]
    gguf_file(home / "work" / "file.gguf")
    with misbehaving(listing(*entries)) as server:
        assert outcome(capsys, "--yes", "--url", server.url)[0] == 0
    models = {model.name: model for model in load_zoo(None).models}
    assert list(models) == ["file", "my-model", "gpt-4o", "qwen2.5-7b"]
    large = models["qwen2.5-7b"]
    assert (large.url, large.model, large.cost.generated) == (server.url, "qwen2.5:7b", pytest.approx(1.4))
    assert models["my-model"].cost.generated == pytest.approx(0.6)
    text = (home / "work" / "zoo.yaml").read_text()
    assert "a guess, as nothing says how large it is: write what it costs" in text
    assert [path for path, _, _ in server.requests] == ["/v1/models"]


@pytest.mark.parametrize(
    ("behaviours", "url", "asked"),
    [
        ([listing({"id": "m-1b"})], "{root}", ["/v1/models"]),
        ([listing({"id": "m-1b"})], "{root}/v1/", ["/v1/models"]),
        ([listing({"id": "m-1b"})], "{root}/v1/chat/completions", ["/v1/models"]),
        ([absent, listing({"id": "m-1b"})], "{root}", ["/v1/models", "/models"]),
    ],
)
def test_v1_may_be_left_out_of_a_url(capsys, behaviours, url, asked):
    with misbehaving(*behaviours) as server:
        code, _, _ = outcome(capsys, "--yes", "--url", url.format(root=server.url.removesuffix("/v1")))
    assert code == 0
    assert [path for path, _, _ in server.requests] == asked
    assert load_zoo(None).models[0].url == server.url.removesuffix("/v1") + asked[-1].removesuffix("/models")


def test_a_key_is_sent_and_not_written(home, capsys, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with misbehaving(listing({"id": "m-1b"})) as server:
        code, out, err = outcome(capsys, "--yes", "--url", server.url, "--key-env", "MY_KEY")
    assert code == 0
    headers = {name.lower(): value for name, value in server.requests[0][1].items()}
    assert headers["authorization"] == "Bearer sk-secret"
    assert load_zoo(None).models[0].key_env == "MY_KEY"
    assert "sk-secret" not in out + err + (home / "work" / "zoo.yaml").read_text()


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (listing(), "the server lists no model that answers prompts"),
        (listing({"id": "nomic-embed-text"}), "the server lists no model that answers prompts"),
        (absent, "if it needs a key, name the variable that holds it with --key-env"),
        (lambda handler: handler.answer(b"{", 200, "application/json"), "if it needs a key"),
        (lambda handler: handler.answer(b'{"error": "key"}', 401, "application/json"), "--key-env"),
    ],
)
def test_a_server_without_models_is_an_error_in_one_line(home, capsys, behaviour, message):
    gguf_file(home / "work" / "file.gguf")
    with misbehaving(behaviour) as server:
        code, _, err = outcome(capsys, "--yes", "--url", server.url)
    assert code == 2
    assert err.startswith(f"messctl: --url {server.url}: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (home / "work" / "zoo.yaml").exists()


def test_a_key_that_is_not_set_is_named(capsys):
    with misbehaving(listing({"id": "m-1b"})) as server:
        code, _, err = outcome(capsys, "--yes", "--url", server.url, "--key-env", "NO_SUCH_KEY")
    assert code == 2
    assert "NO_SUCH_KEY is not set: export NO_SUCH_KEY=… first" in err
    assert server.requests == []


def test_a_server_that_is_named_twice_counts_once(capsys):
    with misbehaving(listing({"id": "m-1b"})) as server:
        urls = (server.url, server.url.removesuffix("/v1"))
        assert outcome(capsys, "--yes", *(word for url in urls for word in ("--url", url)))[0] == 0
    assert load_zoo(None).names == ("m-1b",)


def test_a_server_that_is_not_there_is_an_error(capsys):
    code, _, err = outcome(capsys, "--yes", "--url", "127.0.0.1:9")
    assert code == 2
    assert "--url 127.0.0.1:9: " in err
    assert "cannot be reached" in err


def test_names_at_a_server_differ_from_those_of_files(home, capsys):
    gguf_file(home / "work" / "m-1b.gguf")
    with misbehaving(listing({"id": "m:1b"}, {"id": "m-1b"})) as server:
        assert outcome(capsys, "--yes", "--url", server.url)[0] == 0
    zoo = load_zoo(None)
    assert len(set(zoo.names)) == 3
    assert {model.model for model in zoo.models if model.url} == {"m:1b", "m-1b"}


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_output_fits_the_terminal(all_programs, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _ = outcome(capsys, "--yes")
    assert code == 0
    table = out[: out.index("zoo.yaml: written")].splitlines()
    assert max(map(len, table)) <= columns
    assert ("━" in table[0]) is (columns >= 80)

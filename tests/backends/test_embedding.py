"""Features from an embedding model: real GGUF models in real llama.cpp, decoders and an encoder."""

import subprocess
import sys
from dataclasses import replace

import backends_files
import gguf
import gguf_making
import numpy as np
import pyarrow as pa
import pytest
from driving import drive
from hypothesis import given, settings
from hypothesis import strategies as st
from live_making import typed
from making import learnable, prompts_for, write_trace

from messctl.backends import encoder_of
from messctl.backends.embedding import GgufEncoder, folded
from messctl.cli import run
from messctl.errors import BackendError, ConfigError
from messctl.learning.features import WORDS, WordEncoder, width
from messctl.learning.snapshot import Snapshot
from messctl.policies import live_build, live_names
from messctl.replay.loading import load
from messctl.state.store import Store
from messctl.zoo import Settings, load_settings
from messctl.zoo.models import BOX

PICO = BOX / "pico-34k.gguf"
BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁name", "▁a", "▁river", "▁prove", "▁sum", "s")


def write_bert(path, size=32, context=16, pooling=1, seed=0):
    """Write an embedding model: a BERT encoder with one block and random weights."""
    coin = np.random.default_rng(seed)

    def draw(*shape):
        return (coin.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    def scale(name):
        return {f"{name}.weight": np.ones(size, np.float32), f"{name}.bias": np.zeros(size, np.float32)}

    def layer(name, rows, columns):
        return {f"{name}.weight": draw(rows, columns), f"{name}.bias": np.zeros(rows, np.float32)}

    tensors = {
        "token_embd.weight": draw(len(BERT_TOKENS), size),
        "token_types.weight": draw(2, size),
        "position_embd.weight": draw(context, size),
        **scale("token_embd_norm"),
        **{key: array for part in "qkv" for key, array in layer(f"blk.0.attn_{part}", size, size).items()},
        **layer("blk.0.attn_output", size, size),
        **scale("blk.0.attn_output_norm"),
        **layer("blk.0.ffn_up", 64, size),
        **layer("blk.0.ffn_down", size, 64),
        **scale("blk.0.layer_output_norm"),
    }

    def more(writer):
        writer.add_feed_forward_length(64)
        writer.add_layer_norm_eps(1e-12)
        writer.add_causal_attention(False)
        writer.add_pooling_type(gguf.PoolingType(pooling))
        writer.add_tokenizer_model("bert")
        writer.add_token_types([gguf.TokenType.CONTROL] * 4 + [gguf.TokenType.NORMAL] * (len(BERT_TOKENS) - 4))
        writer.add_token_type_count(2)
        for name, token in (("unknown", 1), ("seperator", 3), ("padding", 0), ("cls", 2), ("bos", 2), ("eos", 3)):
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token)

    return gguf_making.write_gguf(
        path,
        architecture="bert",
        width=size,
        blocks=1,
        heads=4,
        kv_heads=None,
        context=context,
        template=None,
        tensors=tensors,
        vocabulary=BERT_TOKENS,
        more=more,
    )


@pytest.fixture(params=["decoder", "encoder", "unpooled"])
def model(request, tmp_path):
    if request.param == "decoder":
        return PICO
    return write_bert(tmp_path / "bert.gguf", pooling=1 if request.param == "encoder" else 0)


def rows_of(features):
    return features.csr().toarray()


def test_a_column_of_prompts_has_the_same_features_as_single_prompts(model):
    encoder = GgufEncoder(model)
    odd = "ž̈ 🎈 \u0000 [MASK] <|user|>"
    prompts = ["name a river", "prove sums", "", "prove sums", "what is 17 + 25?", odd, "name " * 900]
    column = encoder.column(pa.array(prompts, pa.large_string()))
    assert (len(column), column.width) == (len(prompts), width())
    ones = [encoder.one(prompt) for prompt in prompts]
    assert rows_of(column).tobytes() == np.concatenate([rows_of(one) for one in ones]).tobytes()
    assert np.array_equal(rows_of(column)[1], rows_of(column)[3])
    lengths = np.linalg.norm(rows_of(column)[:, :WORDS], axis=1)
    assert lengths[[0, 1, 3, 4, 5, 6]] == pytest.approx(2.0, abs=1e-6)
    words = WordEncoder().column(pa.array(prompts, pa.large_string()))
    assert rows_of(column)[:, WORDS:].tobytes() == rows_of(words)[:, WORDS:].tobytes()


def test_embeddings_equal_those_of_llama_cpp_python():
    import llama_cpp

    own = llama_cpp.Llama(str(PICO), embedding=True, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_MEAN, verbose=False)
    for prompt in ("What is 17 + 25?", "Reverse the word stone."):
        theirs = np.array(own.embed(prompt, normalize=True))
        ours = rows_of(GgufEncoder(PICO).one(prompt))[0, : len(theirs)] / 2.0
        assert ours == pytest.approx(theirs, abs=1e-3)
    own.close()


@pytest.mark.slow
def test_features_are_the_same_in_another_process():
    code = (
        "import sys; from pathlib import Path; from messctl.backends.embedding import GgufEncoder\n"
        "encoder = GgufEncoder(Path(sys.argv[1]))\n"
        "print(encoder.version, encoder.one('name a river').values.tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(PICO)], capture_output=True, text=True, check=True)
    encoder = GgufEncoder(PICO)
    assert done.stdout == f"{encoder.version} {encoder.one('name a river').values.tobytes().hex()}\n"


def test_another_model_file_has_another_version(tmp_path):
    one, other = (GgufEncoder(write_bert(tmp_path / f"{seed}.gguf", seed=seed)) for seed in range(2))
    assert len({one.version, other.version, GgufEncoder(PICO).version, WordEncoder().version}) == 4


@settings(deadline=None)
@given(st.integers(1, 1200), st.integers(0, 99))
def test_folding_gives_length_two_and_keeps_opposites_opposite(size, seed):
    embedding = np.random.default_rng(seed).standard_normal(size)
    once = folded(embedding)
    assert once.shape == (WORDS,)
    assert np.linalg.norm(once) == pytest.approx(2.0, abs=1e-5)
    assert folded(-embedding).tolist() == (-once).tolist()
    assert folded(3.0 * embedding) == pytest.approx(once, abs=1e-6)
    if size <= WORDS:
        assert once[:size] == pytest.approx(2.0 * embedding / np.linalg.norm(embedding), abs=1e-6)


def test_zero_folds_to_zero_and_values_that_are_not_numbers_are_refused():
    assert not folded(np.zeros(7)).any()
    with pytest.raises(BackendError, match="not numbers"):
        folded(np.array([1.0, np.nan]))


@pytest.mark.slow
@pytest.mark.parametrize("name", live_names())
def test_live_and_replay_decide_the_same_with_embeddings(name):
    """A state that was learned with words is not used with embeddings."""
    encoder, prompts, promise = GgufEncoder(PICO), prompts_for(250), Settings(alpha=0.85, policy=name)
    rounds = replace(learnable(250), features=encoder.column(pa.array(prompts, pa.large_string())))
    start, compiled = (live_build(name)(rounds.zoo, promise, Snapshot(), encoder) for _ in range(2))
    steps, played = list(drive(start, rounds, prompts)), compiled.play(rounds)
    assert [decision.served for decision, _ in steps] == [rounds.zoo.models[index] for index in played.served]
    predicted = np.array([[decision.predicted[model] for model in rounds.zoo.models] for decision, _ in steps])
    assert predicted.tobytes() == played.predicted.tobytes()
    saved = start.snapshot()
    assert saved.encoder == encoder.version
    words = live_build(name)(rounds.zoo, promise, saved).snapshot()
    again = live_build(name)(rounds.zoo, promise, saved, encoder).snapshot()
    of_prompts = {"messplus": "weight", "bandit": "own_weight"}[name]
    for model in rounds.zoo.models:
        kept, forgotten = (each.models[model].arrays[of_prompts] for each in (again, words))
        assert kept.tobytes() == saved.models[model].arrays[of_prompts].tobytes()
        assert not forgotten.any()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path, "there is no such model file"),
        (lambda path: path.write_bytes(b"GGUF") and path, "cut short"),
        (lambda path: path.write_bytes(b"not one" * 9) and path, "is not a GGUF file"),
        (lambda path: backends_files.write_gguf(path, tokenizer="none"), "has no vocabulary"),
        (lambda path: backends_files.write_gguf(path, omit="output_norm.weight"), "cannot be loaded"),
        (lambda path: backends_files.write_gguf(path, broken_weights=True), "not numbers"),
    ],
)
def test_an_unusable_embedding_file_is_refused(make, says, tmp_path):
    with pytest.raises(BackendError, match=says) as raised:
        GgufEncoder(make(tmp_path / "e.gguf")).one("name a river")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("router:\n  features: meanings", "line 2: router.features is 'meanings'; it must be words, or {gguf: a file}"),
        ("router:\n  features: {}", "line 2: router.features has no gguf"),
        ("router:\n  features: {ggfu: x}", "did you mean 'gguf'"),
        ("router:\n  features: {gguf: 3}", "line 2: router.features.gguf is 3; it must be text"),
    ],
)
def test_invalid_features_in_zoo_yaml_are_refused(text, says, tmp_path):
    path = tmp_path / "zoo.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_settings(path)
    assert says in str(raised.value)


def test_zoo_yaml_chooses_the_encoder(tmp_path):
    path = tmp_path / "zoo.yaml"
    for text, wanted in (
        ("words", None),
        ("{gguf: e.gguf}", tmp_path / "e.gguf"),
        ("{gguf: 'box:pico-34k.gguf'}", PICO),
    ):
        path.write_text(f"router: {{features: {text}}}")
        assert load_settings(path)[0].features == wanted
    assert isinstance(encoder_of(Settings()), WordEncoder)
    assert encoder_of(Settings(features=PICO)).version == GgufEncoder(PICO).version


@pytest.mark.slow
def test_replay_tune_and_ask_use_the_embedding_model(tmp_path, capsys, monkeypatch):
    """The encoder is set in zoo.yaml; the trace's embeddings are cached beside the trace."""
    coin = np.random.default_rng(0)
    rows = [
        {model: (float(coin.random() < level), cost) for model, level, cost in (("a", 0.6, 1.0), ("b", 0.9, 9.0))}
        for _ in range(120)
    ]
    trace = write_trace(tmp_path / "t.parquet", rows)
    zoo = tmp_path / "zoo.yaml"

    def printed(*command):
        assert run([*command, "--zoo", str(zoo), "--json"]) == 0
        return capsys.readouterr().out

    zoo.write_text(f"sla: {{alpha: 0.7}}\nrouter: {{features: {{gguf: {PICO}}}}}\n")
    by_meaning = printed("replay", str(trace), "--policy", "messplus")
    assert (tmp_path / "t.parquet.features.npz").exists()
    assert printed("replay", str(trace), "--policy", "messplus") == by_meaning
    assert run(["tune", str(trace), "--zoo", str(zoo), "--v", "0.01", "--c", "0.5", "--seeds", "2"]) in (0, 1)
    assert "V = 0.01" in capsys.readouterr().out
    encoder = GgufEncoder(PICO)
    kept, fresh = (load(trace, encoder=encoder, cache=cache).rounds.features for cache in (True, False))
    assert kept.values.tobytes() == fresh.values.tobytes()
    zoo.write_text("sla: {alpha: 0.7}\n")
    assert printed("replay", str(trace), "--policy", "messplus") != by_meaning

    zoo.write_text(
        f"router: {{features: {{gguf: {PICO}}}}}\nmodels:\n- {{name: pico, path: {PICO}, n_ctx: 0, temperature: 0}}\n"
    )
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    typed(monkeypatch)
    assert '"answer": "4"' in printed("ask", "What is 2 + 2?", "--expect", "4")
    with Store(tmp_path / "state") as store:
        assert store.policy.snapshot("bandit").encoder == encoder.version

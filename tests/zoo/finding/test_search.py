"""Which models the search finds in the folders of other programs, and what it leaves out."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from gguf_making import write_gguf
from model_folders import ADAPTER, gguf_file, hugging_face, llama_cpp, lm_studio, ollama

from messctl.zoo.finding.places import FOLDER, HUGGING_FACE, LLAMA_CPP, LM_STUDIO, OLLAMA, Place, places
from messctl.zoo.finding.search import search


@pytest.fixture
def file(tmp_path_factory):
    return gguf_file(tmp_path_factory.mktemp("made") / "x.gguf")


def found(*where):
    """Search places; return the found paths by name, and why things were left out by their last part."""
    result = search([where[0]] if isinstance(where[0], Place) else [Place(FOLDER, folder) for folder in where])
    return {each.name: each.path for each in result.files}, {each.what: each.why for each in result.left_out}


@pytest.mark.parametrize("below", ["", "models", ".ollama/models"])
def test_ollamas_models_have_their_names_in_ollama(tmp_path, file, below):
    folder = tmp_path / "ollama" / below
    small = ollama(folder, "llama3.2:1b", file)
    large = ollama(folder, "qwen2.5:latest", gguf_file(tmp_path / "y.gguf", 64))
    far = ollama(folder, "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", gguf_file(tmp_path / "z.gguf", 96))
    models, left_out = found(Place(OLLAMA, tmp_path / "ollama"))
    assert models == {"llama3.2-1b": small, "qwen2.5": large, "llama-3.2-1b-instruct-q4_k_m": far}
    assert left_out == {}


def test_two_tags_of_one_file_are_one_model_with_the_tag_that_says_more(tmp_path, file):
    ollama(tmp_path, "llama3.2:latest", file)
    ollama(tmp_path, "llama3.2:1b", file)
    (model,) = search([Place(OLLAMA, tmp_path)]).files
    assert (model.name, model.twins) == ("llama3.2-1b", ("Ollama's llama3.2:latest",))


def test_old_names_of_ollamas_files_are_found(tmp_path, file):
    blob = ollama(tmp_path, "m:1", file)
    old = blob.rename(blob.with_name(blob.name.replace("-", ":")))
    assert found(Place(OLLAMA, tmp_path)) == ({"m-1": old}, {})


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda folder, file: ollama(folder, "m:1", file).unlink(), "is missing; pull it again"),
        (lambda folder, file: ollama(folder, "m:1", None), "has no GGUF file here"),
        (lambda folder, file: ollama(folder, "m:1", file, media_type=ADAPTER), "has a LoRA adapter"),
        (lambda folder, file: ollama(folder, "m:1", file, more=("adapter",)), "has a LoRA adapter"),
        (lambda folder, file: broken_manifest(folder, file, "{"), "is damaged; pull it again"),
        (lambda folder, file: broken_manifest(folder, file, "[" * 100_000), "is damaged; pull it again"),
        (lambda folder, file: broken_manifest(folder, file, "[]"), "has no GGUF file here"),
        (
            lambda folder, file: broken_manifest(
                folder,
                file,
                '{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x"}]}',
            ),
            "is damaged; pull it again",
        ),
    ],
)
def test_what_ollama_cannot_run_here_is_named_and_left_out(tmp_path, file, break_it, why):
    break_it(tmp_path, file)
    models, left_out = found(Place(OLLAMA, tmp_path))
    assert models == {}
    assert why in left_out["Ollama's m:1"]


def broken_manifest(folder, file, text):
    ollama(folder, "m:1", file)
    (folder / "manifests" / "registry.ollama.ai" / "library" / "m" / "1").write_text(text)


def test_a_snapshot_of_hugging_face_is_found_by_its_link(tmp_path, file):
    link = hugging_face(tmp_path, "Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-q4_k_m.gguf", file)
    below = hugging_face(tmp_path, "o/r", "Q8/ggml-model-q8_0.gguf", gguf_file(tmp_path.parent / "y.gguf", 64))
    (tmp_path / "models--o--r" / "blobs" / "0000.incomplete").write_bytes(b"GGUF")
    models, left_out = found(Place(HUGGING_FACE, tmp_path / "."))
    assert models == {"qwen2.5-0.5b-instruct-q4_k_m": link, "r": below}
    assert left_out == {}


def test_the_newest_snapshot_of_a_file_counts(tmp_path, file):
    hugging_face(tmp_path, "o/r", "m.gguf", gguf_file(tmp_path / "made" / "old.gguf", 64), revision="f" * 40)
    new = hugging_face(tmp_path, "o/r", "m.gguf", file, revision="0" * 40)
    other = hugging_face(tmp_path, "o/r", "n.gguf", gguf_file(tmp_path / "made" / "n.gguf", 96), revision="f" * 40)
    (tmp_path / "models--o--r" / "refs" / "main").write_text("0" * 40)
    assert found(tmp_path / "models--o--r")[0] == {"m": new, "n": other}


def split(folder, parts=3, **more):
    """Write a model in parts, as llama-gguf-split does, with all its weights in each of them."""
    for number in range(parts):
        counts = {"split.count": parts, "split.no": number}
        gguf_file(folder / f"big-{number + 1:05d}-of-{parts:05d}.gguf", u16=counts, **more)
    return folder / f"big-00001-of-{parts:05d}.gguf"


def test_a_split_model_is_its_first_part(tmp_path):
    assert found(tmp_path)[0] == {}
    assert found(split(tmp_path / "a").parent) == ({"big": tmp_path / "a" / "big-00001-of-00003.gguf"}, {})


def test_a_split_model_in_the_cache_of_hugging_face_is_found(tmp_path):
    first = split(tmp_path / "made", 2)
    links = [hugging_face(tmp_path / "hub", "o/r", part.name, part) for part in sorted(first.parent.iterdir())]
    assert found(tmp_path / "hub") == ({"big": links[0]}, {})


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_split_model_without_one_part_is_left_out_once(tmp_path, missing):
    split(tmp_path)
    (tmp_path / f"big-{missing:05d}-of-00003.gguf").unlink()
    models, left_out = found(tmp_path)
    assert models == {}
    assert list(left_out.values()) == [f"is part of 3 files, of which number {missing} is missing; download it again"]


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"kind": "adapter"}, "is a LoRA adapter"),
        ({"kind": "mmproj"}, "(mmproj)"),
        ({"kind": "imatrix"}, "is an importance matrix"),
        ({"kind": "strange"}, "is of the kind 'strange'"),
        ({"architecture": "clip"}, "(mmproj)"),
        ({"architecture": "bert"}, "is an embedding model"),
        ({"architecture": "nomic-bert-moe"}, "is an embedding model"),
        ({"architecture": "gemma-embedding"}, "is an embedding model"),
        ({"architecture": "llama-embed"}, "is an embedding model"),
        ({"architecture": "qwen3", "counts": {"qwen3.pooling_type": 3}}, "is an embedding model"),
        ({"architecture": "qwen3", "counts": {"qwen3.pooling_type": 4}}, "is a reranker"),
        ({"more": lambda writer: writer.add_causal_attention(False)}, "is an embedding model"),
        ({"architecture": "t5"}, "is an encoder-decoder model"),
        ({"architecture": "llada"}, "is a diffusion model"),
        ({"tensors": {}}, "holds no weights, only a vocabulary"),
    ],
)
def test_what_is_no_chat_model_is_named_and_left_out(tmp_path, facts, why):
    write_gguf(tmp_path / "m.gguf", **facts)
    models, left_out = found(tmp_path)
    assert models == {}
    assert why in left_out[str(tmp_path / "m.gguf")]


def test_an_embedding_model_is_known_by_its_name_too(tmp_path):
    for name in ("Qwen3-Embedding-0.6B-Q8_0", "gte-embed", "Qwen3-Reranker-4B", "embedded-chat", "unembeddable"):
        gguf_file(tmp_path / f"{name}.gguf", 32 + len(name))
    models, left_out = found(tmp_path)
    assert set(models) == {"embedded-chat", "unembeddable"}
    assert len(left_out) == 3


def test_a_model_whose_architecture_sounds_like_one_for_embeddings_is_a_chat_model(tmp_path):
    write_gguf(tmp_path / "m.gguf", architecture="pangu-embedded")
    assert set(found(tmp_path)[0]) == {"m"}


@pytest.mark.parametrize("kind", [None, "model"])
def test_a_model_with_an_explicit_lack_of_pooling_is_a_chat_model(tmp_path, kind):
    write_gguf(tmp_path / "m.gguf", kind=kind, counts={"llama.pooling_type": 0})
    assert set(found(tmp_path)[0]) == {"m"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"GGUF", "ends within its header"),
        (b"not a model", "is not a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_a_broken_file_is_named_and_left_out(tmp_path, file, content, why):
    shutil.copyfile(file, tmp_path / "good.gguf")
    (tmp_path / "bad.gguf").write_bytes(content)
    models, left_out = found(tmp_path)
    assert set(models) == {"good"}
    assert why in left_out[str(tmp_path / "bad.gguf")]


def test_fifos_loops_and_dead_links_do_not_stop_the_search(tmp_path, file):
    folder = tmp_path / "models"
    folder.mkdir()
    os.mkfifo(folder / "pipe.gguf")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    (folder / "self.gguf").symlink_to("self.gguf")
    (folder / "dead.gguf").symlink_to("nowhere")
    (folder / "dir.gguf").mkdir()
    inside = shutil.copyfile(file, folder / "dir.gguf" / "inside.gguf")
    models, left_out = found(folder)
    assert list(models.values()) == [inside]
    assert left_out[str(folder / "pipe.gguf")] == "is not an ordinary file; give the GGUF file itself"
    for name in ("dead", "self"):
        assert left_out[str(folder / f"{name}.gguf")] == "is a link to a file that is missing; download it again"


def test_hidden_files_and_files_that_are_too_deep_are_not_searched(tmp_path, file):
    (tmp_path / "._m.gguf").write_bytes(b"resource fork")
    gguf_file(tmp_path / ".git" / "m.gguf")
    gguf_file(tmp_path.joinpath(*("d" * 12), "deep.gguf"))
    assert found(Place(FOLDER, tmp_path / "d")) == ({"deep": tmp_path.joinpath(*("d" * 12), "deep.gguf")}, {})
    assert "deep" not in found(Place(FOLDER, tmp_path))[0]


def test_a_search_stops_at_the_most_entries(tmp_path, file, monkeypatch):
    monkeypatch.setattr("messctl.zoo.finding.listing.MOST_ENTRIES", 3)
    for number in range(4):
        (tmp_path / "many" / f"{number}").mkdir(parents=True)
    (listing,) = search([Place(FOLDER, tmp_path / "many")]).listings
    assert listing.state == "has more than 3 files; the rest was not searched"


def test_an_unreadable_folder_is_said(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("messctl.zoo.finding.listing.os.scandir", refuse)
    (listing,) = search([Place(FOLDER, tmp_path)]).listings
    assert listing.state == f"{tmp_path} cannot be read (Permission denied)"


@pytest.mark.parametrize("copy", [os.link, os.symlink, shutil.copyfile])
def test_the_same_file_in_two_programs_is_one_model(tmp_path, file, copy):
    one, other = tmp_path / "one" / "a.gguf", tmp_path / "other" / "b.gguf"
    for path in (one, other):
        path.parent.mkdir()
        copy(file, path)
    (model,) = search([Place(LM_STUDIO, one.parent), Place(LLAMA_CPP, other.parent)]).files
    assert (model.path, model.twins) == (one, (str(other),))


def test_files_of_one_size_that_differ_are_two_models(tmp_path):
    for number in range(2):
        weights = {"token_embd.weight": np.full((10, 32), number, np.float16)}
        gguf_file(tmp_path / f"m{number}" / "m.gguf", tensors=weights, texts={"general.name": "same"})
    assert list(found(tmp_path)[0]) == ["m-f16-folder", "m-f16-folder-2"]


def test_models_are_sorted_by_size_and_named_by_what_tells_them_apart(tmp_path, file):
    gguf_file(tmp_path / "large" / "m.gguf", 64)
    gguf_file(tmp_path / "small" / "m.gguf", 32, file_type=7)
    assert list(found(tmp_path)[0]) == ["m-q8_0", "m-f16"]


def test_a_name_that_zoo_yaml_cannot_hold_is_left_out(tmp_path, file):
    shutil.copyfile(file, tmp_path / "two\nlines.gguf")
    shutil.copyfile(file, os.fsencode(tmp_path) + b"/not\xff utf8.gguf")
    models, left_out = found(tmp_path / ".")
    assert "two-lines" not in models
    assert {why for what, why in left_out.items() if "made" not in what} == {
        "has a name that zoo.yaml cannot hold; rename it"
    }


def test_lm_studio_and_llama_cpp_are_searched(tmp_path, file):
    one = lm_studio(tmp_path / "lms", "bartowski/Llama-3.2-1B-Instruct-GGUF", "Llama-3.2-1B-Instruct-Q4_K_M.gguf", file)
    made = gguf_file(tmp_path / "made" / "y.gguf", 64)
    other = llama_cpp(tmp_path / "cache", "ggml-org/gemma-3-1b-it-GGUF", "gemma-3-1b-it-Q4_K_M.gguf", made)
    result = search([Place(LM_STUDIO, tmp_path / "lms"), Place(LLAMA_CPP, tmp_path / "cache")])
    assert {each.name: (each.path, each.program) for each in result.files} == {
        "llama-3.2-1b-instruct-q4_k_m": (one, LM_STUDIO),
        "gemma-3-1b-it-q4_k_m": (other, LLAMA_CPP),
    }
    assert result.left_out == ()


def test_places_are_those_of_the_programs(tmp_path):
    where = places({}, tmp_path, "linux", root=tmp_path / "root")
    assert [(place.program, place.folder.relative_to(tmp_path).as_posix()) for place in where] == [
        (OLLAMA, ".ollama/models"),
        (OLLAMA, "root/usr/share/ollama/.ollama/models"),
        (OLLAMA, "root/var/lib/ollama"),
        (OLLAMA, "root/var/snap/ollama/common/models"),
        (OLLAMA, "root/usr/local/share/ollama/.ollama/models"),
        (LM_STUDIO, ".lmstudio/models"),
        (LM_STUDIO, ".cache/lm-studio/models"),
        (HUGGING_FACE, ".cache/huggingface/hub"),
        (LLAMA_CPP, ".cache/llama.cpp"),
    ]


@pytest.mark.parametrize(
    ("environment", "platform", "program", "folder"),
    [
        ({"OLLAMA_MODELS": "/o"}, "linux", OLLAMA, "/o"),
        ({"OLLAMA_MODELS": "~/o"}, "linux", OLLAMA, "/home/o"),
        ({"HF_HUB_CACHE": "/hub"}, "linux", HUGGING_FACE, "/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/old"}, "linux", HUGGING_FACE, "/old"),
        ({"HF_HUB_CACHE": "/hub", "HF_HOME": "/hf"}, "linux", HUGGING_FACE, "/hub"),
        ({"HF_HOME": "/hf"}, "linux", HUGGING_FACE, "/hf/hub"),
        ({"XDG_CACHE_HOME": "/xdg"}, "linux", HUGGING_FACE, "/xdg/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/xdg"}, "linux", LLAMA_CPP, "/xdg/llama.cpp"),
        ({"LLAMA_CACHE": "/cache", "XDG_CACHE_HOME": "/xdg"}, "linux", LLAMA_CPP, "/cache"),
        ({}, "darwin", LLAMA_CPP, "/home/Library/Caches/llama.cpp"),
        ({"LOCALAPPDATA": "/local"}, "win32", LLAMA_CPP, "/local/llama.cpp"),
        ({"OLLAMA_MODELS": " "}, "darwin", OLLAMA, "/home/.ollama/models"),
    ],
)
def test_the_environment_moves_a_place(environment, platform, program, folder):
    from pathlib import Path

    where = places(environment, Path("/home"), platform)
    assert next(place.folder for place in where if place.program == program) == Path(folder)


def test_lm_studios_settings_move_its_folder(tmp_path):
    moved, chosen = tmp_path / "moved", tmp_path / "chosen"
    moved.mkdir()
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{moved}\n")
    (moved / "settings.json").write_text(f'{{"downloadsFolder": "{chosen}"}}')
    where = places({}, tmp_path, "linux")
    folders = [place.folder for place in where if place.program == LM_STUDIO]
    assert folders[:2] == [chosen, moved / "models"]
    (moved / "settings.json").write_text("[" * 100_000)
    assert chosen not in [place.folder for place in places({}, tmp_path, "linux")]

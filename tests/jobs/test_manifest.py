"""Manifests in each format, and those that cannot be read."""

from __future__ import annotations

import json

import pytest

from lib_animatediff.jobs.many.errors import ManifestError
from lib_animatediff.jobs.many.manifest import read_defaults, read_manifest
from motion_module.limits import TEXT_BYTES

ROWS = [{"prompt": "a, b", "seed": "2"}, {"prompt": "c"}]


def written(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"defaults": {"fps": 8}}\n\n{"prompt": "a, b", "seed": "2"}\n{"prompt": "c"}\n'),
        ("a.jsonl", '\ufeff{"defaults": {"fps": 8}}\r\n{"prompt": "a, b", "seed": "2"}\r\n{"prompt": "c"}'),
        ("a.yaml", "defaults: {fps: 8}\nclips:\n- {prompt: 'a, b', seed: '2'}\n- prompt: c\n"),
        ("a.json", json.dumps({"defaults": {"fps": 8}, "clips": ROWS})),
        ("a.csv", 'prompt,seed\n"a, b",2\n\nc,\n'),
        ("a.csv", "prompt;seed\na, b;2\nc;\n"),
        ("a.tsv", "prompt\tseed\na, b\t2\nc\n"),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path, name, text):
    manifest = read_manifest(written(tmp_path, name, text))
    assert [entry.fields for entry in manifest.entries] == ROWS
    assert manifest.defaults == ({} if name.endswith(("csv", "tsv")) else {"fps": 8})


def test_a_bad_line_is_a_row_of_its_own_and_the_others_stay(tmp_path):
    manifest = read_manifest(written(tmp_path, "a.jsonl", '{"seed": 1}\n{"seed": \n[1]\n{"seed": 2}\n'))
    assert [entry.place for entry in manifest.entries] == ["line 1", "line 2", "line 3", "line 4"]
    assert [entry.problem and entry.problem.code for entry in manifest.entries] == [None, "AD-M06", "AD-M12", None]
    table = read_manifest(written(tmp_path, "a.csv", "prompt,seed\na,1\nb,2,3\nc,4\n"))
    assert [entry.problem and entry.problem.code for entry in table.entries] == [None, "AD-M09", None]


def test_a_file_of_one_object_is_one_row(tmp_path):
    for name, text in (("a.json", '{"prompt": "a"}'), ("a.yaml", "prompt: a")):
        (entry,) = read_manifest(written(tmp_path, name, text)).entries
        assert entry.fields == {"prompt": "a"}


def test_a_seed_keeps_all_of_its_digits(tmp_path):
    for name, text in (("a.jsonl", '{"seed": 18446744073709551615}'), ("a.yaml", "- seed: 18446744073709551615")):
        (entry,) = read_manifest(written(tmp_path, name, text)).entries
        assert entry.fields == {"seed": 2**64 - 1}


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("a.txt", "a", "AD-M01"),
        ("a.jsonl", "\n \n", "AD-M02"),
        ("a.csv", "prompt,seed\n", "AD-M02"),
        ("a.csv", 'prompt\n"a', "AD-M07"),
        ("a.csv", "prompt,prompt\na,b\n", "AD-M08"),
        ("a.yaml", "3", "AD-M10"),
        ("a.yaml", "- [", "AD-M11"),
        ("a.yaml", "- &a {seed: 1}\n- *a", "AD-M11"),
        ("a.yaml", "- !!python/object/apply:os.system ['true']", "AD-M11"),
        ("a.yaml", "[" * 5000, "AD-M11"),
        ("a.json", "[" * 100_000, "AD-M11"),
        ("a.jsonl", '{"defaults": 3}', "AD-M13"),
        ("a.jsonl", " " * (TEXT_BYTES + 1), "AD-M04"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, name, text, code):
    with pytest.raises(ManifestError) as refused:
        read_manifest(written(tmp_path, name, text))
    assert refused.value.code == code


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path):
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe")
    for name in ("a.jsonl", "b.jsonl"):
        with pytest.raises(ManifestError, match="AD-M05"):
            read_manifest(tmp_path / name)


def test_defaults_are_one_object(tmp_path):
    assert read_defaults(written(tmp_path, "d.yaml", "steps: 2")) == {"steps": 2}
    with pytest.raises(ManifestError, match="AD-M03"):
        read_defaults(written(tmp_path, "d.json", "[]"))

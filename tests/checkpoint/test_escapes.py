# SPDX-License-Identifier: Apache-2.0
"""No control character of a file reaches a terminal."""

import json
import struct
import unicodedata

import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.__main__ import main
from brainopt.errors import BrainoptError, message, printable
from tests.checkpoint.fake import FakeNode

EVIL = "\x1b[31mX\x1b]0;title\x07\r\nother.bopt: intact\x9b2J\u202e"


def harmless(text):
    lines = text.split("\n")
    assert not [c for c in text if unicodedata.category(c) == "Cc" and c != "\n"]
    assert "\u202e" not in text
    assert not [line for line in lines if line.startswith("other.bopt")]
    return "\\x1b[31mX" in text


@pytest.fixture
def file(tmp_path):
    """A file whose every name and text is evil, and another like it."""
    tree = {
        EVIL: np.ones(2),
        "text": EVIL,
        "net": FakeNode({EVIL: np.ones(2)}, **{"class": EVIL, EVIL: 1}),
    }
    checkpoint.save(tmp_path / "e.bopt", tree)
    tree[EVIL] = np.zeros(2)
    checkpoint.save(tmp_path / "f.bopt", tree)
    return str(tmp_path / "e.bopt")


COMMANDS = [
    ["inspect", "{}"],
    ["inspect", "{}", "--stats"],
    ["inspect", "{}", "--json"],
    ["diff", "{}", "{other}"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_prints_what_a_terminal_obeys(file, command, capsys):
    other = file.replace("e.bopt", "f.bopt")
    main([word.format(file, other=other) for word in command])
    told = capsys.readouterr()
    assert harmless(told.out + told.err) or "--json" in command


def test_damage_is_told_without_what_a_terminal_obeys(file, capsys):
    with open(file, "r+b") as opened:
        opened.seek(64)
        opened.write(b"\xff")
    assert main(["verify", file]) == 2
    assert harmless(capsys.readouterr().err)


def test_errors_of_a_restore_are_harmless(file):
    with pytest.raises(BrainoptError) as refused:
        checkpoint.restore(file, {"net": FakeNode({"b": np.ones(1)})})
    assert harmless(str(refused.value))


def test_the_table_of_inspect_is_harmless(file):
    assert harmless(str(checkpoint.inspect(file)))
    assert harmless("\n".join(checkpoint.diff(file, file.replace("e.b", "f.b"))))


def test_a_dtype_of_safetensors_is_harmless(tmp_path):
    table = {"a": {"dtype": EVIL, "shape": [1], "data_offsets": [0, 4]}}
    header = json.dumps(table).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(4)
    (tmp_path / "f.safetensors").write_bytes(data)
    with pytest.raises(BrainoptError) as refused:
        checkpoint.load(tmp_path / "f.safetensors")
    assert harmless(str(refused.value))


def test_every_message_escapes_its_items():
    assert harmless(message("Fact:", [EVIL], EVIL.replace("\n", "")))


@pytest.mark.parametrize("text", ["", "plain", "ü", "naïve 中文 🧠", "a b"])
def test_what_can_be_printed_stays(text):
    assert printable(text) == text

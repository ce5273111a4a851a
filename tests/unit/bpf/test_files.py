"""The C files one by one: an editor shows no errors, and they are joined in the order they need."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lb.dataplane.dataplane import SOURCES, TRACE_SOURCE
from lb.paths import bpf_dir
from tests.needed import missing

BPF = bpf_dir()
FILES = sorted(path.relative_to(BPF) for path in BPF.rglob("*.[ch]"))
INCLUDE = re.compile(r'^#include "(\w+\.bpf\.c)"$', re.MULTILINE)


def test_there_are_files() -> None:
    assert {Path(name) for name in (*SOURCES, TRACE_SOURCE)} < set(FILES)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_alone_has_neither_errors_nor_warnings(file: Path) -> None:
    """By the flags that editors read (clangd)."""
    clang = shutil.which("clang")
    if clang is None:
        missing("no clang: apt-get install clang")
    command = [clang, "-fsyntax-only", "-Werror", "@compile_flags.txt", str(file)]
    done = subprocess.run(command, cwd=BPF, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_is_joined_after_those_it_includes() -> None:
    """Else the text comes from #include, where bcc does not rewrite map access."""
    for number, name in enumerate(SOURCES):
        wanted = set(INCLUDE.findall((BPF / name).read_text(encoding="ascii")))
        assert wanted <= set(SOURCES[:number]), name
    assert not INCLUDE.findall((BPF / TRACE_SOURCE).read_text(encoding="ascii"))


def test_the_map_of_the_files_names_each_of_them() -> None:
    text = (BPF / "README.md").read_text(encoding="utf-8")
    named = {Path(name) for name in re.findall(r"^\| `([\w/.]+)` \|", text, re.MULTILINE)}
    assert set(FILES) == {path for path in named if path.suffix in {".c", ".h"}}

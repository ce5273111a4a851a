"""lb/abi.py against a C compiler's view of bpf/abi.h, and facts that both sides write down."""

from __future__ import annotations

import re
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from controlplane.domain import bounds, overhead, service_rows
from lb import abi
from lb.paths import bpf_dir
from tests.host_compiler import compile_c
from tests.model import FORWARDER_COUNTERS, REDIRECTOR_COUNTERS


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Every size, offset, constant and hash of lb/abi.py, as a compiled program prints it."""
    folder = tmp_path_factory.mktemp("abi")
    lines = [
        f'printf("%s\\t%llu\\n", "{name}", (unsigned long long)({name}));' for name in abi.layout()
    ]
    source = folder / "probe.c"
    source.write_text(
        '#include <stdio.h>\n#include <stdint.h>\n#include "abi.h"\n'
        "int main(void)\n{\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    )
    program = compile_c(source, folder / "probe")
    printed = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in (line.split("\t") for line in printed.splitlines())}


def test_every_size_offset_constant_and_hash_is_what_the_compiler_says(
    measured: dict[str, int],
) -> None:
    assert measured == abi.layout()


def test_no_struct_and_no_constant_of_the_header_is_missing() -> None:
    text = (bpf_dir() / "abi.h").read_text()
    structs = set(re.findall(r"^struct (lb_\w+) \{", text, re.MULTILINE))
    assert structs == set(abi.STRUCTS)
    enumerators = set(re.findall(r"^\t(LB_[A-Z]\w+)(?: = \d+)?,", text, re.MULTILINE))
    assert len(enumerators) > len(abi.COUNTERS)
    assert enumerators <= set(abi.constants())
    hashes = set(re.findall(r"^#define (LB_\w+)\(", text, re.MULTILINE))
    sampled = set(re.findall(r"LB_\w+(?=\()", " ".join(abi.sample_hashes())))
    assert hashes - sampled == {"LB_IS_MASK", "LB_WRAP_LEN_WITH"}


def test_no_field_of_a_struct_is_missing() -> None:
    text = (bpf_dir() / "abi.h").read_text()
    for name, body in re.findall(r"^struct (lb_\w+) \{\n(.*?)^\};", text, re.MULTILINE | re.DOTALL):
        without_comments = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
        fields = re.findall(r"(\w+)(?:\[[^;]*\])*;", without_comments)
        assert tuple(fields) == abi.STRUCTS[name].names, name


DIGESTS = {4: 0x66A6701D}
"""The layout that the number stands for."""


def test_the_layout_has_another_number_as_soon_as_it_is_another_one() -> None:
    """Another digest than here: raise LB_LAYOUT and abi.LAYOUT by one, and put both here.

    Raise them also when fields change their meaning, which no digest notices. Where only names have
    changed and all numbers are the same, the new digest belongs to the old number.
    """
    numbers = {name: value for name, value in abi.layout().items() if name != "LB_LAYOUT"}
    digest = zlib.crc32(repr(sorted(numbers.items())).encode())
    assert {abi.LAYOUT: digest} == DIGESTS, f"now {digest:#x}"


def test_counters_are_those_of_the_wire_document() -> None:
    assert set(abi.COUNTERS) == FORWARDER_COUNTERS | REDIRECTOR_COUNTERS
    assert len(abi.COUNTERS) == len(set(abi.COUNTERS))


@pytest.mark.parametrize("field", ["sizeof(struct lb_dip)", "LB_CNT_TX_FORWARD"])
def test_a_load_refuses_a_mirror_that_is_wrong(field: str, tmp_path: Path) -> None:
    wrong = abi.static_asserts().replace(f"{field} == ", f"1 + {field} == ")
    source = tmp_path / "wrong.c"
    source.write_text(f'#include "abi.h"\n{wrong}')
    with pytest.raises(AssertionError, match=r"abi\.py has"):
        compile_c(source, tmp_path / "wrong.o", "-c")
    source.write_text(f'#include "abi.h"\n{abi.static_asserts()}')
    compile_c(source, tmp_path / "right.o", "-c")


def test_what_settings_and_documents_may_have_is_what_the_tables_hold() -> None:
    limits = (bounds.MAX_SERVERS, bounds.MAX_SERVICES, bounds.MIN_BUCKETS, bounds.MAX_BUCKETS)
    assert limits == (abi.MAX_DIPS - 1, abi.MAX_SERVICES, abi.MIN_BUCKETS, abi.MAX_BUCKETS)
    assert (bounds.MAX_POOLS, bounds.MAX_DEPTH) == (abi.MAX_POOLS, abi.MAX_DEPTH)


def test_the_controller_counts_the_overhead_that_the_programs_add() -> None:
    """It cannot import lb: one definition in controlplane, held equal to bpf/abi.h here."""
    assert (overhead.WRAP_BYTES, overhead.HOP_BYTES) == (abi.WRAP_LEN, abi.HOP_LEN)
    assert overhead.MAX_HOPS == abi.MAX_HOPS


def test_the_controller_spreads_services_over_rows_as_the_programs_look_them_up() -> None:
    assert service_rows.ROW_WIDTH == abi.SERVICE_WIDTH
    assert service_rows.PORT_KIND == abi.ServiceKind.PORT
    matches = [service_rows.port_match(6, port) for port in (1, 80, 443, 65535)]
    rows = service_rows.rows_under(
        np.array([0x5EED5B], dtype=np.uint64), 11, np.array(matches, dtype=np.uint64)
    )
    wanted = [abi.overflow_row(match, 0x5EED5B, 32 - 11) for match in matches]
    assert rows[0].tolist() == wanted

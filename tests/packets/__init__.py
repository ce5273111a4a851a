"""The catalogue of packet rows: what the page, docs/wire.md, expects of single packets.

A row is written once and runs in three executors: the model (`tests/unit/model/test_rows.py`), the
programs compiled for this machine (`tests/property/test_rows_host.py`) and the programs in the
kernel (`tests/dataplane/test_rows.py`, `test_redirector_rows.py`). Expectations come from the page;
what an executor does is compared with the row first, and then, to the byte, with the model.
"""

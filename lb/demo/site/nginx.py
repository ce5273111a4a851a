"""The web server of the demo: nginx of the distribution, with its own configuration."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path

ACCEPT_LOG = "accepts.log"
ACCEPT_PATH = "/accept/"
HELLO_PATH = "/hello"
HEALTH_PATH = "/health"

CONFIGURATION = """\
# Written by `lbctl demo`.
daemon off;
user root;
worker_processes 1;
pid {base}/nginx.pid;
error_log {base}/error.log warn;
events {{ worker_connections 8192; }}
http {{
    log_format accept '$connection $remote_addr:$remote_port $request_uri';
    access_log off;
    client_body_temp_path {base}/body;
    proxy_temp_path {base}/proxy;
    fastcgi_temp_path {base}/fastcgi;
    uwsgi_temp_path {base}/uwsgi;
    scgi_temp_path {base}/scgi;
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 100000;
    send_timeout 600s;
    default_type application/octet-stream;
    server {{
{listens}
        add_header X-Served-By {name};
        location /files/ {{ alias {files}/; }}
        location {hello} {{ return 200 "{name}\\n"; }}
        location {health} {{ return 200 "well\\n"; }}
        location {accept} {{
            access_log {base}/{accept_log} accept;
            return 200 "{name}\\n";
        }}
    }}
}}
"""


def write_configuration(
    base: Path, name: str, addresses: Iterable[IPv4Address], port: int, files: Path
) -> Path:
    """Write nginx's configuration below `base` and return its path.

    A small send buffer keeps most of a slow download in nginx rather than in the kernel.
    """
    base.mkdir(parents=True, exist_ok=True)
    listens = "\n".join(
        f"        listen {address}:{port} backlog=4096 sndbuf=32k;" for address in addresses
    )
    path = base / "nginx.conf"
    path.write_text(
        CONFIGURATION.format(
            base=base,
            name=name,
            listens=listens,
            files=files,
            hello=HELLO_PATH,
            health=HEALTH_PATH,
            accept=ACCEPT_PATH,
            accept_log=ACCEPT_LOG,
        ),
        encoding="utf-8",
    )
    return path


def command(configuration: Path) -> list[str]:
    """Return the command that runs nginx in the foreground."""
    base = configuration.parent
    return ["nginx", "-p", str(base), "-e", str(base / "error.log"), "-c", str(configuration)]


def accepts(base: Path, nonce: str) -> int:
    """Return how many connections with requests for `/accept/NONCE` this server accepted."""
    path = base / ACCEPT_LOG
    if not path.exists():
        return 0
    wanted = f"{ACCEPT_PATH}{nonce}"
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return len({line[0] for line in lines if line[2] == wanted})

"""URLs of load sources: user and password are kept out of the URL, and so out of messages."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit, urlunsplit


def split_userinfo(url: str) -> tuple[str, tuple[str, str] | None]:
    """Return a URL without its user and password (RFC 3986, section 3.2.1), and these two.

    Of a URL that cannot be read, what is behind its last ``@`` is returned.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.rpartition("@")[2], None
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = userinfo.partition(":")
    return urlunsplit(parts._replace(netloc=host)), (unquote(user), unquote(password))

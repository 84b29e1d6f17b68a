# SPDX-License-Identifier: MIT
"""Which proxy: what URLs, variables and C{NO_PROXY} mean, and that no password is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.errors import ConfigurationError
from gmesh.wire.proxy import Proxies, ProxyAddress, ProxyKind, parse_credentials, parse_proxy_url

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://p.example:3128", ProxyAddress(ProxyKind.HTTP, "p.example", 3128)),
        ("p.example:3128", ProxyAddress(ProxyKind.HTTP, "p.example", 3128)),
        ("http://p.example/", ProxyAddress(ProxyKind.HTTP, "p.example", 8080)),
        ("https://p.example", ProxyAddress(ProxyKind.HTTPS, "p.example", 443)),
        ("socks5://10.0.0.1", ProxyAddress(ProxyKind.SOCKS5, "10.0.0.1", 1080)),
        ("socks5h://[2001:db8::1]:9", ProxyAddress(ProxyKind.SOCKS5, "2001:db8::1", 9)),
        ("http://u:p@h:1", ProxyAddress(ProxyKind.HTTP, "h", 1, ("u", "p"))),
        ("http://u%40x:p%3A%2F%25@h:1", ProxyAddress(ProxyKind.HTTP, "h", 1, ("u@x", "p:/%"))),
        ("http://u:@h:1", ProxyAddress(ProxyKind.HTTP, "h", 1, ("u", ""))),
    ],
)
def test_urls(text: str, proxy: ProxyAddress) -> None:
    """A scheme, perhaps user and password, a host, perhaps a port."""
    assert parse_proxy_url(text) == proxy


@pytest.mark.parametrize(
    "text",
    [
        *("", "http://", "ftp://h:1", "socks4://h:1", "http://h:0", "http://h:65536", "http://h:1/path"),
        *("http://h:1?x", f"http://u:{SECRET}@", f"http://{SECRET}@h:1", f"http://u:{SECRET}@h:x", "h h:1"),
        f"http://u:{SECRET}\n@h:1",
        "http://u:" + SECRET * 400 + "@h:1",
    ],
)
def test_what_is_no_url_is_refused_without_being_repeated(text: str) -> None:
    """There may be a password in it."""
    with pytest.raises(ConfigurationError) as refused:
        parse_proxy_url(text)
    assert SECRET not in str(refused.value) and "\n" not in str(refused.value)


def test_nothing_that_is_shown_has_the_password() -> None:
    """Neither as text nor as Python shows it; the header has it, in Base64 (RFC 7617's own example)."""
    proxy = parse_proxy_url("http://Aladdin:open%20sesame@p:1")
    for shown in (str(proxy), repr(proxy), f"{proxy}"):
        assert "sesame" not in shown and "Aladdin" not in shown
    assert proxy.authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


@given(st.text(), st.text(max_size=300))
def test_credentials(user: str, password: str) -> None:
    """One line, a colon between, 255 bytes each at most; else refused."""
    good = user and ":" not in user and (user + password).isprintable()
    if good and max(len(user.encode()), len(password.encode())) <= 255:
        assert parse_credentials(f"{user}:{password}") == (user, password)
    elif ":" not in user:
        with pytest.raises(ConfigurationError):
            parse_credentials(f"{user}:{password}")


def chosen(
    environment: dict[str, str], host: str, port: int = 443, option: str = "", plain: bool = False
) -> str:
    return str(Proxies(option, environment).choose(host, port, plain) or "direct")


def test_where_a_proxy_is_named() -> None:
    """An option before HTTPS_PROXY before ALL_PROXY, small letters first; C{none} turns all off."""
    named = {"HTTPS_PROXY": "http://b:1", "ALL_PROXY": "http://c:1"}
    assert chosen(named, "h") == "http://b:1"
    assert chosen(named | {"https_proxy": "http://a:1"}, "h") == "http://a:1"
    assert chosen({"ALL_PROXY": "socks5://c"}, "h") == "socks5://c:1080"
    assert chosen(named, "h", option="http://o:1") == "http://o:1"
    assert chosen(named, "h", option="none") == "direct" == chosen({}, "h")
    assert not Proxies("none", named) and not Proxies("", {}) and Proxies("", named)


def test_plain_http_has_a_variable_of_its_own() -> None:
    """HTTP_PROXY in capitals is not read: a request may have set it."""
    named = {"HTTPS_PROXY": "http://b:1", "HTTP_PROXY": "http://evil:1"}
    assert chosen(named, "h", 80, plain=True) == "direct"
    assert chosen(named | {"http_proxy": "http://a:1"}, "h", 80, plain=True) == "http://a:1"
    assert chosen(named, "h", 80, option="http://o:1", plain=True) == "http://o:1"


@pytest.mark.parametrize(
    ("named", "host", "direct"),
    [
        *(
            (text, "a.example.org", True)
            for text in ("example.org", ".example.org", "*.example.org", "x, EXAMPLE.org")
        ),
        *(
            (text, "a.example.org", False)
            for text in ("ample.org", "b.example.org", "", " , ", "example.org:8443")
        ),
        ("example.org:443", "a.example.org", True),
        ("*", "a.example.org", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("[2001:db8::1]:443", "2001:db8::1", True),
        ("[2001:db8::1]:1", "2001:db8::1", False),
        ("2001:db8::1", "2001:db8::1", True),
    ],
)
def test_no_proxy(named: str, host: str, direct: bool) -> None:
    """Hosts with all below them, addresses, networks, perhaps one port."""
    assert (chosen({"HTTPS_PROXY": "http://p:1", "NO_PROXY": named}, host) == "direct") is direct


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "LOCALHOST."])
def test_what_is_on_this_host_is_dialled_directly(host: str) -> None:
    """No proxy leads back here, whatever is named."""
    assert chosen({}, host, option="http://p:1") == "direct"


@given(st.text(), st.text(), st.integers(1, 65535))
def test_any_no_proxy(text: str, host: str, port: int) -> None:
    """Whatever stands there is no error."""
    assert isinstance(chosen({"HTTPS_PROXY": "http://p:1", "no_proxy": text}, host, port), str)


def test_credentials_beside_the_url() -> None:
    """They are for a URL that has none."""
    beside = Proxies("http://p:1", {}, ("u", SECRET)).choose("h", 1)
    within = Proxies("http://a:b@p:1", {}, ("u", SECRET)).choose("h", 1)
    assert beside is not None and within is not None
    assert (beside.credentials, within.credentials) == (("u", SECRET), ("a", "b"))

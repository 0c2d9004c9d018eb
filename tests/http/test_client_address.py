from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from gateway.http.client_address import MAX_REMEMBERED, TrustedProxies, came_through_proxy, network_of

HERE, LAN = "127.0.0.1", ["127.0.0.1", "10.0.0.0/8"]


@pytest.mark.parametrize(
    ("trusted", "peer", "chain", "found"),
    [
        ([], HERE, "203.0.113.9", HERE),
        (LAN, "192.0.2.1", "203.0.113.9", "192.0.2.1"),
        (LAN, HERE, "203.0.113.9", "203.0.113.9"),
        (LAN, HERE, "203.0.113.9, 10.1.2.3", "203.0.113.9"),
        (LAN, HERE, "1.1.1.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        (LAN, HERE, "10.9.9.9, 10.1.2.3", "10.9.9.9"),
        (LAN, HERE, "203.0.113.9, unknown, 10.1.2.3", "10.1.2.3"),
        (LAN, HERE, "", HERE),
        (["::1"], "::1", "2001:db8::7", "2001:db8::7"),
        (LAN, "::ffff:127.0.0.1", "203.0.113.9, ::ffff:10.1.2.3", "203.0.113.9"),
        ([], "::ffff:127.0.0.1", "", HERE),
    ],
)
def test_the_chain_is_followed_as_far_as_trusted_proxies_wrote_it(
    trusted: list[str], peer: str, chain: str, found: str
) -> None:
    headers = HTTPHeaders({"X-Forwarded-For": chain} if chain else {})
    assert TrustedProxies(trusted).origin(peer, "http", headers) == (found, "http")


def test_the_scheme_is_the_one_that_the_last_proxy_names() -> None:
    headers = HTTPHeaders({"X-Forwarded-Proto": "http, https"})
    assert TrustedProxies(LAN).origin(HERE, "http", headers) == (HERE, "https")
    assert TrustedProxies().origin(HERE, "http", headers) == (HERE, "http")
    assert TrustedProxies(LAN).origin(HERE, "http", HTTPHeaders({"X-Forwarded-Proto": "gopher"})) == (HERE, "http")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Via"])
def test_a_proxy_is_recognized_by_its_headers(header: str) -> None:
    assert came_through_proxy(HTTPHeaders({header: "x"}))
    assert not came_through_proxy(HTTPHeaders({"Host": "x"}))


def test_an_address_is_read_once_and_only_so_many_are_kept() -> None:
    network_of.cache_clear()
    assert {network_of("2001:db8::1") for _ in range(1000)} == {"2001:db8::/64"}
    assert network_of.cache_info().misses == 1
    for number in range(MAX_REMEMBERED + 1):
        network_of(f"2001:db8::{number:x}")
    assert network_of.cache_info().currsize == MAX_REMEMBERED

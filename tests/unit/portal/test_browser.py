"""Parsing of a rendered page, messages about it, and the flags that Chromium is started with."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fixtures.environment.schema import PortalTable
from fixtures.outcomes import NoVerdictError
from fixtures.portal import browser
from fixtures.portal.browser import RenderedPage
from fixtures.portal.client import Portal

PORTAL = PortalTable.model_validate(
    {"hostname": "portal.example", "tls_minimum": "TLSv1.2", "certificate_days_left": 1, "auth": "guest"}
)
CATALOG = RenderedPage(
    address="https://portal.example/",
    entities=("component:default/aligner",),
    sign_in=False,
    errors=(),
    text="All Components",
    screenshot=b"",
)
SIGN_IN = replace(CATALOG, entities=(), sign_in=True, text="Guest ENTER")
BLANK = replace(CATALOG, entities=(), text="")


def test_links_to_entities_are_told_from_others() -> None:
    """Menu entries and an entity's sub-pages are not entity links, and each entity counts once."""
    addresses = [
        "https://portal.example/catalog/default/component/Aligner",
        "/catalog/default/component/aligner",
        "https://portal.example/catalog/default/group/pipelines?view=docs",
        "https://portal.example/catalog?filters%5Bkind%5D=component",
        "https://portal.example/catalog/default/component/aligner/docs",
        "https://portal.example/docs",
    ]

    assert browser.entity_refs(addresses) == ("component:default/aligner", "group:default/pipelines")


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (CATALOG, "entities at https://portal.example/: 1, component:default/aligner first"),
        (SIGN_IN, 'a sign-in page at https://portal.example/, "Guest ENTER"'),
        (BLANK, "no entity at https://portal.example/, an empty page"),
        (replace(BLANK, text="Error: x"), 'no entity at https://portal.example/, "Error: x"'),
    ],
    ids=["catalog", "sign-in", "blank", "error"],
)
def test_page_is_told_in_few_words(shown: RenderedPage, text: str) -> None:
    """The text is the one that failure messages quote."""
    assert str(shown) == text


@pytest.mark.parametrize(("auth", "enough"), [("none", False), ("guest", False), ("iap", False), ("bearer", True)])
def test_sign_in_page_is_enough_only_where_nobody_can_be_signed_in(auth: str, *, enough: bool) -> None:
    """A bearer token works for the API but cannot sign a browser in, so only then is the sign-in page enough."""
    assert browser.is_expected(CATALOG, auth)
    assert not browser.is_expected(BLANK, auth)
    assert browser.is_expected(SIGN_IN, auth) is enough
    assert ("sign-in page" in browser.expected_page(auth)) is enough


def test_chromium_is_told_only_what_the_environment_says() -> None:
    """With DNS and a public certificate no flag is added; a pinned address and a private CA's key each add one."""
    public = Portal("portal.example", None, None, 1.0, PORTAL)

    assert browser.chromium_flags(public, "") == [*browser.FLAGS]
    assert browser.chromium_flags(public.at("192.0.2.7"), "a2V5")[len(browser.FLAGS) :] == [
        "--host-resolver-rules=MAP portal.example 192.0.2.7",
        "--ignore-certificate-errors-spki-list=a2V5",
    ]
    assert browser.trusted_key_hash(public) == ""


def test_key_hash_is_that_of_the_public_key() -> None:
    """The hash covers the public key only, so a renewed certificate with the same key has the same hash."""
    key = ec.derive_private_key(7, ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "portal.example")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def certificate(days: int) -> bytes:
        built = x509.CertificateBuilder(name, name, key.public_key(), days, start, start + dt.timedelta(days))
        return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    assert browser.key_hash(certificate(1)) == browser.key_hash(certificate(2))
    # The expected value is the output of:
    # openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64
    assert browser.key_hash(certificate(1)) == "EQhmSc0+XRiSIApCALFlu+pcn5tHyoN5LU+aHvDciSE="


def test_machine_without_a_browser_gives_no_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A missing browser is the prober's problem, not the portal's."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoVerdictError) as failed:
        browser.executable()

    assert str(failed.value) == (
        "expected: Chromium on PATH\n"
        "seen: none of chromium, chromium-browser, google-chrome, google-chrome-stable, "
        "chromium-headless-shell\n"
        "look next: apt install chromium"
    )

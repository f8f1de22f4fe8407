"""The signatures of docs v5/guide, with the reference's test vectors."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from qkt.bybit.transport.signer import BybitSigner
from qkt.errors import InvalidRequestError
from qkt.secret import Secret

KEY = "qktDemoKey0000001"
SECRET = "qktDemoSecret000000000000000000000001"
BODY = (
    '{"category":"spot","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.001","price":"60000",'
    '"timeInForce":"GTC","orderLinkId":"qkt-7f3a-0001"}'
)


@pytest.mark.parametrize(
    ("payload", "signature"),
    [
        (
            "category=spot&symbol=BTCUSDT&orderLinkId=qkt-7f3a-0001",
            "65ea1989153b25db5bc0dff15462a4280b47ad08504913ba327a8facea0e2c4d",
        ),
        ("", "65bf1b95ce67e3cae2e0c879c7caec5cf8cecaaa143489c5aed9dadb54518f8d"),
        (BODY, "39eef30f106ab387546fa446efbfc4063872aee44e5823278d581f8678927253"),
    ],
    ids=["query", "no query", "body"],
)
def test_the_reference_requests_are_signed_as_the_reference_says(payload: Any, signature: str) -> None:
    assert BybitSigner(KEY, SECRET).sign(1767225600123, 5000, payload) == signature


def test_the_reference_login_is_signed_as_the_reference_says() -> None:
    expected = "0445a4cc09a397f5060dfc79f1271a24247e9c42a54b8c384d98323f6a950a70"
    assert BybitSigner(KEY, SECRET).sign_login(1767225610000) == expected


def test_the_headers_repeat_what_was_signed() -> None:
    headers = BybitSigner(Secret(KEY), Secret(SECRET)).headers(1767225600123, 5000, "")
    assert headers == {
        "X-BAPI-API-KEY": KEY,
        "X-BAPI-TIMESTAMP": "1767225600123",
        "X-BAPI-RECV-WINDOW": "5000",
        "X-BAPI-SIGN": "65bf1b95ce67e3cae2e0c879c7caec5cf8cecaaa143489c5aed9dadb54518f8d",
    }


def test_a_signer_shows_neither_key_nor_secret() -> None:
    signer = BybitSigner(KEY, SECRET)
    assert KEY not in f"{signer!r}{signer.api_key}{signer.secrets}"
    assert SECRET not in f"{signer!r}{signer.secrets}{vars(signer)}"


@pytest.mark.parametrize(("key", "secret"), [("", "s"), ("k", ""), ("  ", "s")])
def test_an_empty_key_is_refused(key: str, secret: str) -> None:
    with pytest.raises(InvalidRequestError, match="is empty"):
        BybitSigner(key, secret)


def test_an_rsa_key_signs_pkcs1_v15_in_base64() -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    signer = BybitSigner(KEY, pem)
    signature = base64.b64decode(signer.sign(1, 5000, "a=b"))
    private.public_key().verify(signature, f"1{KEY}5000a=b".encode(), padding.PKCS1v15(), hashes.SHA256())
    assert signer.is_rsa
    assert repr(signer) == "<BybitSigner RSA>"


def test_an_unreadable_rsa_key_is_refused_without_being_quoted() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        BybitSigner(KEY, "-----BEGIN PRIVATE KEY-----\nnonsense-canary\n-----END PRIVATE KEY-----")
    assert "canary" not in str(caught.value)

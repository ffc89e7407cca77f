"""Credentials: which are taken out, and what is left alone."""

from __future__ import annotations

import random
import re
from typing import Any

import polars as pl
import pytest
from budget import at_most

from loaders.redact import (
    CREDENTIAL,
    REDACTED,
    is_secret_key,
    may_hold_credentials,
    redact_column,
    redact_object,
    redact_text,
)
from loaders.values import as_json

A = "Ab1" * 30
SECRETS = {
    "openai": f"sk-{A[:48]}",
    "openai project": f"sk-proj-{A[:60]}",
    "anthropic": f"sk-ant-api03-{A[:60]}",
    "openrouter": f"sk-or-v1-{'0a' * 32}",
    "langfuse": "sk-lf-0a0a0a0a-1b1b-2c2c-3d3d-4e4e4e4e4e4e",
    "aws": "AKIA" + "A1B2" * 4,
    "github": f"ghp_{A[:36]}",
    "github fine": f"github_pat_{A[:70]}",
    "gitlab": f"glpat-{A[:20]}",
    "hugging face": f"hf_{A[:34]}",
    "slack": f"xoxb-{'1234567890' * 3}",
    "google": f"AIza{A[:35]}",
    "google oauth": f"ya29.{A[:60]}",
    "groq": f"gsk_{A[:52]}",
    "xai": f"xai-{A[:80]}",
    "perplexity": f"pplx-{A[:48]}",
    "langsmith": f"lsv2_pt_{'0a' * 16}_{'1b' * 5}",
    "stripe": f"sk_live_{A[:24]}",
    "npm": f"npm_{A[:36]}",
    "sendgrid": f"SG.{A[:22]}.{A[:43]}",
    "token": f"eyJ{A[:20]}.eyJ{A[:30]}.{A[:40]}",
    "key file": f"-----BEGIN RSA PRIVATE KEY-----\n{A}\n{A}\n-----END RSA PRIVATE KEY-----",
    "key with a header": f"-----BEGIN EC PRIVATE KEY-----\nDEK-Info: AES-128-CBC\n\n{A}\n"
    "-----END EC PRIVATE KEY-----",
}
HARMLESS = [
    "risk-averse task-force desk-bound",
    "https://example.org/sk-short-slug",
    "pip install scikit-learn sk-learn",
    "ghp_short hf_model AIzaShort",
    "SG.1.2 and eyJust a word",
    "the PRIVATE matter",
    "AKIA is a prefix",
    "the line -----BEGIN PRIVATE KEY----- begins a key, -----END PRIVATE KEY----- ends it",
]


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize(
    "text", ["{}", "export KEY={}\n", '{{"key": "{}"}}', "naïve – {} ünd more"]
)
def test_keys_of_known_providers_are_taken_out_of_any_text(secret: str, text: str) -> None:
    planted = text.format(secret)
    expected = text.format(REDACTED)
    assert redact_text(planted) == (expected, 1)
    column, rows = redact_column(pl.Series([None, "before", planted, "after"]))
    assert column.to_list() == [None, "before", expected, "after"]
    assert rows.to_list() == [2]
    assert redact_object({"a": [{"b": planted}]}) == ({"a": [{"b": expected}]}, 1)


@pytest.mark.parametrize("text", HARMLESS)
def test_words_that_only_begin_alike_are_left(text: str) -> None:
    assert redact_text(text) == (text, 0)
    column, rows = redact_column(pl.Series([text]))
    assert (column.to_list(), len(rows)) == ([text], 0)


def test_both_engines_agree_on_the_pattern() -> None:
    texts = [*SECRETS.values(), *HARMLESS, *(f"x{secret}" for secret in SECRETS.values())]
    _, rows = redact_column(pl.Series(texts))
    assert rows.to_list() == [i for i, text in enumerate(texts) if re.search(CREDENTIAL, text)]


@pytest.mark.parametrize(
    "key",
    [
        "api_key",
        "apiKey",
        "OPENAI_API_KEY",
        "openaiApiKey",
        "api-key",
        "x-api-key",
        "client_secret",
        "AWS_SECRET_ACCESS_KEY",
        "accessToken",
        "refresh_token",
        "Authorization",
        "password",
        "db_password",
        "token",
        "Token",
        "hf_token",
        "GITHUB_TOKEN",
        "Cookie",
        "private_key",
        "secret",
    ],
)
def test_what_stands_under_a_telling_key_is_taken_out(key: str) -> None:
    assert is_secret_key(key)
    assert redact_object({"x": {key: "hunter2"}}) == ({"x": {key: REDACTED}}, 1)
    assert redact_object({key: ["a", "b", ""]}) == ({key: [REDACTED, REDACTED, ""]}, 2)


@pytest.mark.parametrize(
    "key",
    [
        "max_tokens",
        "input_tokens",
        "tokenizer",
        "token_count",
        "stop_token_ids",
        "passwords_tried",
        "keyboard",
        "author",
        "secretary",
        "cookie_count",
        "monkey",
    ],
)
def test_other_keys_are_left(key: str) -> None:
    assert not is_secret_key(key)
    assert redact_object({key: "value"}) == ({key: "value"}, 0)


def test_what_is_no_text_is_left() -> None:
    value = {"api_key": None, "password": 5, "secret": True, "token": {"kind": "bearer"}}
    assert redact_object(value) == (value, 0)


def test_settings_lose_users_in_addresses_and_bearers() -> None:
    value = {
        "url": "postgres://me:pw@host/db",
        "headers": "Authorization: Bearer abcdefghijkl.mnopqr",
    }
    clean, count = redact_object(value)
    assert count == 2
    assert clean["url"] == f"postgres://{REDACTED}@host/db"
    assert clean["headers"] == f"Authorization: Bearer {REDACTED}"


def test_megabytes_without_credentials_cost_little() -> None:
    column = pl.Series(["the task is at risk-free " * 400] * 3_000)  # 30 MB with a mark in each row
    with at_most(3):
        assert len(redact_column(column)[1]) == 0


@pytest.mark.parametrize(
    "piece", ["-----BEGIN PRIVATE KEY-----", "sk-ant", "eyJaaaa-", "xoxb-", "a://b:"]
)
def test_hostile_texts_cost_linear_time(piece: str) -> None:
    hostile = piece * (1_000_000 // len(piece))
    with at_most(3):
        redact_column(pl.Series([hostile]))
        redact_object({"text": hostile})


KEYS = (
    *("apiKey", "API_KEY", "secret", "token", "token\n", "accessToken", "set-cookie", "cookies"),
    *("connection-string", "connectionString", "pa\u017fsword", "\u212aey", "api_\u212aey"),
    *("credent\u0131als", "CREDENT\u0130ALS", "max_tokens", "a", "content", 'text "token":'),
)
BEFORE = (
    "",
    " ",
    "\n",
    "\t",
    '"',
    "\\",
    "n",
    "\u00e9",
    "\x01",
    "x://u:",
    "https://u:p@",
    "Bearer ",
    "\nbearer ",
)


def test_where_no_credential_may_be_none_is_found() -> None:
    rng, found, spared = random.Random(0), 0, 0
    texts = [*SECRETS.values(), *HARMLESS, "plain", "s3cr3t@host/x", "c2VjcmV0LXRva2Vu" * 2]

    def some(depth: int) -> Any:
        kind = rng.randrange(5 if depth else 3)
        if kind == 3:
            return [some(depth - 1) for _ in range(rng.randrange(3))]
        if kind == 4:
            return {rng.choice(KEYS): some(depth - 1) for _ in range(rng.randrange(3))}
        text = rng.choice(texts[-3:] if rng.random() < 0.6 else texts)
        return rng.choice([None, 7, True, "", rng.choice(BEFORE) + text, text + rng.choice(BEFORE)])

    for _ in range(700):
        value = {"a": some(2), rng.choice(KEYS[-5:]): some(1)}
        clean, count = redact_object(value)
        if may_hold_credentials(as_json(value) or ""):
            found += count > 0
        else:
            assert (clean, count) == (value, 0)
            spared += 1
    assert found > 100
    assert spared > 100

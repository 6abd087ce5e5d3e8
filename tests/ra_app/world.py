"""Helpers for the tests of the RA app: clips as the pipeline stores them, users, and a visitor's browser."""

from __future__ import annotations

import html
import io
import json
import math
import re
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import av
import boto3
import numpy as np
import psycopg2
import psycopg2.errors
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.models import DEFAULT_STUDY, Study, db
from app.people import accounts
from app.reviewing import claims
from app.studies import take_up
from local.services import Services

HIDDEN = ("submission_key", "slot", "codebook_version", "base_label", "transcript_id", "classification_ids")
PASSWORD = "correct horse battery"
QUICK = {"compression_level": "0", "frame_duration": "60"}  # encoding is no part of what is tested
RATE = 48_000  # Opus knows no other clock
ENCODED_S = 30  # of a longer tone
# Names that stand nowhere else, so that one byte of them in an answer is a leak.
POLICY = "policy-zeta-7f3"
SCORE = 0.987654321


def tone(seconds: float, hertz: float = 440.0) -> bytes:
    """A sine tone as Ogg/Opus. A long one repeats the packets of its first seconds: encoding it would take long."""
    buffer = io.BytesIO()
    once = min(seconds, ENCODED_S)
    samples = (0.2 * 32767 * np.sin(2 * math.pi * hertz * np.arange(int(RATE * once)) / RATE)).astype(np.int16)
    with av.open(buffer, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono", bit_rate=32_000, options=QUICK)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        packets = [*stream.encode(frame), *stream.encode(None)]
        for round_ in range(math.ceil(seconds / once)):
            for packet in packets:
                again = av.Packet(bytes(packet))
                again.stream, again.time_base, again.duration = stream, packet.time_base, packet.duration
                again.pts = again.dts = packet.pts + round_ * int(RATE * once)
                container.mux(again)
    return buffer.getvalue()


class World:
    """The database and the bucket, as an administrator sees them."""

    def __init__(self, app: Flask, admin_dsn: str, services: Services, bucket: str) -> None:
        self.app = app
        self.bucket = bucket
        self._connection = psycopg2.connect(admin_dsn, options="-c search_path=public,ra_app")
        self._connection.autocommit = True
        self._s3 = boto3.client(
            "s3",
            endpoint_url=services.s3_endpoint,
            aws_access_key_id=services.s3_access_key,
            aws_secret_access_key=services.s3_secret_key,
            region_name="us-east-1",
        )

    def close(self) -> None:
        self._connection.close()
        self._s3.close()

    def sql(self, query: str, *values: Any, **named: Any) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query, values or named or None)
            return cursor.fetchall() if cursor.description else []

    def empty(self) -> None:
        """Empty every table but the default study. `replica`: without the triggers that keep what is only added to."""
        self.sql("SET session_replication_role = replica")
        self._truncate()
        self.sql("DELETE FROM ra_studies WHERE name <> %s", DEFAULT_STUDY)
        self.sql("SET session_replication_role = origin")
        self.study(mode="reveal", state="open", coders_per_item=1, shows=[], lease_s=900, settings="{}")
        self.study(codebook_id=None, codebook_version=None, shares_exposure=False, everybody=True, policies=[])
        self.app.extensions["ra"].codebook_published.clear()
        self.app.extensions["ra"].logged.clear()
        self.study(head_audio_id=0, round_audio_id=0, taken_up_at=None)

    def _truncate(self) -> None:
        """A request of a browser that was closed just now may still be at work: then Postgres ends this statement."""
        for left in range(5, -1, -1):
            try:
                self.sql(
                    "TRUNCATE batches, ra_users, ra_items, ra_codebooks, ra_login_attempts RESTART IDENTITY CASCADE"
                )
            except psycopg2.errors.DeadlockDetected:
                if not left:
                    raise
            else:
                return

    def study(self, **settings: Any) -> None:
        """Change the default study."""
        columns = ", ".join(f"{name} = %s" for name in settings)
        self.sql(f"UPDATE ra_studies SET {columns} WHERE name = %s", *settings.values(), DEFAULT_STUDY)

    def add_user(self, username: str = "mira", password: str = PASSWORD, role: str = "ra") -> int:
        with self.app.app_context():
            return accounts.create_user(username, password, role).user_id

    def add_clip(
        self,
        *,
        audio: bytes | None = None,
        violates: bool = True,
        score: float = SCORE,
        filename: str | None = None,
        segments: Sequence[Mapping[str, Any]] | None = None,
        doubts: Sequence[str] | None = None,
    ) -> int:
        """Add a clip that the pipeline has finished, flagged by default. If audio is given, store it in S3.

        With `doubts`, the keys of reasons, its transcript is doubtful.
        """
        batch = "20261120-103000-a1b2c3"
        self.sql("INSERT INTO batches (batch_id) VALUES (%s) ON CONFLICT DO NOTHING", batch)
        audio_id: int = self.sql(
            "INSERT INTO audio_files (batch_id, original_filename, status, duration_s, processed_at) "
            "VALUES (%s, %s, 'done', 30, '2026-11-20T12:00:00Z') RETURNING audio_id",
            batch,
            filename or f"clip-{secrets.token_hex(6)}.m4a",
        )[0][0]
        key = f"processed/2026-11-20/{audio_id}-{secrets.token_hex(6)}.opus"  # the bucket outlives the database
        self.sql("UPDATE audio_files SET s3_opus_path = %s WHERE audio_id = %s", key, audio_id)
        if audio is not None:
            self.put(key, audio)
        said = segments if segments is not None else SENTENCES
        transcript_id = self.sql(
            "INSERT INTO transcripts (audio_id, model, text, language, segments, speech_s, no_speech, finding, "
            "reasons) VALUES (%s, 'large-v3', 'So listen.', 'en', %s, 28, false, %s, %s) RETURNING transcript_id",
            audio_id,
            json.dumps(said),
            "speech" if doubts is None else "doubtful",
            list(doubts or ()),
        )[0][0]
        self.classify(audio_id, transcript_id, violates=violates, score=score)
        return audio_id

    def classify(
        self, audio_id: int, transcript_id: int, *, violates: bool, score: float = SCORE, version: str = "1.0.0"
    ) -> None:
        self.sql(
            "INSERT INTO classifications (audio_id, transcript_id, policy, policy_version, policy_sha256, model, "
            "prompt_version, violates, score, threshold, mass, truncated) "
            "VALUES (%s, %s, %s, %s, 'abc', 'model-omega-9', '1', %s, %s, 0.4321, 1, false)",
            audio_id,
            transcript_id,
            POLICY,
            version,
            violates,
            score,
        )

    def unflag(self, audio_id: int, *, violates: bool = False, version: str = "2.0.0") -> None:
        """Judge the clip again, so that it is not flagged any more; or, with `violates`, flag it again."""
        transcript = self.sql("SELECT transcript_id FROM transcripts WHERE audio_id = %s", audio_id)[0][0]
        self.classify(audio_id, transcript, violates=violates, score=0.9 if violates else 0.1, version=version)

    def put(self, key: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=body)


SENTENCES = (
    {"start": 0.0, "end": 2.9, "text": " So everybody keeps asking me.", "avg_logprob": -0.7071},
    {"start": 3.0, "end": 5.9, "text": " Listen <b>closely</b>.", "avg_logprob": -0.7071},
    {"start": 6.0, "end": 9.0, "text": " That is all.", "avg_logprob": -0.7071},
)


class Visitor:
    """A test client that keeps cookies and sends the CSRF token of forms, as a browser does."""

    def __init__(self, app: Flask, address: str = "192.0.2.7") -> None:
        self.app = app
        self.username = ""
        self.client: FlaskClient = app.test_client()
        self.address = {"REMOTE_ADDR": address}

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, environ_base=self.address, **options)

    def post(self, path: str, form: Mapping[str, Any] | None = None, **options: Any) -> TestResponse:
        data = {"csrf_token": self.token(), **(form or {})}
        return self.client.post(path, data=data, environ_base=self.address, **options)

    def token(self) -> str:
        page = self.get("/account")
        return field(page if page.status_code == 200 else self.get("/login"), "csrf_token")

    def log_in(self, username: str = "mira", password: str = PASSWORD, **options: Any) -> TestResponse:
        self.username = username.strip().lower()
        return self.post("/login", {"username": username, "password": password}, **options)

    def claim(self) -> int | None:
        """Press “Next clip”, and return the clip that opens."""
        to = self.post("/next").location or ""
        return int(to.removeprefix("/review/")) if to.startswith("/review/") else None

    def hold(self, audio_id: int) -> Visitor:
        """Let this visitor hold this very clip, whatever the order of clips is."""
        hold(self.app, self.username, audio_id)
        return self

    def form(self, audio_id: int) -> dict[str, Any]:
        """The hidden fields of the clip's page."""
        page = self.get(f"/review/{audio_id}")
        return {name: field(page, name) for name in HIDDEN}

    def label(self, audio_id: int, *codes: str, **form: Any) -> TestResponse:
        """Hold the clip, open it and send its form, as the page would."""
        if self.get(f"/review/{audio_id}").status_code == 404:
            self.hold(audio_id)
        return self.post(f"/review/{audio_id}", {**self.form(audio_id), "label": list(codes), **form})


def at_once(*forms: tuple[Visitor, str, Mapping[str, Any]]) -> list[int]:
    """Send these forms at the same moment, and return the status codes in order."""
    ready = [(browser, path, {"csrf_token": browser.token(), **form}) for browser, path, form in forms]
    start = Barrier(len(ready))

    def send(n: int) -> int:
        browser, path, form = ready[n]
        start.wait()
        return browser.client.post(path, data=form, environ_base=browser.address).status_code

    with ThreadPoolExecutor(len(ready)) as pool:
        return list(pool.map(send, range(len(ready))))


def hold(app: Flask, username: str, audio_id: int) -> None:
    with app.app_context():
        for study_id in db.session.scalars(sa.select(Study.study_id)).all():
            while not take_up.take_up(study_id):
                pass
        user = accounts.find_user(username)
        assert user is not None
        assert claims.take(user.user_id, audio_id), f"{username} cannot have clip {audio_id}"


def listed(page: str) -> list[int]:
    """The clips of a list on the queue page, in order."""
    return [
        int(number)
        for number in re.findall(r'class="act">\s*<(?:a href|form method="post" action)="/review/(\d+)', page)
    ]


def field(page: TestResponse, name: str) -> str:
    match = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert match is not None, f"no field {name} in {page.request.path}: {page.text[:500]}"
    return html.unescape(match[1])

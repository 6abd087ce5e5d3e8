"""The objects that all views share. The app makes them once per process."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from flask import current_app

from app.codebooks.codebook import Codebook
from app.people.sign_on import Rules
from app.storage import AudioStore

if TYPE_CHECKING:
    from app.people.provider import Provider


@dataclass(frozen=True, kw_only=True)
class State:
    codebook: Codebook
    audio: AudioStore
    logged: set[str] = field(default_factory=set)  # wrong values in the database that were logged already
    provider: Provider | None = None  # of single sign-on
    sign_on: Rules | None = None
    codebook_published: Event = field(default_factory=Event)  # the database has the codebook with this content


def state() -> State:
    shared: State = current_app.extensions["ra"]
    return shared

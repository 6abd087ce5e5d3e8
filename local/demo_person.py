"""Somebody who uses the RA app over HTTP: opens pages, fills in forms and sends them, as a browser without scripts.

A form is sent with all that the page has filled in, so that what is not named stays as the page has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

TIMEOUT_S = 60.0

Values = Mapping[str, str | Sequence[str]]


class PersonError(RuntimeError):
    """A page did not answer as this person expected."""


@dataclass
class Form:
    """A form of a page, with what is filled in."""

    action: str
    fields: dict[str, list[str]] = field(default_factory=dict)

    def filled(self, values: Values) -> dict[str, list[str]]:
        given = {name: [value] if isinstance(value, str) else list(value) for name, value in values.items()}
        return {**self.fields, **given}


class Person:
    """A session of one account. Use it in a `with` statement."""

    def __init__(self, address: str, username: str, password: str) -> None:
        self.username = username
        self._client = httpx.Client(base_url=address.rstrip("/"), follow_redirects=True, timeout=TIMEOUT_S)
        self.submit("/login", "/login", {"username": username, "password": password})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def open(self, path: str) -> httpx.Response:
        """Return the page at this path.

        Raises
        ------
        PersonError
            The answer is no page: a status of 400 or more.
        """
        return self._checked(self._client.get(path))

    def submit(self, path: str, action: str, values: Values | None = None) -> httpx.Response:
        """Send the form of the page at `path` that goes to the path `action`, and return the page that follows.

        Raises
        ------
        PersonError
            The page has no such form, or the answer has a status of 400 or more.
        """
        page = self.open(path)
        form = next((form for form in forms(page.text) if urlsplit(form.action or path).path == action), None)
        if form is None:
            raise PersonError(f"{page.url} has no form to {action}")
        query = urlsplit(form.action).query
        target = action + (f"?{query}" if query else "")
        return self._checked(self._client.post(target, data=form.filled(values or {})))

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code >= httpx.codes.BAD_REQUEST:
            said = " ".join(problems(answer.text)) or answer.text[:200]
            raise PersonError(f"{answer.request.method} {answer.url} answered {answer.status_code}: {said}")
        return answer


def forms(page: str) -> list[Form]:
    """Return the forms of a page, in their order."""
    reader = _FormReader()
    reader.feed(page)
    return reader.forms


def problems(page: str) -> list[str]:
    """Return what the page says in its alerts."""
    reader = _FormReader()
    reader.feed(page)
    return [" ".join(text.split()) for text in reader.alerts if text.strip()]


class _FormReader(HTMLParser):
    """Reads the forms of a page: inputs, choices and texts with the values that are filled in."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.alerts: list[str] = []
        self._inside = False
        self._select = ""
        self._first_option: str | None = None
        self._text: str | None = None  # the name of the text area that is open
        self._alert = ""  # the tag of the alert that is open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if given.get("role") == "alert":
            self._alert = tag
            self.alerts.append("")
        if tag == "form":
            self.forms.append(Form(given.get("action", "")))
            self._inside = True
        elif self._inside and tag == "input":
            self._input(given)
        elif self._inside and tag == "select":
            self._select, self._first_option = given.get("name", ""), None
        elif self._inside and tag == "option" and self._select:
            value = given.get("value", "")
            self._first_option = value if self._first_option is None else self._first_option
            if "selected" in given:
                self._add(self._select, value)
        elif self._inside and tag == "textarea":
            self._text = given.get("name", "")
            self._add(self._text, "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
        elif tag == "textarea":
            self._text = None
        elif tag == "select" and self._select:
            if self._select not in self.forms[-1].fields and self._first_option is not None:
                self._add(self._select, self._first_option)
            self._select = ""
        if tag == self._alert:
            self._alert = ""

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            written = self.forms[-1].fields[self._text]
            written[-1] += data if written[-1] else data.removeprefix("\n")
        if self._alert:
            self.alerts[-1] += data

    def _input(self, given: dict[str, str]) -> None:
        kind, name = given.get("type", "text"), given.get("name", "")
        unchosen = kind in {"checkbox", "radio"} and "checked" not in given
        if name and kind not in {"submit", "button", "file"} and not unchosen and "disabled" not in given:
            self._add(name, given.get("value", "on" if kind == "checkbox" else ""))

    def _add(self, name: str, value: str) -> None:
        self.forms[-1].fields.setdefault(name, []).append(value)

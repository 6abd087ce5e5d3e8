"""The pages of one study, as tabs above each of them. Every one is a view of a study's number, for leads."""

from __future__ import annotations

from flask import Flask

TABS = (("studies.show", "Overview"),)  # endpoint and title, in the order in which they stand


def add_tabs(app: Flask) -> None:
    app.jinja_env.globals["study_tabs"] = TABS

"""The commands `flask studies …`: what studies there are, and how they protect people from the clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
import sqlalchemy as sa
from flask.cli import AppGroup

from app import wellness
from app.commands import clear_errors
from app.models import Study, db
from app.wellness import KEY, Wellness
from app.wellness_values import NONE, OF_STUDY, WellnessError, read

DEFAULT = "default"  # how a value that is not set (any more) is written

studies = AppGroup("studies", help="List the studies, and change how they protect people from the clips.")


@studies.command("list")
@clear_errors
def list_() -> None:
    """List the studies with their wellness values."""
    for study in db.session.scalars(sa.select(Study).order_by(Study.study_id)):
        click.echo(f"{study.name} ({study.state})")
        given = _given(study)
        for key, value in asdict(wellness.of_study(study)).items():
            click.echo(f"  {KEY}.{key}={_text(value)}" + ("" if key in given else f"  ({DEFAULT})"))


@studies.command("set")
@click.argument("name")
@click.argument("changes", nargs=-1, required=True, metavar=f"{KEY}.KEY=VALUE...")
@clear_errors
def set_(name: str, changes: tuple[str, ...]) -> None:
    """Change wellness values of the study NAME. VALUE may be "none" (no limit) or "default"."""
    study = db.session.scalar(sa.select(Study).where(Study.name == name).with_for_update())
    if study is None:
        raise click.ClickException(f"There is no study named “{name}”. `flask studies list` shows all studies.")
    before = wellness.of_study(study)
    try:
        given = _changed(study, changes)
    except WellnessError as error:
        db.session.rollback()
        raise click.ClickException(f"Study “{name}”: {error} Nothing is changed.") from error
    study.settings = {**(study.settings if isinstance(study.settings, dict) else {}), KEY: given}
    after = wellness.of_study(study)
    db.session.commit()
    was, now = asdict(before), asdict(after)
    for key in OF_STUDY:
        if was[key] != now[key]:
            click.echo(f"{KEY}.{key}: {_text(was[key])} -> {_text(now[key])}")
    if before == after:
        click.echo("Nothing is changed: these values were in force already.")


def _given(study: Study) -> dict[str, Any]:
    """Return what the study itself sets and what counts of it, so that wrong values go when others are set."""
    in_force = asdict(wellness.of_study(study))
    whole: Any = study.settings
    given = whole.get(KEY) if isinstance(whole, Mapping) else None
    set_here = given if isinstance(given, Mapping) else {}
    return {key: value for key, value in in_force.items() if key in set_here and OF_STUDY[key].accepts(set_here[key])}


def _changed(study: Study, changes: tuple[str, ...]) -> dict[str, Any]:
    """Return the study's own values with these changes.

    Raises
    ------
    WellnessError
        Says which change is not possible, and what is.
    """
    given = _given(study)
    for change in changes:
        name, equals, text = change.partition("=")
        key = name.removeprefix(f"{KEY}.")
        if not equals or key == name or key not in OF_STUDY:
            known = ", ".join(f"{KEY}.{each}" for each in OF_STUDY)
            raise WellnessError(f"“{change}” is not a change. Write KEY=VALUE; keys are {known}.")
        if text == DEFAULT:
            given.pop(key, None)
            continue
        try:
            given[key] = read(OF_STUDY[key], text)
        except ValueError:
            raise WellnessError(f"{name} is “{text}”, but it must be {OF_STUDY[key].allowed}.") from None
    _check_order(given)
    return given


def _check_order(given: Mapping[str, Any]) -> None:
    limits = Wellness(**given)
    soft, hard = limits.soft_minutes, limits.hard_minutes
    if soft is not None and hard is not None and soft > hard:
        raise WellnessError(
            f"{KEY}.soft_minutes is {soft} and {KEY}.hard_minutes {hard}, but people must be told before they are "
            f"stopped: set both, for example {KEY}.soft_minutes={max(1, hard - 15)} {KEY}.hard_minutes={hard}."
        )


def _text(value: Any) -> str:
    if value is None:
        return NONE
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)

"""`audio-pipeline policy diff` and `policy rescore`: policies and the stored transcripts."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from commands.context import Context, cell, counted
from commands.options import AsJson, DryRun, Yes
from commands.policy import TEXT_CHARS, bar, known_policy, load_scorer
from config import Settings
from db import Sample, Selection, WantedResults, judging
from errors import RefusedError, UnknownError
from moderation.policies import Policy, load_policies
from policy_lab import rescoring
from policy_lab.comparing import Comparison, Group, compare

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_VERSION = re.compile(r"\d+\.\d+\.\d+")

Batch = Annotated[str | None, typer.Option("--batch", metavar="BATCH", help="Only clips of this batch.")]
Since = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="Only clips processed on this day (UTC) or later."),
]


def add_to(app: typer.Typer) -> None:
    app.command("diff")(diff)
    app.command("rescore")(rescore)


def diff(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="POLICY", help="The id of the policy.")],
    *,
    new: Annotated[str, typer.Option(metavar="FILE", help="The policy file of the new version.")],
    old: Annotated[
        str | None,
        typer.Option(
            metavar="FILE_OR_VERSION",
            help="A policy file, or a version like 1.0.0 whose stored verdicts are used; default: the installed file.",
        ),
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="How many transcripts to score.")] = 200,
    show: Annotated[int, typer.Option(min=0, help="How many changes to show.")] = 20,
    batch: Batch = None,
    since: Since = None,
    as_json: AsJson = False,
) -> None:
    """Score a sample of the stored transcripts under two versions of a policy, and show what would change.

    Half of the sample are clips that the policy flags now, if there are so many. Nothing is stored.

    For example:

    - `audio-pipeline policy diff hate-speech --new drafts/hate-speech.md`

    - `audio-pipeline policy diff hate-speech --old 1.0.0 --new drafts/hate-speech.md --sample 1000`
    """
    context: Context = ctx.obj
    settings = context.settings
    by_version = old is not None and _VERSION.fullmatch(old) is not None
    before = None if by_version else _of_policy(settings, old or name, name)
    after = _of_policy(settings, new, name)
    judge = judging(settings)
    chosen = context.archive.sample(
        name, _selection(context, batch, since), sample, WantedResults.of("", judge, (), settings),
        (str(old), judge.name, judge.prompt_version) if by_version else None,
    )  # fmt: skip
    size = len(chosen.flagged) + len(chosen.others)
    if not size:
        what = f"with a verdict of {name} {old} by {judge.name}" if by_version else "with speech"
        raise RefusedError(f"there is no stored transcript {what}, so there is nothing to compare")
    scorer = load_scorer(context, settings)
    with bar(context, "score", size * (1 if by_version else 2)) as advance:
        found = compare(scorer, before, after, chosen, advance)
    old_version = before.version if before else str(old)
    if as_json:
        context.json(_comparison_json(found, old_version, after))
    else:
        _show_comparison(context, found, f"{name} {old_version} -> {after.version} by {scorer.name}", chosen, show)


def rescore(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="POLICY", help="Ids of policies in `POLICIES_DIR`; default: all."),
    ] = None,
    *,
    batch: Batch = None,
    not_judged: Annotated[
        bool,
        typer.Option("--not-judged", help="The clips that were not judged because of their language, and no others."),
    ] = False,
    since: Since = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Judge stored transcripts by the policies and the model of now. The audio is not needed.

    Clips that have the current verdicts already are left out: those of this version and text of the policy, this model,
    prompt and threshold. The new verdicts are in force at once. After Ctrl-C all that was done so far is stored; the
    same command continues.

    Workers go on meanwhile. The moderation model is loaded a second time: on a GPU host, see that it has room.

    For example:

    - `audio-pipeline policy rescore --dry-run`

    - `audio-pipeline policy rescore hate-speech --since 2026-11-01 --yes`

    - `audio-pipeline policy rescore --not-judged`
    """
    context: Context = ctx.obj
    settings = context.settings
    policies = _installed(settings, names)
    selection = _selection(context, batch, since, not_judged=not_judged)
    planned = rescoring.plan(context.archive, judging(settings), policies, selection, settings)
    if not planned.clips:
        context.say("No clip was recorded as not judged." if not_judged else "Every clip has the current verdicts.")
        return
    _show_plan(context, planned, policies)
    if dry_run:
        return
    context.confirm(f"Judge {counted(planned.clips, 'clip')} again?", yes=yes)
    subject = ", ".join(f"{policy.id}@{policy.version}" for policy in policies)
    context.archive.record_policies(policies, settings.policies_dir)  # refuses a text edited without a new version
    details = {"batch": batch, "since": since and since.date().isoformat(), "not_judged": not_judged}
    done = rescoring.Progress()
    try:
        scorer = load_scorer(context, settings)
        with (
            context.change("policy rescore", subject, planned.clips, {**details, "model": scorer.name}) as change,
            bar(context, "judge", planned.clips) as advance,
        ):
            shown = 0

            def report() -> None:
                nonlocal shown
                change.affected = done.clips
                advance(done.clips + done.left_out - shown)
                shown = done.clips + done.left_out

            rescoring.rescore(context.archive, scorer, policies, selection, settings, done, report)
    except KeyboardInterrupt:
        context.fail(
            f"stopped; {counted(done.clips, 'clip')} done, each with all its verdicts; the same command continues",
            INTERRUPTED,
        )
    _show_done(context, done)


def _of_policy(settings: Settings, given: str, name: str) -> Policy:
    policy = known_policy(settings, given)
    if policy.id != name:
        raise RefusedError(f"{given} is the policy {policy.id}, not {name}; two versions of one policy are compared")
    return policy


def _installed(settings: Settings, names: list[str] | None) -> list[Policy]:
    policies = {policy.id: policy for policy in load_policies(settings.policies_dir)}
    if unknown := [name for name in names or () if name not in policies]:
        raise UnknownError(
            f"{settings.policies_dir} has no policy {unknown[0]}; there are {', '.join(policies)}. Only policies that "
            "workers use can be stored"
        )
    return [policies[name] for name in dict.fromkeys(names or policies)]


def _selection(context: Context, batch: str | None, since: datetime | None, *, not_judged: bool = False) -> Selection:
    if batch is not None and context.db.batch(batch) is None:
        raise UnknownError(f"Postgres knows no batch {batch}; audio-pipeline batch list shows those that it knows")
    return Selection(batch, since and since.replace(tzinfo=UTC), not_judged)


def _show_plan(context: Context, planned: rescoring.Plan, policies: list[Policy]) -> None:
    for policy in policies:
        context.say(f"{policy.id}@{policy.version}: {counted(planned.by_policy[policy.id], 'clip')} to judge")
    languages = ", ".join(f"{language} {count:,}" for language, count in sorted(planned.by_language.items()))
    context.say(f"{counted(planned.clips, 'clip')} in all; languages: {languages}")


def _show_done(context: Context, done: rescoring.Progress) -> None:
    context.say(f"{counted(done.clips, 'clip')} judged again")
    for policy in sorted(done.newly_flagged.keys() | done.no_longer_flagged.keys()):
        more, less = done.newly_flagged.get(policy, 0), done.no_longer_flagged.get(policy, 0)
        context.say(f"{policy}: {counted(more, 'clip')} newly flagged, {less:,} no longer flagged")
    if done.left_out:
        context.say(f"{counted(done.left_out, 'clip')} left out: a worker has transcribed them anew meanwhile")


def _show_comparison(context: Context, found: Comparison, title: str, chosen: Sample, show: int) -> None:
    table = Table("CLIP", "OLD", "NEW", "CHANGE", "TEXT", box=None, pad_edge=False)
    for change in found.changes[:show]:
        table.add_row(
            str(change.transcript.audio_id), f"{change.old_score:.4f}", f"{change.new_score:.4f}",
            "newly flagged" if change.flagged else "no longer", cell(change.transcript.text, TEXT_CHARS),
        )  # fmt: skip
    if found.changes and show:
        context.console.print(table)
    if len(found.changes) > show:
        context.say(f"{counted(len(found.changes) - show, 'more change')}; --show shows more")
    context.say(f"{title}: {len(chosen.flagged) + len(chosen.others):,} transcripts scored")
    for group, kind in ((found.flagged_now, "flagged now"), (found.not_flagged_now, "not flagged now")):
        context.say(f"{group.sampled:,} of the {group.stored:,} clips {kind}: {_changes(group)}")


def _changes(group: Group) -> str:
    said = []
    for count, what in ((group.newly_flagged, "newly flagged"), (group.no_longer_flagged, "no longer flagged")):
        estimate = group.estimate(count)
        of_all = f" (of all: {estimate.low:,.0f} to {estimate.high:,.0f})" if estimate else ""
        said.append(f"{count:,} {what}{of_all}")
    return ", ".join(said)


def _comparison_json(found: Comparison, old_version: str, new: Policy) -> dict[str, object]:
    return {
        "policy": new.id,
        "old_version": old_version,
        "new_version": new.version,
        "flagged_now": vars(found.flagged_now),
        "not_flagged_now": vars(found.not_flagged_now),
        "changes": [
            {"audio_id": change.transcript.audio_id, "text": change.transcript.text, "old_score": change.old_score,
             "new_score": change.new_score, "flagged": change.flagged}
            for change in found.changes
        ],
    }  # fmt: skip

"""Prints the results of the demo: a table of clips, figures, checks, and how to explore the data."""

from __future__ import annotations

from rich.table import Table

from local.demo_console import Screen
from local.demo_paths import ENV_FILE, RA_LEAD, RA_USER, password_file, shown
from local.demo_results import Check, Outcome, Results, policy_names, shown_rate

MIB = 1024 * 1024


def show_clips(screen: Screen, results: Results) -> None:
    table = Table(title=f"Batch {results.batch_id}", title_justify="left", box=None, pad_edge=False)
    for column in ("clip", "language", "status", "flagged", "expected", "ok"):
        table.add_column(column, overflow="fold")
    for outcome in results.outcomes:
        got = outcome.got
        table.add_row(
            outcome.wanted.file,
            (got.language if got else None) or "-",
            got.status if got else "missing",
            ", ".join(sorted(got.flagged)) if got and got.flagged else "-",
            _expected(outcome),
            f"[red]no: {outcome.trouble}[/red]" if outcome.trouble else "[green]yes[/green]",
        )
    screen.console.print()
    screen.console.print(table)
    screen.console.print()


def show_figures(screen: Screen, results: Results, gpu_peak_bytes: int | None, ra_app_after_s: float) -> None:
    """Print the figures. `ra_app_after_s` counts from the start of this command."""
    screen.say(
        f"word error rate      {shown_rate(results.wer())} overall, {shown_rate(results.wer('librivox'))} on LibriVox"
    )
    kept, said = results.words_kept()
    doubtful, windows = results.windows
    screen.say(f"words kept           {kept} of {said}")
    screen.say(f"doubtful windows     {doubtful} of {windows}")
    for policy in policy_names():
        flagged = sum(1 for outcome in results.outcomes if outcome.got and policy in outcome.got.flagged)
        wanted = sum(1 for outcome in results.outcomes if policy in outcome.wanted.flagged)
        screen.say(f"flagged              {flagged} {policy} (expected {wanted})")
    if results.took_s:
        screen.say(
            f"speed                {results.audio_s:.0f} s of audio in {results.took_s:.0f} s from transfer to end, "
            f"{results.audio_s / results.took_s:.1f} times real time"
        )
    if gpu_peak_bytes is not None:
        screen.say(f"memory               {gpu_peak_bytes / MIB:.0f} MiB at the peak of the GPU worker")
    screen.say(f"RA app               ready {ra_app_after_s:.1f} s after the start")
    screen.console.print()


def show_checks(screen: Screen, found: list[Check]) -> None:
    for check in found:
        screen.say(
            f"{'pass' if check.passed else 'FAIL'}  {check.name}: {check.found}", None if check.passed else "red"
        )
    screen.console.print()


def show_addresses(screen: Screen, address: str) -> None:
    """Print the address of the RA app, the log-in, and commands to explore the data."""
    screen.say(f"RA app     {address}", "bold")
    for title, username, does in (
        ("log in as", RA_USER, "labels clips"),
        ("or as", RA_LEAD, "makes studies and codebooks, reads results, searches and exports"),
    ):
        file = password_file(username)
        screen.say(f"{title:<10} {username} with {file.read_text().strip()} (kept in {shown(file)}): {does}")
    screen.say(f"explore    . {shown(ENV_FILE)} && redis-cli LRANGE queue:failed 0 -1")
    screen.say("           psql -c 'SELECT original_filename, policies FROM ra_queue'")


def _expected(outcome: Outcome) -> str:
    if outcome.wanted.end == "done" and not outcome.is_judged:
        return f"{outcome.wanted.end}, not judged: language"
    return ", ".join(sorted(outcome.wanted.flagged)) or outcome.wanted.end

"""Tells what has changed since the last health check of a host, by webhook or mail."""

from __future__ import annotations

import http.client
import json
import smtplib
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

from host_findings import BROKEN, Config, Finding, screen


def alert(config: Config, findings: list[Finding], state: Path) -> list[Finding]:
    """Store the result and send what has changed. Return findings about alerts that could not be sent.

    Each way (webhook, mail) has its own record of the failed checks that it has reported. So a way that fails reports
    its changes later, and the other way does not report them again every five minutes.
    """
    try:
        kept = json.loads(state.read_text()) if state.exists() else {}
    except ValueError:  # the file is incomplete, for example after a full disk: report all failed checks again
        kept = {}
    bad = [finding.check for finding in findings if not finding.ok]
    told: dict[str, list[str]] = {way: kept.get("bad", []) for way in WAYS} | kept.get("told", {})
    trouble: list[Finding] = []
    for way, (setting, send) in WAYS.items():
        news = changes(findings, told[way])
        try:
            if config.get("alert", {}).get(setting) and news:
                send(config, screen(config["host"], news), news)
            told[way] = sorted({*bad, *unknown(findings, told[way])})
        except (OSError, http.client.HTTPException, smtplib.SMTPException, ValueError) as error:
            # Without the error's message: it may contain the webhook's address, which is a secret.
            value = f"{way}: could not be sent ({type(error).__name__})"
            trouble.append(
                Finding("alert", False, value, "check vault_alert_webhook and alert_mail_to; can this host reach them?")
            )
    state.parent.mkdir(parents=True, exist_ok=True)
    result = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "bad": sorted(bad), "told": told}
    state.with_suffix(".new").write_text(json.dumps(result))
    state.with_suffix(".new").replace(state)
    return trouble


def unknown(findings: list[Finding], before: list[str]) -> set[str]:
    """Return checks that failed before and are missing now because a check crashed. Their state has not changed."""
    if not any(finding.value.startswith(BROKEN) for finding in findings):
        return set()
    return set(before) - {finding.check for finding in findings}


def changes(findings: list[Finding], before: list[str]) -> list[Finding]:
    """Return new failures, then checks that pass again or no longer exist."""
    names = {finding.check for finding in findings}
    gone = sorted(set(before) - names - unknown(findings, before))
    fresh = [finding for finding in findings if not finding.ok and finding.check not in before]
    mended = [finding for finding in findings if finding.ok and finding.check in before]
    return [*fresh, *mended, *(Finding(name, True, "not found any more") for name in gone)]


def _post(config: Config, text: str, news: list[Finding]) -> None:
    found = {"bad": [asdict(one) for one in news if not one.ok], "mended": [asdict(one) for one in news if one.ok]}
    request = urllib.request.Request(  # noqa: S310 - the operator's own address
        Path(config["alert"]["webhook_file"]).read_text().strip(),
        json.dumps({"host": config["host"], "text": text, **found}).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=15).close()  # noqa: S310


def _mail(config: Config, text: str, news: list[Finding]) -> None:
    bad = sum(not one.ok for one in news)
    to, message = config["alert"], EmailMessage()
    message["To"], message["From"] = to["mail_to"], to.get("mail_from", f"audio-pipeline@{config['host']}")
    message["Subject"] = f"{config['host']}: {bad} checks failed, {len(news) - bad} passed again"
    message.set_content(text)
    with smtplib.SMTP(to.get("smtp_host", "localhost"), to.get("smtp_port", 25), timeout=15) as server:
        server.send_message(message)


Send = Callable[[Config, str, list[Finding]], None]
WAYS: dict[str, tuple[str, Send]] = {"webhook": ("webhook_file", _post), "mail": ("mail_to", _mail)}

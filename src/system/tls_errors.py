"""Explain a failed TLS connection to the operator in one sentence."""

from __future__ import annotations

# Words that OpenSSL and libpq print -> the meaning and what to do. The first entry that matches is used.
_MEANINGS = (
    (("certificate has expired",), "its certificate has expired; make a new one on its host: {renew}"),
    (
        ("ip address mismatch", "hostname mismatch", "does not match host name", "not match"),
        "its certificate is for another name; the certificate must contain the value of {host}",
    ),
    (
        ("certificate verify failed", "unable to get local issuer", "self-signed", "self signed"),
        (
            "no authority in {ca} has signed its certificate. Update that file (ansible-playbook "
            "playbooks/site.yml --tags settings); if it is up to date, another machine answers at this address"
        ),
    ),
    (
        ("wrong version number", "wrong_version_number", "record layer failure", "server does not support ssl"),
        "the server does not use TLS on this port, and nothing is sent unencrypted. Check {port} and the server's TLS",
    ),
    (("unexpected eof", "tlsv1 alert", "sslv3 alert", "handshake"), "the TLS handshake failed; see the server's log"),
)
_RENEW = "sudo /usr/local/lib/audio-pipeline/fleet-certificates renew"


def explained(error: BaseException, service: str, host: str, ca: str, port: str) -> str | None:
    """Explain a connection that failed because of TLS; None when TLS is not the reason.

    `service` is "Redis" or "Postgres"; `ca` and `port` are the names of the settings to check.
    """
    text = " ".join(str(error).split())
    lower = text.lower()
    if not any(word in lower for word in ("ssl", "tls", "certificate")):
        return None
    for signs, meaning in _MEANINGS:
        if any(sign in lower for sign in signs):
            return f"{service} is not trusted: {meaning.format(host=host, ca=ca, port=port, renew=_RENEW)} ({text})"
    return None

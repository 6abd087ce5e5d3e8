"""What a refused TLS connection means, as one sentence for the operator."""

from __future__ import annotations

# What OpenSSL and libpq print -> what it means and what to do. The first that fits counts.
_MEANINGS = (
    (("certificate has expired",), "its certificate has expired; make a new one on its host: {renew}"),
    (
        ("ip address mismatch", "hostname mismatch", "does not match host name", "not match"),
        "its certificate is for another name; {host} must be one of the names in it",
    ),
    (
        ("certificate verify failed", "unable to get local issuer", "self-signed", "self signed"),
        (
            "no authority in {ca} has signed its certificate. Bring that file up to date (ansible-playbook "
            "playbooks/site.yml --tags settings); if it is, another machine answers at this address"
        ),
    ),
    (
        ("wrong version number", "wrong_version_number", "record layer failure", "server does not support ssl"),
        "it does not speak TLS there; nothing is sent in the clear. Check {port}, and whether TLS is on in the server",
    ),
    (("unexpected eof", "tlsv1 alert", "sslv3 alert", "handshake"), "the TLS handshake failed; see the server's log"),
)
_RENEW = "sudo /usr/local/lib/audio-pipeline/fleet-certificates renew"


def explained(error: BaseException, service: str, host: str, ca: str, port: str) -> str | None:
    """A sentence about a connection that TLS refused; None when TLS is not the reason.

    `service` is "Redis" or "Postgres"; `ca` and `port` are the names of the settings that matter.
    """
    text = " ".join(str(error).split())
    lower = text.lower()
    if not any(word in lower for word in ("ssl", "tls", "certificate")):
        return None
    for signs, meaning in _MEANINGS:
        if any(sign in lower for sign in signs):
            return f"{service} is refused by us: {meaning.format(host=host, ca=ca, port=port, renew=_RENEW)} ({text})"
    return None

"""How a log-in by single sign-on fails. Each class has the page that the person sees; `cause` is for the log.

A cause never holds a secret, a code, a token, or text that the browser has sent.
"""

from __future__ import annotations

import logging


class SignOnError(Exception):
    """A log-in by single sign-on failed.

    `counts`: somebody may be guessing, so the throttle counts it as a failed log-in of this network.
    """

    status = 403
    title = "You are not logged in"
    sentence = ""
    level = logging.WARNING
    counts = False

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class ProviderDownError(SignOnError):
    status = 503
    title = "The log-in service does not answer"
    sentence = "Your account is safe. Try again in a minute. If you have a password for this site, you can use it now."
    level = logging.ERROR


class ProviderRefusesError(SignOnError):
    """The provider and the settings of this app do not fit: an administrator must act."""

    status = 503
    title = "Single sign-on is not set up correctly"
    sentence = (
        "The log-in service does not accept this site. Tell your lead researcher: an administrator has to act. "
        "If you have a password for this site, you can use it now."
    )
    level = logging.ERROR


class DeclinedError(SignOnError):
    title = "You did not log in"
    sentence = (
        "The log-in was stopped at the log-in service, by you or by its rules. Nothing has changed here. "
        "Begin again if you want to log in."
    )
    level = logging.INFO


class UnknownAttemptError(SignOnError):
    status = 400
    title = "This log-in cannot be finished"
    sentence = (
        "It was finished or replaced by a newer one, or it was begun in another browser. Begin again. "
        "If this happens each time, allow cookies for this site."
    )
    counts = True


class ExpiredAttemptError(SignOnError):
    status = 400
    title = "This log-in took too long"
    sentence = "A log-in must be finished within 10 minutes. Begin again."


class UntrustedAnswerError(SignOnError):
    title = "The answer of the log-in service was refused"
    sentence = (
        "It is too old, is not meant for this site or for this log-in, or was changed on its way. Begin again. "
        "If it happens again, tell your lead researcher."
    )
    counts = True


class NotAllowedError(SignOnError):
    title = "You may not log in with this identity"
    sentence = (
        "The log-in service knows you, but this site is not open to this identity. If you have another one, log out "
        "there and use it. Otherwise ask your lead researcher."
    )


class NotInvitedError(SignOnError):
    title = "You have no account here yet"
    sentence = (
        "Ask your lead researcher for an invitation, open its link, and choose single sign-on on its page. If you log "
        "in here with a password, go on with it: an account is never joined to an identity by its address."
    )


class ClosedAccountError(SignOnError):
    title = "Your account is closed"
    sentence = "Your labels are safe. Ask your lead researcher whether it should be opened again."

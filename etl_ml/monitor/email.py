"""Messages by SMTP."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime, localtime
from typing import NoReturn

from etl_ml.monitor.delivery import Undelivered, name_of
from etl_ml.monitor.message import Message
from etl_ml.spec.automation import EmailAlert

_SECONDS = 10.0


def send(alert: EmailAlert, message: Message) -> None:
    """Hand a message to the mail server.

    Raises
    ------
    Undelivered
        It cannot be reached, is not who it says, or refuses.
    """
    mail = composed(alert, message)
    try:
        with _connected(alert) as server:
            if alert.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if alert.user is not None and alert.password is not None:
                server.login(alert.user, alert.password.get_secret_value())
            refused = server.send_message(mail)
    except smtplib.SMTPAuthenticationError as error:
        _failed(alert, f"refuses user and password ({error.smtp_code})", "correct them")
    except smtplib.SMTPRecipientsRefused:
        _failed(alert, "takes none of the recipients", "correct `to`")
    except smtplib.SMTPSenderRefused as error:
        _failed(alert, f"refuses the sender ({error.smtp_code})", "correct `sender`")
    except smtplib.SMTPNotSupportedError:
        _failed(
            alert, "offers no STARTTLS, or no way to log in", "correct `port`, or set `security`"
        )
    except smtplib.SMTPResponseException as error:
        _failed(alert, f"answers {error.smtp_code}", "look into its log")
    except ssl.SSLError as error:
        _failed(alert, f"has no certificate that is trusted ({error.reason})", "correct `host`")
    except TimeoutError:
        _failed(alert, "does not answer in time", "see whether it is up")
    except (OSError, smtplib.SMTPException) as error:
        _failed(alert, f"cannot be reached ({type(error).__name__})", "correct `host` and `port`")
    if refused:
        partly = Undelivered(
            f"{name_of(alert)} takes not all of the recipients.",
            seen=", ".join(sorted(refused)),
            where="automation.alerts",
            fix="correct `to`",
        )
        partly.partly = True
        raise partly


def composed(alert: EmailAlert, message: Message) -> EmailMessage:
    """The mail, in plain text."""
    mail = EmailMessage()
    mail["Subject"] = message.subject
    mail["From"] = alert.sender
    mail["To"] = ", ".join(alert.to)
    mail["Date"] = format_datetime(localtime())
    # The same for the same message: a mail that is sent twice is shown once.
    mail["Message-ID"] = f"<{message.id}@{alert.sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    return mail


def _connected(alert: EmailAlert) -> smtplib.SMTP:
    if alert.security == "tls":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(alert.host, alert.port, timeout=_SECONDS, context=context)
    return smtplib.SMTP(alert.host, alert.port, timeout=_SECONDS)


def _failed(alert: EmailAlert, how: str, fix: str) -> NoReturn:
    raise Undelivered(f"{name_of(alert)} {how}.", where="automation.alerts", fix=fix) from None

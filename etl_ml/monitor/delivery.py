"""A message on its way to one receiver."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from etl_ml.monitor.message import Message
from etl_ml.spec.automation import Alert, EmailAlert, SlackAlert
from etl_ml.spec.error import EtlMlError

SECONDS = 20.0
"""How long a receiver may take, whatever it does meanwhile; a tick of the sensor has 60."""


class Undelivered(EtlMlError):
    """A receiver that did not take a message; it is tried again.

    Attributes
    ----------
    retry_after : seconds that it asked for, 0 if it asked for none
    partly : some of those who should have it have it, and sent again they would have it twice
    """

    retry_after: float = 0.0
    partly: bool = False


def deliver(alert: Alert, message: Message, seconds: float = SECONDS) -> None:
    """Send a message, once.

    Raises
    ------
    Undelivered
        It was not taken, or not within `seconds`; says why, without the receiver's secrets.
    """
    outcome: queue.Queue[Exception | None] = queue.Queue()

    def attempt() -> None:
        try:
            _send(alert)(message)
        except Exception as error:  # raised again below, in the caller's thread
            outcome.put(error)
        else:
            outcome.put(None)

    # Sockets time out by the packet: a receiver that sends a byte now and then would keep us here.
    threading.Thread(target=attempt, daemon=True, name="etl_ml alert").start()
    try:
        error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise Undelivered(
            f"{name_of(alert)} did not answer within {seconds:g} seconds.",
            fix="see whether it is up; the message is sent again",
        ) from None
    if error is not None:
        raise error


def name_of(alert: Alert) -> str:
    """A receiver for people: its type and its host."""
    if isinstance(alert, EmailAlert):
        return f"email by {alert.host}:{alert.port}"
    parts = urlsplit(alert.url.get_secret_value())
    return f"{alert.type} at {parts.hostname}{f':{parts.port}' if parts.port else ''}"


def _send(alert: Alert) -> Callable[[Message], None]:
    if isinstance(alert, EmailAlert):
        from etl_ml.monitor.email import send as send_email

        return lambda message: send_email(alert, message)
    from etl_ml.monitor.webhook import post, send

    if isinstance(alert, SlackAlert):
        from etl_ml.monitor.slack import payload

        return lambda message: post(name_of(alert), alert.url, payload(message))
    return lambda message: send(name_of(alert), alert, message)

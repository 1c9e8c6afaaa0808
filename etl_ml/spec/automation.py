"""`automation:` when a pipeline runs by itself, and who is told of what."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from etl_ml.spec.retention import duration
from etl_ml.spec.section import Section
from etl_ml.spec.source import checked_url

Event = Literal[
    "run_failed",
    "check_failed",
    "drift",
    "model_rejected",
    "model_deployed",
    "source_stale",
]
EVENTS: tuple[Event, ...] = (
    "run_failed",
    "check_failed",
    "drift",
    "model_rejected",
    "model_deployed",
    "source_stale",
)
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class NewData(Section):
    """The sensor `<pipeline>_new_data`: it asks for a run when there is enough that is new."""

    min_rows: int = Field(100, ge=1, description="New rows that are worth a run.")
    every_seconds: int = Field(60, ge=5, description="Between two looks at the source.")
    max_wait_seconds: int = Field(
        3600, ge=0, description="After this long fewer than min_rows are worth a run, too."
    )
    watch: bool = Field(
        False, description="MongoDB: listen to a change stream instead of counting."
    )
    train_every_rows: int | str = Field(
        "10%",
        description="New rows since the last training, or their share, from which on a run trains; "
        "below it only the data is brought up to date. 0: always.",
    )

    @field_validator("train_every_rows")
    @classmethod
    def _is_a_number_or_a_share(cls, value: int | str) -> int | str:
        if isinstance(value, str) and not _SHARE.fullmatch(value.strip()):
            raise ValueError("should be a number of rows, or a share such as 10%")
        if isinstance(value, int) and value < 0:
            raise ValueError("should not be negative")
        return value

    def rows_to_train(self, trained_on: int) -> int:
        """New rows that are worth a training after one on `trained_on` rows."""
        if isinstance(self.train_every_rows, int):
            return self.train_every_rows
        share = float(self.train_every_rows.strip().rstrip("%").rstrip()) / 100
        return math.ceil(share * trained_on)

    def worth_training(self, new: int, trained_on: int) -> bool:
        """Whether `new` rows are enough after a training on `trained_on` rows."""
        return new >= self.rows_to_train(trained_on)


class _Alert(Section):
    on: tuple[Event, ...] = Field(
        ("run_failed", "check_failed"), min_length=1, description="Which events are told."
    )
    every_seconds: int = Field(
        3600, ge=0, description="The same is told again only after this long."
    )

    @model_validator(mode="before")
    @classmethod
    def _on_is_a_word(cls, given: Any) -> Any:
        """A bare `on` is true in YAML 1.1, which Dagster reads."""
        if not isinstance(given, Mapping):
            return given
        return {"on" if key is True else key: value for key, value in given.items()}


class SlackAlert(_Alert):
    """A message to a Slack-compatible incoming webhook."""

    type: Literal["slack"]
    url: SecretStr = Field(description="Of the incoming webhook.")

    @field_validator("url")
    @classmethod
    def _can_be_read(cls, url: SecretStr) -> SecretStr:
        return checked_url(url, ("https", "http"))


class WebhookAlert(_Alert):
    """A JSON document posted to any URL."""

    type: Literal["webhook"]
    url: SecretStr = Field(description="Where the document is posted to.")
    token: SecretStr | None = Field(None, description="Sent as a bearer token.")

    @field_validator("url")
    @classmethod
    def _can_be_read(cls, url: SecretStr) -> SecretStr:
        return checked_url(url, ("https", "http"))


class EmailAlert(_Alert):
    """A message by SMTP."""

    type: Literal["email"]
    host: str = Field(min_length=1, description="The SMTP server.")
    port: int = Field(587, ge=1, le=65535, description="587 for STARTTLS, 465 for TLS.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How the connection is encrypted."
    )
    user: str | None = Field(None, description="Of the SMTP server; goes with password.")
    password: SecretStr | None = Field(None, description="Of the SMTP server.")
    sender: str = Field(
        pattern=r"^[^@\s]+@[^@\s]+$",
        examples=["etl@example.com"],
        description="The address that messages come from.",
    )
    to: tuple[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")], ...] = Field(
        min_length=1, examples=["team@example.com"], description="Who is told."
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user: goes with password; give both or none")
        if self.password is not None and self.security == "none":
            raise ValueError("security: a password is not sent in the clear; use starttls or tls")
        return self


Alert = Annotated[SlackAlert | WebhookAlert | EmailAlert, Field(discriminator="type")]


class Window(Section):
    """How old an asset may be: 90m, 12h, 7d, 8w."""

    warn: str | None = Field(None, description="Older than this is a warning.")
    fail: str = Field(description="Older than this is a failure.")

    @field_validator("warn", "fail")
    @classmethod
    def _is_a_duration(cls, text: str | None) -> str | None:
        if text is not None and not duration(text):
            raise ValueError("should be longer than nothing")
        return text

    @model_validator(mode="after")
    def _warns_first(self) -> Self:
        if self.warn is not None and duration(self.warn) >= duration(self.fail):
            raise ValueError("warn: should be shorter than fail")
        return self


class Freshness(Section):
    """How old what a pipeline makes may be; by default what its schedule or sensor promises."""

    raw_data: Window | None = Field(None, description="How old the newest rows may be.")
    deployed_model: Window | None = Field(None, description="How old the champion may be.")


class Automation(Section):
    """What happens without anybody asking for it."""

    new_data: NewData | None = Field(None, description="`{}` for the defaults.")
    schedule: str | None = Field(None, description="A cron expression, in UTC.")
    retrain_on_drift: bool = Field(
        False, description="A drift that is found asks for a run that trains, once a reference."
    )
    freshness: Freshness = Field(
        Freshness(), description="How old what is made may be, before it is told."
    )
    alerts: tuple[Alert, ...] = Field((), description="Who is told of what.")

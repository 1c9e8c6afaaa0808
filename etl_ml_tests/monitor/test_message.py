"""A message that a person can act on, without a secret."""

from __future__ import annotations

import json

from etl_ml.monitor.message import Again
from etl_ml.monitor.notice import wanted
from etl_ml.monitor.secrets import secrets_of
from etl_ml.monitor.slack import payload
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.monitor.notices import AT, alerted, failed, message


def test_it_says_what_where_how_many_and_what_to_do_next() -> None:
    notice = failed(numbers={"rows": "1,200"}, report="s3://lake/loans/report.html")
    assert message(notice, ui="https://dagster.example").text == (
        "loans: the run failed at raw_data (2025-11-24 16:00 UTC).\n"
        "loans.csv: there is no such file.\n"
        "  rows    1,200\n"
        "  run     https://dagster.example/runs/r1\n"
        "  asset   https://dagster.example/assets/loans/raw_data\n"
        "  report  s3://lake/loans/report.html\n"
        "  next    etl-ml show loans"
    )


def test_without_a_ui_the_run_is_named() -> None:
    assert "  run   r1\n" in message(failed()).text


def test_many_things_are_one_message_of_bounded_length() -> None:
    told = message(*(failed(f"asset_{i}", run=f"r{i}") for i in range(500)))
    assert told.subject == "loans: the run failed at asset_0 and 499 more"
    assert "And 492 more: 492 failed runs." in told.text
    assert len(told.text) < 4000


def test_what_goes_on_is_told_by_its_number() -> None:
    again = Again("the run failed at raw_data", "run_failed", 41, AT, AT + 1800)
    told = message(again=(again,)).text
    assert (
        "- the run failed at raw_data: 41 times more since 2025-11-24 16:00 UTC, "
        "last at 2025-11-24 16:30 UTC" in told
    )


def test_the_same_content_has_the_same_id() -> None:
    assert message(failed()).id == message(failed()).id
    assert message(failed()).id != message(failed(at=AT + 1)).id


def test_no_message_holds_a_secret_in_any_form() -> None:
    pipeline = alerted(
        {"type": "slack", "url": "https://hooks.example/services/T0/B0/xyzzy"},
        {"type": "webhook", "url": "https://ops.example/in?key=k3y-k3y", "token": "tok-tok-tok"},
        source={
            "type": "mongodb",
            "uri": "mongodb://reader:p%40ssw0rd@db.example/x",
            "database": "shop",
            "collection": "loans",
        },
        load=[{"type": "sql", "url": "mysql://w:hunter22@wh.example/x", "table": "loans"}],
    )
    leaks = [
        "https://hooks.example/services/T0/B0/xyzzy",
        "/services/T0/B0/xyzzy",
        "https://ops.example/in?key=k3y-k3y",
        "key=k3y-k3y",
        "tok-tok-tok",
        "mongodb://reader:p%40ssw0rd@db.example/x",
        "p%40ssw0rd",
        "p@ssw0rd",
        "hunter22",
    ]
    notice = failed(details=tuple(f"seen {leak} here" for leak in leaks), numbers={"n": leaks[-1]})
    told = message(notice, secrets=secrets_of(pipeline))
    shown = [told.text, told.subject, json.dumps(told.document()), json.dumps(payload(told))]
    for leak in leaks:
        assert not any(leak in text for text in shown), leak
    assert "seen … here" in told.text


def test_an_address_without_credentials_is_no_secret() -> None:
    source = {
        "type": "mongodb",
        "uri": "mongodb://db.example:27017",
        "database": "shop",
        "collection": "loans",
    }
    assert secrets_of(make_pipeline(source=source)) == ()


def test_slack_gets_its_own_markup_and_no_other() -> None:
    notice = failed(details=("income > 0 & <b>age</b> *bold*",))
    text = payload(message(notice, ui="https://d.example"))["text"]
    assert "income &gt; 0 &amp; &lt;b&gt;age&lt;/b&gt;" in text
    assert "<https://d.example/runs/r1>" in text
    assert text.startswith("*loans: the run failed at raw_data*\n")
    long = message(*(failed(f"a{i}", details=("x" * 590,)) for i in range(9)))
    assert len(payload(long)["text"]) < 4000


def test_a_line_break_in_what_happened_does_not_break_the_subject() -> None:
    assert "\n" not in message(failed("a\nBcc: all@example.org")).subject


def test_what_another_event_tells_better_is_told_once() -> None:
    check = failed("validated_data", told_by="run_failed")
    check = type(check)(**{**vars(check), "event": "check_failed", "key": "check"})
    run = failed("validated_data")
    assert wanted([run, check], ("run_failed", "check_failed")) == [run]
    assert wanted([run, check], ("check_failed",)) == [check]
    elsewhere = type(check)(**{**vars(check), "run_id": "r2"})
    assert wanted([run, elsewhere], ("run_failed", "check_failed")) == [run, elsewhere]

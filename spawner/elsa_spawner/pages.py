# SPDX-License-Identifier: Apache-2.0
"""What users read: why a start failed and what they can choose. Text in, HTML out."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Any

from .client import ElsaError

FRESH_FIELD = "elsa_fresh"


class StartFailed(Exception):
    """A start that did not work, in words for its user; the Hub shows them on the spawn page."""

    def __init__(self, message: str, details: list[str] | None = None):
        details = [detail for detail in details or [] if detail]
        self.jupyterhub_message = " ".join([message, *details])
        paragraphs = [f"<strong>{escape(message)}</strong>", *map(escape, details)]
        self.jupyterhub_html_message = "<br>".join(paragraphs)
        super().__init__(self.jupyterhub_message)


class StartTimedOut(StartFailed, TimeoutError):
    """It takes too long: the Hub counts and names timeouts apart from other failures."""


def time_text(milliseconds: int) -> str:
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return at.strftime("%a %d %b, %H:%M UTC")


def newest_checkpoint(session: dict[str, Any]) -> dict[str, Any] | None:
    """The checkpoint that the next start would wake."""
    usable = [c for c in session.get("checkpoints") or [] if not c.get("aside")]
    return max(usable, key=lambda c: c.get("generation") or 0, default=None)


def checkpoint_text(session: dict[str, Any]) -> str:
    checkpoint = newest_checkpoint(session)
    created = int((checkpoint or {}).get("created_at") or 0)
    return f"the checkpoint of {time_text(created)}" if created else "its checkpoint"


def span_text(milliseconds: int) -> str:
    """How long ago, as people say it."""
    minutes = max(0, milliseconds) // 60_000
    for unit, size in (("day", 1440), ("hour", 60), ("minute", 1)):
        count = minutes // size
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def asleep_text(session: dict[str, Any] | None, now_ms: int) -> str:
    """Since when it sleeps, and that nothing is lost by it; "" when it does not, or the user is
    asked what to do."""
    at = asleep_at(session)
    return asleep_since_text(at, now_ms) if at else ""


def asleep_at(session: dict[str, Any] | None) -> int:
    """0: it does not sleep, or cannot simply be woken."""
    if not session or session.get("state") != "hibernated" or _needs_choice(session):
        return 0
    return int((newest_checkpoint(session) or {}).get("created_at") or 0)


def asleep_since_text(at: int, now_ms: int) -> str:
    return (f"Your session fell asleep {span_text(now_ms - at)} ago. It wakes as it was: "
            "variables, open files, terminals.")  # fmt: skip


def asleep_note(text: str) -> str:
    """The same above a form of the spawn page, whose choices are for new sessions."""
    return (f'<p class="elsa-asleep">{escape(text)} What is chosen here is for a session that '
            "begins anew.</p>")  # fmt: skip


def left_behind_text(session: dict[str, Any] | None, now_ms: int) -> str:
    """That it could not, or cannot, be saved when its machine goes away; "" when all is well."""
    left = (session or {}).get("left_behind")
    if not session or not isinstance(left, dict):
        return ""
    at, why = int(left.get("at") or 0), _sentence(str(left.get("why") or "no reason is known"))
    if at > now_ms and session.get("state") in ("running", "dozing", "snapshotting"):
        return (f"Your session's machine goes away at {time_text(at)}, and the session cannot be "
                f"saved: {why} Save your work into files before then.")  # fmt: skip
    if session.get("state") in ("stopped", "lost") or not session.get("checkpoint_usable"):
        then = "What was only in its memory is lost."
    else:
        then = f"It goes on from {checkpoint_text(session)}."
    return (f"Your session's machine went away at {time_text(at)}, and the session could not be "
            f"saved: {why} Your files are as you left them. {then}")  # fmt: skip


def restore_failed(session: dict[str, Any], error: ElsaError) -> StartFailed:
    return StartFailed(
        f"Your session could not be woken from {checkpoint_text(session)}. "
        "The checkpoint is kept; nothing of it is lost.",
        [
            *_what_happened(error),
            "You can try again, or start fresh and have the checkpoint set aside (not deleted): "
            "the next page asks which.",
        ],
    )


def start_failed(error: ElsaError) -> StartFailed:
    return StartFailed(
        "Your server could not be started.",
        _what_happened(error),
    )


def took_too_long(session: dict[str, Any] | None) -> StartTimedOut:
    if session and session.get("state") == "restoring":
        return StartTimedOut(
            f"Your session takes long to wake from {checkpoint_text(session)}.",
            ["It goes on waking. Nothing is lost: start it again in a minute to get back in."],
        )
    return StartTimedOut(
        "Your server takes too long to start.", ["Start it again in a minute to get back in."]
    )


def out_of_reach() -> StartTimedOut:
    return StartTimedOut(
        "The service that runs sessions does not answer.",
        ["Your session is not touched by that. Try again in a few minutes; if it stays so, "
         "tell your administrator that elsad is not reachable from the Hub."],
    )  # fmt: skip


def trouble(session: dict[str, Any] | None, unanswered: bool) -> str:
    """Why a user is asked before the next start, or ""."""
    state = (session or {}).get("state")
    if session and _needs_choice(session):
        reason = _sentence(str(session.get("reason") or "no reason is known"))
        return f"Your session could not be woken from {checkpoint_text(session)}: {reason}"
    if unanswered and state in ("running", "dozing", "snapshotting", "migrating"):
        return "Your session is running, but its server did not answer when it was last opened."
    return ""


def _needs_choice(session: dict[str, Any]) -> bool:
    usable = bool(session.get("checkpoint_usable"))
    # The latter is a fault in the record, which only a fresh start ends.
    return usable if session.get("state") == "failed" else (
        session.get("state") == "hibernated" and not usable
    )


def choice_form(session: dict[str, Any], why: str) -> str:
    """The part of the spawn page that asks. Its field is read by `wants_fresh`."""
    generation = int(session.get("generation") or 0)
    if session.get("state") in ("running", "dozing", "snapshotting", "migrating"):
        again, fresh = "Try to open it again", (
            "End it and start fresh: <strong>what is in its memory is lost</strong>; "
            "your files stay"
        )
    else:
        again = f"Try again from {escape(checkpoint_text(session))}"
        fresh = "Start fresh: an empty session; the old checkpoint is set aside, not deleted"
    return f"""
<div class="elsa-choice">
  <p>{escape(why)}</p>
  <div class="radio form-check">
    <label><input type="radio" name="{FRESH_FIELD}" value="" checked> {again}</label>
  </div>
  <div class="radio form-check">
    <label><input type="radio" name="{FRESH_FIELD}" value="{generation}"> {fresh}</label>
  </div>
</div>
"""


def _what_happened(error: ElsaError) -> list[str]:
    remedy = f"What to do: {_sentence(error.remedy)}" if error.remedy else ""
    return [f"What happened: {_sentence(error.text)}", remedy]


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?" else text + "."

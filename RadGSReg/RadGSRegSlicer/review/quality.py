"""The quality card: may this pose be trusted, and why; red, amber or green, and always in words."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from slicer.i18n import tr as _

from ..operations.simulated import errorOfPose
from ..scene.registeredspine import isLevel

if TYPE_CHECKING:
    from .session import ReviewSession

GREEN, AMBER, RED, GREY = "#15803d", "#b45309", "#b91c1c", "#475569"

# A correction by hand of less than this leaves the registration's verdict as it is.
SAME_POSE_MM = 0.1


@dataclass(frozen=True)
class Card:
    """What the card says: a colour with its word, the reason, and the figures below."""

    color: str
    verdict: str
    reason: str
    notes: list[str] = field(default_factory=list)
    views: list[tuple[str, str, str]] = field(default_factory=list)
    """Per view: name, score as registered, score at the present pose ("" where not known)."""
    spread: list[tuple[str, str]] = field(default_factory=list)
    """One standard deviation of the pose: what, how much."""

    def toHtml(self) -> str:
        """The whole card for a label that understands rich text."""
        return self.summaryToHtml() + self.spreadToHtml()

    def summaryToHtml(self) -> str:
        """Verdict, reason and scores."""
        parts = [
            f'<table width="100%" cellpadding="4"><tr><td bgcolor="{self.color}">'
            f'<font color="white" size="+1"><b>{html.escape(self.verdict)}</b></font></td></tr>'
            "</table>",
            f"<p>{html.escape(self.reason)}</p>" if self.reason else "",
            *(f"<p><b>{html.escape(note)}</b></p>" for note in self.notes),
        ]
        if self.views:
            head = [_("View"), _("registered"), _("now")]
            rows = "".join(_row(row, "td") for row in self.views)
            parts.append(f'<table cellpadding="1">{_row(head, "th")}{rows}</table>')
        return "".join(parts)

    def spreadToHtml(self) -> str:
        """How far the pose may be off, for a label that understands rich text."""
        parts = []
        if self.spread:
            title = _("Uncertainty of the pose (one standard deviation, along the CT's axes)")
            rows = "".join(_row(row, "td") for row in self.spread)
            parts.append(f'<p>{html.escape(title)}</p><table cellpadding="3">{rows}</table>')
        return "".join(parts)


def qualityCard(
    session: ReviewSession,
    now: Mapping[str, Any] | None = None,
    registered: Mapping[str, Any] | None = None,
) -> Card:
    """The card of a session.

    ``now``: the answer to "score" at the present pose, if any, and ``registered`` the one at the
    registered pose, which by the same measure is the same at the same pose. Before it is there, the
    scores are those that the registration reported.
    """
    record = session.record
    live = (now or {}).get("views", {})
    notes = []
    error = None
    if not session.isHardened:
        points = session.surface.points
        error = errorOfPose(session.ctNode, points, session.pose, session.segmentId)
    if error is not None:
        text = _("Error against the truth in the scene: {error:.2f} mm (mTRE).")
        notes.append(text.format(error=error))
    if session.isAccepted:
        notes.append(_("Accepted."))
    if session.isHardened:
        notes.append(_("Hardened: the CT itself has been moved."))
    if record is None:
        names = [(name, "", _number(score)) for name, score in live.items()]
        reason = _("This transform does not come from a registration: nothing is known of it.")
        return Card(GREY, _("Not registered"), reason, notes, names)
    color, verdict = {
        "ok": (GREEN, _("Good: the program would bet on less than 2 mm")),
        "uncertain": (AMBER, _("Uncertain: look closely before use")),
    }.get(record.status, (RED, _("Failed: do not use this pose")))
    shift, angle = session.movedByHand()
    if shift > SAME_POSE_MM:
        text = _(
            "Moved by hand since: {shift:.1f} mm, {angle:.1f}°. The verdict is about the pose "
        )
        text += _("as it was registered; of this pose only the scores below are known.")
        notes.insert(0, text.format(shift=shift, angle=angle))
        if isLevel(session.transformNode):
            notes.append(_("The CT is still bent by the pose as it was registered."))
        if color == GREEN:
            color, verdict = AMBER, _("Corrected by hand")
    before = (registered or {}).get("views", record.viewScores)
    names = list(dict.fromkeys([*before, *live]))
    views = [(name, _number(before.get(name)), _number(live.get(name))) for name in names]
    if len(names) > 1:
        overall = (registered or record.quality).get("score")
        views.append((_("All"), _number(overall), _number((now or {}).get("score"))))
    notes += [text for text in (_networks(record.quality), _oneView(record.quality)) if text]
    return Card(color, verdict, _sentence(record.reason), notes, views, _spread(record.covariance))


def _networks(quality: Mapping[str, Any]) -> str:
    """How far the networks' pose lies from the registered one; nothing where there is none."""
    away, turned = quality.get("networks_distance_mm"), quality.get("networks_distance_deg")
    if away is None or turned is None:
        return ""
    text = _("The networks' pose lies {away:.1f} mm and {turned:.1f}° from it.")
    text = text.format(away=float(away), turned=float(turned))
    expected = quality.get("networks_held_out_mm")
    if expected is None:
        return text
    more = _("Their error on held-out X-rays is {expected:.1f} mm.")
    return f"{text} {more.format(expected=float(expected))}"


def _oneView(quality: Mapping[str, Any]) -> str:
    """What is expected of a pose from one X-ray; nothing of one from more."""
    across, along = quality.get("in_plane_error_mm"), quality.get("depth_error_mm")
    if across is None or along is None:
        return ""
    text = _("From one X-ray: in-plane error {across:.1f} mm, depth {along:.1f} mm (expected).")
    return text.format(across=float(across), along=float(along))


def _spread(covariance: np.ndarray | None) -> list[tuple[str, str]]:
    if covariance is None or not np.isfinite(covariance).all():
        return []
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    turns = [f"{math.degrees(value):.2f}°" for value in deviation[:3]]
    shifts = [f"{value:.2f} mm" for value in deviation[3:]]
    axes = (_("left-right"), _("front-back"), _("up-down"))
    return [
        (axis, _("± {shift}, turn about it ± {turn}").format(shift=shift, turn=turn))
        for axis, shift, turn in zip(axes, shifts, turns, strict=True)
    ]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." if text and text[-1] not in ".!?" else text


def _number(value: Any) -> str:
    return "" if value is None else f"{float(value):.2f}"


def _row(cells: Any, tag: str) -> str:
    aligned = (
        f'<{tag} align="{"left" if n == 0 else "right"}">{html.escape(str(cell))}</{tag}>'
        for n, cell in enumerate(cells)
    )
    return f"<tr>{''.join(aligned)}</tr>"

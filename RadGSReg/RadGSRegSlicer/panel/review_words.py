"""Step 5, in words: scores or why there are none, and what hardening does."""

from slicer.i18n import tr as _

from ..review.review import Review


def scoreText(review: Review | None) -> str:
    """The scores of the pose under review; "" without a review."""
    if review is None:
        return ""
    if review.problem:
        return review.problem
    if review.client is None:
        return _("Scores: show the X-rays side by side")
    if not review.client.isReady:
        return _("Scores: getting ready ({what})").format(what=review.client.message or "...")
    if review.scores is None:
        return _("Scores: ...")
    views = [f"{name} {score:.3f}" for name, score in review.scores["views"].items()]
    return _("Score {all:.3f}: {views}").format(all=review.scores["score"], views=", ".join(views))


def hardenTip(several: bool) -> str:
    """What hardening does, or why it is not done here."""
    if several:
        return _("The CT is bent by several vertebrae; the module Transforms can harden that")
    return _(
        "Move the CT itself and take it out of the transform; this can be undone until the scene "
        "is closed."
    )

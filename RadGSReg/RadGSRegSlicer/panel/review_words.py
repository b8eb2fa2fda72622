"""Step 5, in words: the scores, or why there are none."""

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

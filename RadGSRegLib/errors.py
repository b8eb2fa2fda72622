"""The two ways in which a job ends early, other than by a bug."""

from os import PathLike


class InputError(Exception):
    """Input that cannot be used: one clear sentence, naming the file, what is wrong and what to do.

    The command line prints the sentence and exits with status 2, with nothing written.
    """

    def __init__(self, source: str | PathLike[str], problem: str, remedy: str = "") -> None:
        self.source = str(source)
        self.problem = problem
        self.remedy = remedy
        sentence = f"{self.source}: {problem}"
        if remedy:
            sentence += f"; {remedy}"
        super().__init__(" ".join(sentence.split()))


class Cancelled(Exception):  # noqa: N818 - nothing went wrong
    """The user asked to stop; nothing is written, the exit status is 130."""

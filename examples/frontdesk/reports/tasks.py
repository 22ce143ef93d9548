"""The work of the back room."""

from typing import Final

from backroom.offload import Refused
from backroom.tasks import TaskContext, task
from reports.building import build
from reports.figures import Figures
from reports.refusal import NotATable
from reports.sources import airports
from reports.spool import UPLOAD, path_of

LONGEST_SECONDS: Final = 20 * 60
WAITS_SECONDS: Final = 24 * 3_600


@task(takes_context=True, timeout=LONGEST_SECONDS, expires=WAITS_SECONDS)
def build_report(context: TaskContext, *, name: str, digest: str) -> Figures:  # noqa: ARG001 - a name for the content
    """Return the report on the upload that the task's metadata names, or on the airports if it names none.

    `digest` is the upload's: orders for the same content are the same order, whatever the key of each upload.
    """

    def report(percent: float, message: str) -> None:
        context.raise_if_cancelled()
        context.progress(percent, 100, message)

    key = context.metadata.get(UPLOAD)
    path = path_of(key) if key else airports()
    try:
        with path.open("rb") as source:
            return build(source, name=name, report=report)
    except FileNotFoundError as error:
        message = "The upload is no longer here. Send it again."
        raise Refused(message) from error
    except NotATable as error:
        raise Refused(str(error)) from error

"""
Requests to the Hub: retried after transient failures; what fails for good is said in one line.

huggingface_hub itself retries only those that send large files.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from .refusals import scrub


Result = TypeVar("Result")

DELAYS = (2.0, 8.0)  # seconds between attempts
TIMEOUT = 100.0  # seconds without a byte; huggingface_hub's own client waits for ever

# huggingface_hub 1 speaks through httpx, 2 through httpx2: the base of its own error is the error of the one in use.
HTTPError: type[Exception] = HfHubHTTPError.__mro__[1]
# What a request fails with: hf_xet, which sends large files, has Python's own ConnectionError, TimeoutError and others
FAILURES = (HTTPError, OSError, RuntimeError, json.JSONDecodeError)


@contextmanager
def timeout() -> Iterator[None]:
    """Gives huggingface_hub's shared client a timeout for a while."""
    before = get_session().timeout
    get_session().timeout = TIMEOUT
    try:
        yield
    finally:
        get_session().timeout = before


def with_retries(
    call: Callable[[], Result],
    repo_id: str,
    secret: str | None,
    note: str = "the repository is as before; run again, and what has arrived is not sent twice",
) -> Result:
    """
    Calls until it succeeds, a few times, while it fails with a 429, a 5xx, a timeout or a dropped connection.

    Raises:
        OSError: it did not; in one line, with the note, and without the login's token `secret`.
    """
    delays = iter(DELAYS)
    while True:
        get_session().timeout = TIMEOUT  # a client that was replaced after a failure is without
        try:
            return call()
        except FAILURES as error:
            delay = next(delays, None)
            if delay is None or not _is_transient(error):
                raise OSError(f"{explain(error, repo_id, secret)} ({note})") from None
            asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
        time.sleep(max(delay, min(float(asked), 300.0) if asked.isdigit() else 0.0))


def _cause(error: BaseException) -> BaseException:
    """What is behind the RuntimeError that huggingface_hub makes of an upload that failed in a thread."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ is not None else error


def _is_transient(error: BaseException) -> bool:
    """Whether it may go better the next time."""
    error = _cause(error)
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    return _is_of_network(error) or isinstance(error, json.JSONDecodeError)  # a proxy's error page is no JSON


def _is_of_network(error: BaseException) -> bool:
    lost = isinstance(error, (HTTPError, ConnectionError, TimeoutError))
    return lost and not isinstance(error, (HfHubHTTPError, OfflineModeIsEnabled))


def explain(error: BaseException, repo_id: str, secret: str | None) -> str:
    """What went wrong, and what to do about it: one line, without the login's token `secret`."""
    return scrub(_explain(_cause(error), repo_id), secret)


def _explain(error: BaseException, repo_id: str) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return "offline mode is on, so the Hub cannot be reached: unset HF_HUB_OFFLINE and run again"
    if not isinstance(error, HfHubHTTPError):
        said = " ".join(str(error).split()) or type(error).__name__
        if _is_of_network(error):
            return f"no connection to the Hub at {constants.ENDPOINT} ({said}): check the network"
        return f"the push failed: {said}"
    status = error.response.status_code
    said = " ".join(str(error.server_message or error.response.reason_phrase).split())
    if status == 401 or isinstance(error, RepositoryNotFoundError):
        return f"the Hub does not accept the login for {repo_id} ({status}): run `hf auth login` with a write token"
    if status == 403:
        return f"this login may not write to {repo_id} (403 {said}): use a token that may"
    if status in (409, 412):
        return f"{repo_id} was changed by somebody else meanwhile ({status} {said})"
    return f"the Hub {'kept answering' if _is_transient(error) else 'refused:'} {status} {said}"

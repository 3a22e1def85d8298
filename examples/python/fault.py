"""Calls that fail: what the gateway says of it, and trying again when it says so."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

Answer = TypeVar("Answer")


class Fault(Exception):
    """A call that failed.

    Programs decide by `code` and `reason`; `message` is for people. There is no `reason` where the gateway did not answer: it
    could not be reached, or the time was up here first.
    """

    def __init__(self, error: grpc.RpcError) -> None:
        self.code: grpc.StatusCode = error.code()
        self.message: str = error.details()
        self.reason: str | None = None
        self.facts: dict[str, str] = {}
        self.request_id: str | None = None
        self.retry_delay: float | None = None
        status = rpc_status.from_call(error)
        for detail in status.details if status else []:
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                self.reason = info.reason
                self.facts = dict(info.metadata)
                self.request_id = self.facts.pop("request_id", None)
            elif detail.Unpack(retry):
                self.retry_delay = retry.retry_delay.ToTimedelta().total_seconds()
        super().__init__(str(self))

    def __str__(self) -> str:
        words = f"{self.code.name} {self.reason or 'without an answer'}"
        if self.facts:
            words += f" ({', '.join(f'{name}={value}' for name, value in sorted(self.facts.items()))})"
        return f"{words}, request {self.request_id}" if self.request_id else words

    @property
    def advice(self) -> str:
        """What a caller can do about it."""
        return ADVICE.get(self.code, "tell the gateway's operators, with the request's id")


def call(method: Callable[..., Answer], request: object, timeout: float = 30.0) -> Answer:
    """Makes a call; repeats it where the gateway says when, and while the time lasts.

    The repeated request is the same message: what changes something carries a request id, by which the gateway knows it again,
    and the other operations may be done twice.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            return method(request, timeout=end - time.monotonic())
        except grpc.RpcError as error:
            fault = Fault(error)
        # The delay is the gateway's. Where it names none, trying again does not help.
        delay = fault.retry_delay if fault.code in PASSING else None
        if delay is None or time.monotonic() + delay >= end:
            raise fault
        print(f"{fault.code.name} {fault.reason}: trying again in {delay:g} s", file=sys.stderr, flush=True)
        time.sleep(delay)


ERROR_DOMAIN = "portcullis.v1"

# What may be over in a moment.
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)

ADVICE = {
    grpc.StatusCode.INVALID_ARGUMENT: "correct the request",
    grpc.StatusCode.NOT_FOUND: "correct the name",
    grpc.StatusCode.ALREADY_EXISTS: "use what is there, or another name",
    grpc.StatusCode.UNAUTHENTICATED: "get a certificate that the gateway accepts",
    grpc.StatusCode.PERMISSION_DENIED: "ask those who write the gateway's policy",
    grpc.StatusCode.FAILED_PRECONDITION: "change the state of the key or its version first",
    grpc.StatusCode.ABORTED: "read the resource again, and repeat the change with its new etag",
    grpc.StatusCode.DEADLINE_EXCEEDED: "it may have been done: repeat a change with the same request id",
    grpc.StatusCode.UNAVAILABLE: "try again later",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "try again later",
    grpc.StatusCode.UNIMPLEMENTED: "use another mechanism, or a gateway that serves the call",
}

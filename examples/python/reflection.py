"""What the gateway serves, learnt from the gateway itself: lists its calls, or makes one with a request in JSON. Needs no stubs.

The same as grpcurl does: grpcurl -unix .portcullis-dev/portcullis.sock -plaintext list
"""

import argparse
import sys

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_database import DescriptorDatabase
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from connection import add_arguments, connect
from fault import Fault, call


def main() -> None:
    """Lists the calls, or makes one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("method", nargs="?", help="what to call, as portcullis.v1.KeyService/ListKeys; all are listed if absent")
    parser.add_argument("request", nargs="?", default="{}", help="the request in JSON")
    arguments = parser.parse_intermixed_args()
    with connect(arguments) as channel:
        try:
            pool = DescriptorPool(Reflection(channel))
            if arguments.method is None:
                list_methods(channel, pool)
            else:
                service, _, name = arguments.method.partition("/")
                method = pool.FindServiceByName(service).methods_by_name[name]
                print(json_format.MessageToJson(invoke(channel, method, arguments.request)))
        except Fault as fault:
            print(f"error: {fault}\n{fault.message}\nwhat to do: {fault.advice}", file=sys.stderr)
            raise SystemExit(1) from None
        except KeyError:
            raise SystemExit(f"the gateway knows no method {arguments.method}") from None
        except json_format.ParseError as error:
            raise SystemExit(f"not a request of {arguments.method}: {error}") from None


def list_methods(channel: grpc.Channel, pool: DescriptorPool) -> None:
    for service in Reflection(channel).services():
        for method in pool.FindServiceByName(service).methods:
            print(f"{service}/{method.name}({method.input_type.full_name}) returns {method.output_type.full_name}")


def invoke(channel: grpc.Channel, method: MethodDescriptor, request: str) -> object:
    """Makes a call without streams."""
    request_class, answer_class = (
        message_factory.GetMessageClass(message) for message in (method.input_type, method.output_type)
    )
    callable_ = channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=request_class.SerializeToString,
        response_deserializer=answer_class.FromString,
    )
    return call(callable_, json_format.Parse(request, request_class()))


class Reflection(DescriptorDatabase):
    """Descriptors by grpc.reflection.v1, whose messages have the bytes of those of v1alpha, which the package brings."""

    def __init__(self, channel: grpc.Channel) -> None:
        super().__init__()
        self._ask = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )

    def services(self) -> list[str]:
        """The names of the services."""
        answer = self._answer(ServerReflectionRequest(list_services="*"))
        return sorted(service.name for service in answer.list_services_response.service)

    def FindFileByName(self, name: str) -> FileDescriptorProto:
        return self._file(ServerReflectionRequest(file_by_filename=name))

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptorProto:
        return self._file(ServerReflectionRequest(file_containing_symbol=symbol))

    def _file(self, request: ServerReflectionRequest) -> FileDescriptorProto:
        answer = self._answer(request)
        return FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])

    def _answer(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        try:
            [answer] = self._ask(iter([request]), timeout=10.0)
        except grpc.RpcError as error:
            fault = Fault(error)
            if fault.code != grpc.StatusCode.NOT_FOUND:
                raise fault from None
            raise KeyError(fault.message) from None
        if answer.HasField("error_response"):
            raise KeyError(answer.error_response.error_message)
        return answer


if __name__ == "__main__":
    main()

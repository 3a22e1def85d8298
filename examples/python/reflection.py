"""What the gateway serves, learnt from the gateway itself: lists its calls, or makes one with a request in JSON. Needs no stubs.

The same as grpcurl does: grpcurl -unix .portcullis-dev/portcullis.sock -plaintext list
"""

import argparse
import sys

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

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
            served = ProtoReflectionDescriptorDatabase(channel)
            pool = DescriptorPool(served)
            if arguments.method is None:
                list_methods(served, pool)
            else:
                service, _, name = arguments.method.partition("/")
                method = pool.FindServiceByName(service).methods_by_name[name]
                print(json_format.MessageToJson(invoke(channel, method, arguments.request)))
        except (Fault, grpc.RpcError) as error:
            fault = error if isinstance(error, Fault) else Fault(error)
            print(f"error: {fault}\n{fault.message}\nwhat to do: {fault.advice}", file=sys.stderr)
            raise SystemExit(1) from None
        except KeyError:
            raise SystemExit(f"the gateway knows no method {arguments.method}") from None
        except json_format.ParseError as error:
            raise SystemExit(f"not a request of {arguments.method}: {error}") from None


def list_methods(served: ProtoReflectionDescriptorDatabase, pool: DescriptorPool) -> None:
    for service in sorted(served.get_services()):
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


if __name__ == "__main__":
    main()

"""Channels to the gateway: mTLS over TCP, or its Unix socket."""

import argparse
from pathlib import Path

import grpc


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a gateway and the caller's certificate, as `portcullis` has them."""
    parser.add_argument("endpoint", help="https://HOST:PORT, or unix:PATH")
    parser.add_argument("--cert", type=Path, metavar="FILE", help="the client certificate with its chain, PEM")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="the certificate's private key, PEM")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="the authorities that vouch for the gateway, PEM")


def connect(arguments: argparse.Namespace) -> grpc.Channel:
    """A channel. It connects with its first call; on the socket, the kernel says who the caller is."""
    endpoint = arguments.endpoint
    if endpoint.startswith("unix:"):
        # Without this, gRPC makes the authority of the socket's path, which is no authority by RFC 3986: HTTP/2 servers that look
        # reset the stream (RST_STREAM with error code 1).
        return grpc.insecure_channel(endpoint, options=[("grpc.default_authority", "localhost")])
    address = endpoint.removeprefix("https://")
    if address == endpoint:
        raise SystemExit(f"an endpoint is https://HOST:PORT or unix:PATH, found {endpoint}")
    if not (arguments.cert and arguments.key_file and arguments.ca):
        raise SystemExit("https:// needs --cert, --key-file and --ca: the gateway knows its callers by their certificates")
    # The gateway speaks TLS 1.3 only, which gRPC chooses by itself.
    credentials = grpc.ssl_channel_credentials(
        root_certificates=read(arguments.ca),
        private_key=read(arguments.key_file),
        certificate_chain=read(arguments.cert),
    )
    return grpc.secure_channel(address, credentials)


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SystemExit(f"{file} cannot be read: {error.strerror}") from None

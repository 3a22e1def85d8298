"""A tour of Portcullis for a Python caller: keys, signatures, encryption, rotation, and what to do when something fails.

May be run again and again: what is there already is used.
"""

import argparse
import sys
import uuid
from collections.abc import Callable

import grpc
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from portcullis.v1 import crypto_pb2, crypto_pb2_grpc, keys_pb2, keys_pb2_grpc

from connection import add_arguments, connect
from fault import Fault, call


def main() -> None:
    """Takes the tour, and ends with 1 when a call fails that should not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--ring", default="tour-python", help="the key ring to use, made if it is missing")
    arguments = parser.parse_args()
    with connect(arguments) as channel:
        try:
            Tour(channel, arguments.ring).take()
        except Fault as fault:
            print(f"error: {fault}\n{fault.message}\nwhat to do: {fault.advice}", file=sys.stderr)
            raise SystemExit(1) from None


class Tour:
    """The tour in one key ring."""

    def __init__(self, channel: grpc.Channel, ring: str) -> None:
        self.keys = keys_pb2_grpc.KeyServiceStub(channel)
        self.crypto = crypto_pb2_grpc.CryptoServiceStub(channel)
        self.ring = f"keyRings/{ring}"

    def take(self) -> None:
        """All stations, in an order that leaves everything usable."""
        self.make_ring()
        signer = self.make_key("signer", keys_pb2.KEY_TYPE_EC_P256, keys_pb2.KEY_PURPOSE_SIGN_VERIFY)
        files = self.make_key("files", keys_pb2.KEY_TYPE_AES_256, keys_pb2.KEY_PURPOSE_ENCRYPT_DECRYPT)
        slow = self.make_key("slow", keys_pb2.KEY_TYPE_RSA_2048, keys_pb2.KEY_PURPOSE_SIGN_VERIFY)
        self.sign_and_verify(signer)
        self.encrypt_rotate_decrypt(files)
        self.forget_the_context(files)
        self.use_a_disabled_version(signer)
        self.use_a_missing_key()
        self.run_out_of_time(slow)
        print("done")

    def make_ring(self) -> None:
        ring_id = self.ring.removeprefix("keyRings/")
        request = keys_pb2.CreateKeyRingRequest(key_ring_id=ring_id, request_id=new_request_id())
        try:
            call(self.keys.CreateKeyRing, request)
            print(f"{self.ring}: created")
        except Fault as fault:
            if fault.reason != "KEY_RING_ALREADY_EXISTS":
                raise
            print(f"{self.ring}: is there already")

    def make_key(self, key_id: str, key_type: keys_pb2.KeyType, purpose: keys_pb2.KeyPurpose) -> str:
        """Creates a key if it is missing; returns its name."""
        request = keys_pb2.CreateKeyRequest(
            parent=self.ring,
            key_id=key_id,
            key=keys_pb2.Key(type=key_type, purpose=purpose),
            request_id=new_request_id(),
        )
        try:
            key = call(self.keys.CreateKey, request)
            print(f"{key.name}: created")
        except Fault as fault:
            if fault.reason != "KEY_ALREADY_EXISTS":
                raise
            key = call(self.keys.GetKey, keys_pb2.GetKeyRequest(name=f"{self.ring}/keys/{key_id}"))
            print(f"{key.name}: is there already")
        return key.name

    def sign_and_verify(self, key: str) -> None:
        """Verifies once by the gateway, and once here with nothing but the public key."""
        signed = call(self.crypto.Sign, crypto_pb2.SignRequest(name=key, message=MESSAGE))
        print(f"signed by {signed.name} with {keys_pb2.Mechanism.Name(signed.mechanism)}")

        public = call(self.keys.GetPublicKey, keys_pb2.GetPublicKeyRequest(name=signed.name))
        public_key = serialization.load_pem_public_key(public.public_key)
        for message, expected in [(MESSAGE, True), (b"another message", False)]:
            request = crypto_pb2.VerifyRequest(name=signed.name, message=message, signature=signed.signature)
            by_gateway = call(self.crypto.Verify, request).valid
            by_program = verifies(public_key, signed.signature, message)
            check(by_gateway == expected and by_program == expected, "gateway and program agree about the signature")
            words = "valid" if expected else "not valid"
            print(f"{message.decode()}: {words} says the gateway, {words} says this program")

    def encrypt_rotate_decrypt(self, key: str) -> None:
        """A rotation changes what encrypts; what was encrypted before stays readable."""
        request = crypto_pb2.EncryptRequest(name=key, plaintext=MESSAGE, encryption_context=CONTEXT)
        encrypted = call(self.crypto.Encrypt, request)
        print(f"encrypted under {encrypted.name}")

        # The second call is what a caller does that lost the first answer: one rotation, not two.
        rotate = keys_pb2.RotateKeyRequest(name=key, request_id=new_request_id())
        rotated = [call(self.keys.RotateKey, rotate).primary.name for _ in range(2)]
        check(rotated[0] == rotated[1] != encrypted.name, "a repeated request id rotates once")
        print(f"rotated, once for two calls with one request id: {rotated[0]}")

        request = crypto_pb2.DecryptRequest(name=key, ciphertext=encrypted.ciphertext, encryption_context=CONTEXT)
        decrypted = call(self.crypto.Decrypt, request)
        check(decrypted.plaintext == MESSAGE and not decrypted.used_primary, "an old version decrypts")
        print(f"decrypted under {decrypted.name}, no longer the primary version")

    def forget_the_context(self, key: str) -> None:
        request = crypto_pb2.EncryptRequest(name=key, plaintext=MESSAGE, encryption_context=CONTEXT)
        ciphertext = call(self.crypto.Encrypt, request).ciphertext
        request = crypto_pb2.DecryptRequest(
            name=key, ciphertext=ciphertext, encryption_context=crypto_pb2.EncryptionContext(values={"tenant": "other"})
        )
        fault = expect("DECRYPTION_FAILED", lambda: call(self.crypto.Decrypt, request))
        print(f"with another context: {fault}")

    def use_a_disabled_version(self, key: str) -> None:
        version = call(self.keys.GetKey, keys_pb2.GetKeyRequest(name=key)).primary.name

        def change(method: grpc.UnaryUnaryMultiCallable) -> None:
            request = keys_pb2.ChangeKeyVersionStateRequest(
                name=version, reason="the tour", request_id=new_request_id()
            )
            call(method, request)

        change(self.keys.DisableKeyVersion)
        try:
            sign = crypto_pb2.SignRequest(name=version, message=MESSAGE)
            fault = expect("KEY_STATE_FORBIDS_OPERATION", lambda: call(self.crypto.Sign, sign))
        finally:
            change(self.keys.EnableKeyVersion)
        print(f"with a disabled version: {fault}")
        call(self.crypto.Sign, sign)
        print("enabled again, and it signs")

    def use_a_missing_key(self) -> None:
        request = crypto_pb2.SignRequest(name=f"{self.ring}/keys/missing", message=MESSAGE)
        fault = expect("KEY_NOT_FOUND", lambda: call(self.crypto.Sign, request))
        print(f"with a missing key: {fault}")

    def run_out_of_time(self, key: str) -> None:
        """An RSA key takes longer to find than this caller waits. It cannot know what became of the rotation, so it asks again
        with the same request id."""
        before = call(self.keys.GetKey, keys_pb2.GetKeyRequest(name=key)).primary_version
        rotate = keys_pb2.RotateKeyRequest(name=key, request_id=new_request_id())
        try:
            call(self.keys.RotateKey, rotate, timeout=0.005)
            raise AssertionError("an RSA key was made within 5 ms")
        except Fault as fault:
            if fault.code != grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            # A reason is there only if the gateway's clock was first.
            print(f"within 5 ms: {fault.code.name}")
        after = call(self.keys.RotateKey, rotate, timeout=90.0).primary_version
        check(after == before + 1, "a repeated request id rotates once")
        print(f"with the same request id and more time: rotated once, to version {after}")


def verifies(public_key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    try:
        public_key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def expect(reason: str, refused: Callable[[], object]) -> Fault:
    """The fault of a call that must fail for a reason."""
    try:
        refused()
    except Fault as fault:
        if fault.reason != reason:
            raise
        return fault
    raise AssertionError(f"a call succeeded that should fail with {reason}")


def check(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(f"not so: {what}")


def new_request_id() -> str:
    """One for each change, and the same for each repetition of it."""
    return str(uuid.uuid4())


MESSAGE = b"the quarterly figures"
CONTEXT = crypto_pb2.EncryptionContext(values={"tenant": "example", "document": "figures"})

if __name__ == "__main__":
    main()

package portcullis.example;

import com.google.protobuf.ByteString;
import io.grpc.Channel;
import io.grpc.Status;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.X509EncodedKeySpec;
import java.time.Duration;
import java.util.Map;
import java.util.UUID;
import javax.net.ssl.SSLException;
import portcullis.v1.ChangeKeyVersionStateRequest;
import portcullis.v1.CreateKeyRequest;
import portcullis.v1.CreateKeyRingRequest;
import portcullis.v1.CryptoServiceGrpc.CryptoServiceBlockingStub;
import portcullis.v1.CryptoServiceGrpc;
import portcullis.v1.DecryptRequest;
import portcullis.v1.EncryptRequest;
import portcullis.v1.EncryptionContext;
import portcullis.v1.GetKeyRequest;
import portcullis.v1.GetPublicKeyRequest;
import portcullis.v1.Key;
import portcullis.v1.KeyPurpose;
import portcullis.v1.KeyServiceGrpc.KeyServiceBlockingStub;
import portcullis.v1.KeyServiceGrpc;
import portcullis.v1.KeyType;
import portcullis.v1.PublicKeyFormat;
import portcullis.v1.RotateKeyRequest;
import portcullis.v1.SignRequest;
import portcullis.v1.VerifyRequest;

/**
 * A tour of Portcullis for a Java caller: keys, signatures, encryption, rotation, and what to do when something fails.
 *
 * <p>May be run again and again: what is there already is used.
 */
public final class Tour {
    private static final ByteString MESSAGE = ByteString.copyFromUtf8("the quarterly figures");
    private static final EncryptionContext CONTEXT = EncryptionContext.newBuilder()
            .putAllValues(Map.of("tenant", "example", "document", "figures"))
            .build();

    private final KeyServiceBlockingStub keys;
    private final CryptoServiceBlockingStub crypto;
    private final String ringId;

    private Tour(Channel channel, String ringId) {
        keys = KeyServiceGrpc.newBlockingStub(channel);
        crypto = CryptoServiceGrpc.newBlockingStub(channel);
        this.ringId = ringId;
    }

    /** Takes the tour, and ends with 1 when a call fails that should not, and with 2 when the command line is wrong. */
    public static void main(String[] words) throws GeneralSecurityException {
        try {
            var arguments = Arguments.parse(words);
            try (var connection = new Connection(arguments)) {
                new Tour(connection.channel(), arguments.ring()).take();
            }
        } catch (Fault fault) {
            System.err.printf("error: %s%n%s%nwhat to do: %s%n", fault.getMessage(), fault.words, fault.advice());
            System.exit(1);
        } catch (Arguments.Wrong wrong) {
            System.err.printf("%s%n%s%n", wrong.getMessage(), Arguments.USAGE);
            System.exit(2);
        } catch (SSLException | IllegalArgumentException error) {
            System.err.println("the certificate, key or authorities cannot be used: " + error.getMessage());
            System.exit(2);
        }
    }

    /** All stations, in an order that leaves everything usable. */
    private void take() throws Fault, GeneralSecurityException {
        makeRing();
        String signer = makeKey("signer", KeyType.KEY_TYPE_EC_P256, KeyPurpose.KEY_PURPOSE_SIGN_VERIFY);
        String files = makeKey("files", KeyType.KEY_TYPE_AES_256, KeyPurpose.KEY_PURPOSE_ENCRYPT_DECRYPT);
        String slow = makeKey("slow", KeyType.KEY_TYPE_RSA_2048, KeyPurpose.KEY_PURPOSE_SIGN_VERIFY);
        signAndVerify(signer);
        encryptRotateDecrypt(files);
        forgetTheContext(files);
        useADisabledVersion(signer);
        useAMissingKey();
        runOutOfTime(slow);
        System.out.println("done");
    }

    private String ring() {
        return "keyRings/" + ringId;
    }

    private void makeRing() throws Fault {
        var request = CreateKeyRingRequest.newBuilder().setKeyRingId(ringId).setRequestId(newRequestId()).build();
        try {
            Call.make(keys, stub -> stub.createKeyRing(request));
            System.out.println(ring() + ": created");
        } catch (Fault fault) {
            if (!"KEY_RING_ALREADY_EXISTS".equals(fault.reason)) {
                throw fault;
            }
            System.out.println(ring() + ": is there already");
        }
    }

    /** Creates a key if it is missing; returns its name. */
    private String makeKey(String id, KeyType type, KeyPurpose purpose) throws Fault {
        var request = CreateKeyRequest.newBuilder()
                .setParent(ring())
                .setKeyId(id)
                .setKey(Key.newBuilder().setType(type).setPurpose(purpose))
                .setRequestId(newRequestId())
                .build();
        try {
            String name = Call.make(keys, stub -> stub.createKey(request)).getName();
            System.out.println(name + ": created");
            return name;
        } catch (Fault fault) {
            if (!"KEY_ALREADY_EXISTS".equals(fault.reason)) {
                throw fault;
            }
            String name = key(ring() + "/keys/" + id).getName();
            System.out.println(name + ": is there already");
            return name;
        }
    }

    private Key key(String name) throws Fault {
        return Call.make(keys, stub -> stub.getKey(GetKeyRequest.newBuilder().setName(name).build()));
    }

    /** Verifies once by the gateway, and once here with nothing but the public key. */
    private void signAndVerify(String key) throws Fault, GeneralSecurityException {
        var sign = SignRequest.newBuilder().setName(key).setMessage(MESSAGE).build();
        var signed = Call.make(crypto, stub -> stub.sign(sign));
        System.out.printf("signed by %s with %s%n", signed.getName(), signed.getMechanism());

        var get = GetPublicKeyRequest.newBuilder()
                .setName(signed.getName())
                .setFormat(PublicKeyFormat.PUBLIC_KEY_FORMAT_DER)
                .build();
        var encoded = Call.make(keys, stub -> stub.getPublicKey(get)).getPublicKey();
        var publicKey = KeyFactory.getInstance("EC").generatePublic(new X509EncodedKeySpec(encoded.toByteArray()));
        for (String message : new String[] {MESSAGE.toStringUtf8(), "another message"}) {
            boolean expected = message.equals(MESSAGE.toStringUtf8());
            var verify = VerifyRequest.newBuilder()
                    .setName(signed.getName())
                    .setMessage(ByteString.copyFromUtf8(message))
                    .setSignature(signed.getSignature())
                    .build();
            boolean byGateway = Call.make(crypto, stub -> stub.verify(verify)).getValid();
            boolean byProgram = verifies(publicKey, signed.getSignature(), message);
            check(byGateway == expected && byProgram == expected, "gateway and program agree about the signature");
            String says = expected ? "valid" : "not valid";
            System.out.printf("%s: %s says the gateway, %s says this program%n", message, says, says);
        }
    }

    /** A rotation changes what encrypts; what was encrypted before stays readable. */
    private void encryptRotateDecrypt(String key) throws Fault {
        var encrypt = EncryptRequest.newBuilder()
                .setName(key)
                .setPlaintext(MESSAGE)
                .setEncryptionContext(CONTEXT)
                .build();
        var encrypted = Call.make(crypto, stub -> stub.encrypt(encrypt));
        System.out.println("encrypted under " + encrypted.getName());

        // The second call is what a caller does that lost the first answer: one rotation, not two.
        var rotate = RotateKeyRequest.newBuilder().setName(key).setRequestId(newRequestId()).build();
        String rotated = Call.make(keys, stub -> stub.rotateKey(rotate)).getPrimary().getName();
        String again = Call.make(keys, stub -> stub.rotateKey(rotate)).getPrimary().getName();
        check(rotated.equals(again) && !rotated.equals(encrypted.getName()), "a repeated request id rotates once");
        System.out.println("rotated, once for two calls with one request id: " + rotated);

        var decrypt = DecryptRequest.newBuilder()
                .setName(key)
                .setCiphertext(encrypted.getCiphertext())
                .setEncryptionContext(CONTEXT)
                .build();
        var decrypted = Call.make(crypto, stub -> stub.decrypt(decrypt));
        check(decrypted.getPlaintext().equals(MESSAGE) && !decrypted.getUsedPrimary(), "an old version decrypts");
        System.out.printf("decrypted under %s, no longer the primary version%n", decrypted.getName());
    }

    private void forgetTheContext(String key) throws Fault {
        var encrypt = EncryptRequest.newBuilder()
                .setName(key)
                .setPlaintext(MESSAGE)
                .setEncryptionContext(CONTEXT)
                .build();
        var ciphertext = Call.make(crypto, stub -> stub.encrypt(encrypt)).getCiphertext();
        var decrypt = DecryptRequest.newBuilder()
                .setName(key)
                .setCiphertext(ciphertext)
                .setEncryptionContext(EncryptionContext.newBuilder().putValues("tenant", "other"))
                .build();
        var fault = expect("DECRYPTION_FAILED", () -> Call.make(crypto, stub -> stub.decrypt(decrypt)));
        System.out.println("with another context: " + fault.getMessage());
    }

    private void useADisabledVersion(String key) throws Fault {
        String version = key(key).getPrimary().getName();
        var sign = SignRequest.newBuilder().setName(version).setMessage(MESSAGE).build();
        var disable = change(version);
        Call.make(keys, stub -> stub.disableKeyVersion(disable));
        try {
            var fault = expect("KEY_STATE_FORBIDS_OPERATION", () -> Call.make(crypto, stub -> stub.sign(sign)));
            System.out.println("with a disabled version: " + fault.getMessage());
        } finally {
            var enable = change(version);
            Call.make(keys, stub -> stub.enableKeyVersion(enable));
        }
        Call.make(crypto, stub -> stub.sign(sign));
        System.out.println("enabled again, and it signs");
    }

    private void useAMissingKey() throws Fault {
        var sign = SignRequest.newBuilder().setName(ring() + "/keys/missing").setMessage(MESSAGE).build();
        var fault = expect("KEY_NOT_FOUND", () -> Call.make(crypto, stub -> stub.sign(sign)));
        System.out.println("with a missing key: " + fault.getMessage());
    }

    /**
     * An RSA key takes longer to find than this caller waits. It cannot know what became of the rotation, so it asks again with the
     * same request id.
     */
    private void runOutOfTime(String key) throws Fault {
        int before = key(key).getPrimaryVersion();
        var rotate = RotateKeyRequest.newBuilder().setName(key).setRequestId(newRequestId()).build();
        try {
            Call.make(keys, Duration.ofMillis(5), stub -> stub.rotateKey(rotate));
            throw new IllegalStateException("an RSA key was made within 5 ms");
        } catch (Fault fault) {
            if (fault.code != Status.Code.DEADLINE_EXCEEDED) {
                throw fault;
            }
            // A reason is there only if the gateway's clock was first.
            System.out.println("within 5 ms: " + fault.code);
        }
        int after = Call.make(keys, Duration.ofSeconds(90), stub -> stub.rotateKey(rotate)).getPrimaryVersion();
        check(after == before + 1, "a repeated request id rotates once");
        System.out.println("with the same request id and more time: rotated once, to version " + after);
    }

    private static ChangeKeyVersionStateRequest change(String version) {
        return ChangeKeyVersionStateRequest.newBuilder()
                .setName(version)
                .setReason("the tour")
                .setRequestId(newRequestId())
                .build();
    }

    private static boolean verifies(PublicKey key, ByteString signature, String message) throws GeneralSecurityException {
        var verifier = Signature.getInstance("SHA256withECDSA");
        verifier.initVerify(key);
        verifier.update(message.getBytes(StandardCharsets.UTF_8));
        return verifier.verify(signature.toByteArray());
    }

    /** A call that is made for its fault. */
    private interface Refused {
        Object call() throws Fault;
    }

    /** The fault of a call that must fail for a reason. */
    private static Fault expect(String reason, Refused refused) throws Fault {
        try {
            refused.call();
        } catch (Fault fault) {
            if (!reason.equals(fault.reason)) {
                throw fault;
            }
            return fault;
        }
        throw new IllegalStateException("a call succeeded that should fail with " + reason);
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException("not so: " + what);
        }
    }

    /** One for each change, and the same for each repetition of it. */
    private static String newRequestId() {
        return UUID.randomUUID().toString();
    }
}

package portcullis.example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.TreeMap;

/**
 * A call that failed.
 *
 * <p>Programs decide by {@code code} and {@code reason}; {@code words} are for people. There is no reason where the gateway did not
 * answer: it could not be reached, or the time was up here first.
 */
final class Fault extends Exception {
    private static final long serialVersionUID = 1;
    private static final String ERROR_DOMAIN = "portcullis.v1";

    final Status.Code code;
    final String words;
    final String reason;
    final String requestId;
    private final transient Map<String, String> facts = new TreeMap<>();
    private final Duration retryDelay;

    Fault(StatusRuntimeException error) {
        super(error);
        Status status = error.getStatus();
        code = status.getCode();
        words = inWords(status);
        String reason = null;
        Duration retryDelay = null;
        var details = StatusProto.fromThrowable(error);
        try {
            for (Any detail : details.getDetailsList()) {
                if (detail.is(ErrorInfo.class) && detail.unpack(ErrorInfo.class).getDomain().equals(ERROR_DOMAIN)) {
                    var info = detail.unpack(ErrorInfo.class);
                    reason = info.getReason();
                    facts.putAll(info.getMetadataMap());
                } else if (detail.is(RetryInfo.class)) {
                    var delay = detail.unpack(RetryInfo.class).getRetryDelay();
                    retryDelay = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
                }
            }
        } catch (InvalidProtocolBufferException malformed) {
            addSuppressed(malformed);
        }
        this.reason = reason;
        this.retryDelay = retryDelay;
        requestId = facts.remove("request_id");
    }

    /** What the gateway said; or why it could not be reached, which stands at the end of a row of causes. */
    private static String inWords(Status status) {
        Throwable cause = status.getCause();
        while (cause != null && cause.getCause() != null) {
            cause = cause.getCause();
        }
        return cause == null ? Objects.requireNonNullElse(status.getDescription(), "") : cause.toString();
    }

    /** When the gateway says that another try may help. */
    Optional<Duration> retryDelay() {
        return Optional.ofNullable(retryDelay);
    }

    @Override
    public String getMessage() {
        var text = new StringBuilder(code.name()).append(' ').append(reason == null ? "without an answer" : reason);
        if (!facts.isEmpty()) {
            text.append(' ').append(facts.toString().replace('{', '(').replace('}', ')'));
        }
        return requestId == null ? text.toString() : text.append(", request ").append(requestId).toString();
    }

    /** What a caller can do about it. */
    String advice() {
        return switch (code) {
            case INVALID_ARGUMENT -> "correct the request";
            case NOT_FOUND -> "correct the name";
            case ALREADY_EXISTS -> "use what is there, or another name";
            case UNAUTHENTICATED -> "get a certificate that the gateway accepts";
            case PERMISSION_DENIED -> "ask those who write the gateway's policy";
            case FAILED_PRECONDITION -> "change the state of the key or its version first";
            case ABORTED -> "read the resource again, and repeat the change with its new etag";
            case DEADLINE_EXCEEDED -> "it may have been done: repeat a change with the same request id";
            case UNAVAILABLE, RESOURCE_EXHAUSTED -> "try again later";
            case UNIMPLEMENTED -> "use another mechanism, or a gateway that serves the call";
            default -> "tell the gateway's operators, with the request's id";
        };
    }
}

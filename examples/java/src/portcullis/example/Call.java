package portcullis.example;

import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.AbstractBlockingStub;
import java.math.BigDecimal;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** Makes calls, and repeats them where the gateway says when. */
final class Call {
    private static final Duration USUAL = Duration.ofSeconds(30);
    /** What may be over in a moment. */
    private static final Set<Status.Code> PASSING = Set.of(Status.Code.UNAVAILABLE, Status.Code.RESOURCE_EXHAUSTED);

    private Call() {}

    static <S extends AbstractBlockingStub<S>, A> A make(S stub, Function<S, A> call) throws Fault {
        return make(stub, USUAL, call);
    }

    /**
     * Makes a call within a time, its repetitions included.
     *
     * <p>The repeated request is the same message: what changes something carries a request id, by which the gateway knows it again,
     * and the other operations may be done twice.
     */
    static <S extends AbstractBlockingStub<S>, A> A make(S stub, Duration within, Function<S, A> call) throws Fault {
        long end = System.nanoTime() + within.toNanos();
        while (true) {
            try {
                return call.apply(stub.withDeadlineAfter(end - System.nanoTime(), TimeUnit.NANOSECONDS));
            } catch (StatusRuntimeException error) {
                waitToRepeat(new Fault(error), end);
            }
        }
    }

    private static void waitToRepeat(Fault fault, long end) throws Fault {
        // The delay is the gateway's. Where it names none, trying again does not help.
        Duration delay = fault.retryDelay().filter(named -> PASSING.contains(fault.code)).orElseThrow(() -> fault);
        if (System.nanoTime() + delay.toNanos() >= end) {
            throw fault;
        }
        System.err.printf("%s %s: trying again in %s s%n", fault.code, fault.reason, seconds(delay));
        try {
            Thread.sleep(delay.toMillis());
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw fault;
        }
    }

    private static String seconds(Duration delay) {
        return BigDecimal.valueOf(delay.toMillis(), 3).stripTrailingZeros().toPlainString();
    }
}

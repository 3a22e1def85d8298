package portcullis.example;

import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelConfig;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelOption;
import io.netty.channel.DefaultChannelConfig;
import io.netty.channel.FileRegion;
import io.netty.channel.nio.AbstractNioByteChannel;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.SocketAddress;
import java.net.StandardProtocolFamily;
import java.nio.channels.SelectionKey;
import java.nio.channels.SocketChannel;

/**
 * A client's Unix socket for Netty, by the JDK (16 and newer).
 *
 * <p>Netty has such a channel of its own, which needs its native epoll library; Debian's package comes without it. Where the library
 * is there, use {@code EpollDomainSocketChannel} with a {@code DomainSocketAddress} instead.
 */
final class UnixChannel extends AbstractNioByteChannel {
    private final ChannelConfig config = new Config(this);

    UnixChannel() {
        super(null, open());
    }

    private static SocketChannel open() {
        try {
            return SocketChannel.open(StandardProtocolFamily.UNIX);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    @Override
    protected SocketChannel javaChannel() {
        return (SocketChannel) super.javaChannel();
    }

    @Override
    public ChannelConfig config() {
        return config;
    }

    @Override
    public boolean isActive() {
        return javaChannel().isOpen() && javaChannel().isConnected();
    }

    @Override
    protected boolean doConnect(SocketAddress remote, SocketAddress local) throws IOException {
        boolean connected = false;
        try {
            boolean finished = javaChannel().connect(remote);
            if (!finished) {
                selectionKey().interestOps(SelectionKey.OP_CONNECT);
            }
            connected = true;
            return finished;
        } finally {
            if (!connected) {
                doClose();
            }
        }
    }

    @Override
    protected void doFinishConnect() throws IOException {
        if (!javaChannel().finishConnect()) {
            throw new IOException("the connection is not there yet");
        }
    }

    @Override
    protected int doReadBytes(ByteBuf into) throws IOException {
        var handle = unsafe().recvBufAllocHandle();
        handle.attemptedBytesRead(into.writableBytes());
        return into.writeBytes(javaChannel(), handle.attemptedBytesRead());
    }

    @Override
    protected int doWriteBytes(ByteBuf from) throws IOException {
        return from.readBytes(javaChannel(), from.readableBytes());
    }

    @Override
    protected long doWriteFileRegion(FileRegion region) throws IOException {
        return region.transferTo(javaChannel(), region.transferred());
    }

    @Override
    protected ChannelFuture shutdownInput() {
        try {
            javaChannel().shutdownInput();
            return newSucceededFuture();
        } catch (IOException error) {
            return newFailedFuture(error);
        }
    }

    @Override
    protected void doBind(SocketAddress local) {
        throw new UnsupportedOperationException("a client's socket has no name");
    }

    @Override
    protected void doDisconnect() throws IOException {
        doClose();
    }

    @Override
    protected void doClose() throws IOException {
        javaChannel().close();
    }

    @Override
    protected SocketAddress localAddress0() {
        try {
            return javaChannel().getLocalAddress();
        } catch (IOException error) {
            return null;
        }
    }

    @Override
    protected SocketAddress remoteAddress0() {
        try {
            return javaChannel().getRemoteAddress();
        } catch (IOException error) {
            return null;
        }
    }

    /** gRPC sets an option of TCP on every channel, which a Unix socket does not have and does not need. */
    private static final class Config extends DefaultChannelConfig {
        Config(UnixChannel channel) {
            super(channel);
        }

        @Override
        public <T> boolean setOption(ChannelOption<T> option, T value) {
            return option == ChannelOption.SO_KEEPALIVE || super.setOption(option, value);
        }
    }
}

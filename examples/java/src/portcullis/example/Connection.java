package portcullis.example;

import io.grpc.ManagedChannel;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.util.concurrent.DefaultThreadFactory;
import java.io.File;
import java.net.UnixDomainSocketAddress;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLException;

/** A channel to the gateway: mTLS over TCP, or its Unix socket. */
final class Connection implements AutoCloseable {
    private final EventLoopGroup loop = new NioEventLoopGroup(1, new DefaultThreadFactory("portcullis", true));
    private final ManagedChannel channel;

    /** Connects with the first call. On the socket, the kernel says who the caller is. */
    Connection(Arguments arguments) throws SSLException {
        String endpoint = arguments.endpoint();
        if (endpoint.startsWith("unix:")) {
            channel = overSocket(endpoint.substring("unix:".length()));
        } else if (endpoint.startsWith("https://")) {
            channel = overTls(endpoint.substring("https://".length()), arguments);
        } else {
            throw new Arguments.Wrong("an endpoint is https://HOST:PORT or unix:PATH, found " + endpoint);
        }
    }

    /** What the stubs call through. */
    ManagedChannel channel() {
        return channel;
    }

    @Override
    public void close() {
        channel.shutdownNow();
        loop.shutdownGracefully(0, 1, TimeUnit.SECONDS).awaitUninterruptibly();
    }

    private ManagedChannel overTls(String address, Arguments arguments) throws SSLException {
        File certificate = arguments.required("--cert");
        File privateKey = arguments.required("--key-file");
        File authorities = arguments.required("--ca");
        // The gateway speaks nothing older. The private key is PKCS#8 ("BEGIN PRIVATE KEY"). gRPC has Netty check that the
        // gateway's certificate is for the host.
        var tls = GrpcSslContexts.forClient()
                .protocols("TLSv1.3")
                .keyManager(certificate, privateKey)
                .trustManager(authorities)
                .build();
        return NettyChannelBuilder.forTarget("dns:///" + address)
                .sslContext(tls)
                .eventLoopGroup(loop)
                .channelType(NioSocketChannel.class)
                .build();
    }

    private ManagedChannel overSocket(String path) {
        // The authority that would be made of the address is none by RFC 3986, and the gateway's HTTP/2 refuses it.
        return NettyChannelBuilder.forAddress(UnixDomainSocketAddress.of(path))
                .overrideAuthority("localhost")
                .usePlaintext()
                .eventLoopGroup(loop)
                .channelFactory(UnixChannel::new)
                .build();
    }
}

package portcullis.example;

import java.io.File;
import java.util.HashMap;
import java.util.Map;

/** The command line: the gateway's endpoint, and options named as those of {@code portcullis}. */
record Arguments(String endpoint, Map<String, String> options) {
    static final String USAGE =
            """
            usage: tour ENDPOINT [--cert FILE] [--key-file FILE] [--ca FILE] [--ring RING]
              ENDPOINT         https://HOST:PORT, or unix:PATH
              --cert FILE      the client certificate with its chain, PEM
              --key-file FILE  the certificate's private key, PKCS#8 in PEM
              --ca FILE        the authorities that vouch for the gateway, PEM
              --ring RING      the key ring to use, made if it is missing (default: tour-java)""";

    /** What a command line got wrong. */
    static final class Wrong extends IllegalArgumentException {
        private static final long serialVersionUID = 1;

        Wrong(String message) {
            super(message);
        }
    }

    static Arguments parse(String[] words) {
        String endpoint = null;
        Map<String, String> options = new HashMap<>();
        for (int at = 0; at < words.length; at++) {
            switch (words[at]) {
                case "--cert", "--key-file", "--ca", "--ring" -> {
                    if (at + 1 == words.length) {
                        throw new Wrong(words[at] + " needs a value");
                    }
                    options.put(words[at], words[++at]);
                }
                default -> {
                    if (endpoint != null || words[at].startsWith("-")) {
                        throw new Wrong("not an argument: " + words[at]);
                    }
                    endpoint = words[at];
                }
            }
        }
        if (endpoint == null) {
            throw new Wrong("an endpoint is missing");
        }
        return new Arguments(endpoint, options);
    }

    /** A file without which the gateway cannot be reached over TCP. */
    File required(String option) {
        String path = options.get(option);
        if (path == null) {
            throw new Wrong("https:// needs --cert, --key-file and --ca: the gateway knows its callers by their certificates");
        }
        return new File(path);
    }

    String ring() {
        return options.getOrDefault("--ring", "tour-java");
    }
}

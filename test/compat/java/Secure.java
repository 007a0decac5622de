import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

/**
 * Logs in with Apache Kafka's own client where rules are in force. Usage: java Secure HOST:PORT CAFILE PASSWORD
 * alice may write and read the topic "secure", and use groups "secure-*".
 */
public final class Secure {
    private static int passed;

    private static void check(String name, boolean ok, Object detail) {
        if (!ok) {
            System.err.println("java, secure: " + name + " failed: " + detail);
            System.exit(1);
        }
        passed++;
    }

    private interface Call { Object run() throws Exception; }

    /** Calls what is to be refused with an error of a class. */
    private static void refused(String name, Class<? extends Exception> with, Call call) {
        try {
            check(name, false, "it got " + call.run());
        } catch (Exception e) {
            Throwable cause = e instanceof ExecutionException ? e.getCause() : e;
            check(name, with.isInstance(cause), e);
        }
    }

    public static void main(String[] args) throws Exception {
        for (String mechanism : List.of("SCRAM-SHA-512", "PLAIN")) {
            Map<String, Object> alice = login(args, mechanism, args[2]);
            check(mechanism + ", produce", produce(alice, "secure") >= 0, "");
            check(mechanism + ", consume", consume(alice, "secure-" + mechanism) > 0, "nothing");
        }
        Map<String, Object> alice = login(args, "SCRAM-SHA-512", args[2]);
        refused("another's topic", TopicAuthorizationException.class, () -> produce(alice, "others"));
        refused("another's group", GroupAuthorizationException.class, () -> consume(alice, "others"));
        try (Admin admin = Admin.create(alice)) {
            refused("rules", ClusterAuthorizationException.class, () -> admin.describeAcls(AclBindingFilter.ANY).values().get(10, TimeUnit.SECONDS));
            refused("a new topic", TopicAuthorizationException.class,
                () -> admin.createTopics(List.of(new NewTopic("others", 1, (short) 1))).all().get(10, TimeUnit.SECONDS));
        }
        for (String mechanism : List.of("SCRAM-SHA-512", "PLAIN")) {
            refused(mechanism + ", a wrong password", SaslAuthenticationException.class, () -> produce(login(args, mechanism, "another"), "secure"));
        }
        System.out.println("java, secure: " + passed + " passed, 0 failed");
    }

    private static Map<String, Object> login(String[] args, String mechanism, String password) throws Exception {
        String module = mechanism.equals("PLAIN") ? "plain.PlainLoginModule" : "scram.ScramLoginModule";
        return new HashMap<>(Map.of("bootstrap.servers", args[0], "security.protocol", "SASL_SSL",
            "ssl.truststore.type", "PEM", "ssl.truststore.certificates", Files.readString(Path.of(args[1])), "sasl.mechanism", mechanism,
            "sasl.jaas.config", "org.apache.kafka.common.security." + module + " required username=\"alice\" password=\"" + password + "\";",
            "default.api.timeout.ms", 9000, "request.timeout.ms", 5000));
    }

    private static long produce(Map<String, Object> login, String topic) throws Exception {
        Map<String, Object> config = new HashMap<>(login);
        config.putAll(Map.of("max.block.ms", 8000, "delivery.timeout.ms", 8000));
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            return producer.send(new ProducerRecord<>(topic, "from java")).get(10, TimeUnit.SECONDS).offset();
        }
    }

    private static int consume(Map<String, Object> login, String group) {
        Map<String, Object> config = new HashMap<>(login);
        config.putAll(Map.of("group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", false));
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of("secure"));
            for (long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(9); System.nanoTime() < deadline;) {
                int n = consumer.poll(Duration.ofMillis(200)).count();
                if (n > 0) {
                    consumer.commitSync();
                    return n;
                }
            }
            return 0;
        }
    }
}

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

/**
 * Writes what each SDK and client writes alike to the topic java, and prints what it reads of each topic to
 * DIR/java-TOPIC, in one JVM. Usage: java Interchange BROKER DIR TOPIC...
 */
public final class Interchange {
    private static final int RECORDS = 8;
    private static final long TIMESTAMP = 1_700_000_000_000L;

    public static void main(String[] args) throws Exception {
        write(args[0], "java");
        for (String topic : Arrays.copyOfRange(args, 2, args.length)) {
            try (PrintStream out = new PrintStream(Files.newOutputStream(Path.of(args[1], "java-" + topic)))) {
                read(args[0], topic, out);
            }
        }
    }

    private static void write(String broker, String topic) throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            Map<String, Object> config = Map.of("bootstrap.servers", broker, "compression.type", codec, "linger.ms", 50);
            try (Producer<byte[], byte[]> producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
                List<Future<RecordMetadata>> results = new ArrayList<>();
                for (int i = 0; i < RECORDS; i++) {
                    byte[] key = i == 3 ? null : i == 4 ? new byte[0] : bytes(codec + "-" + i);
                    byte[] value = i == 5 ? null : i == 6 ? new byte[0] : bytes(("value " + i + " of " + codec + " ").repeat(20));
                    List<Header> headers = new ArrayList<>(List.of(new RecordHeader("n", bytes("" + i))));
                    if (i == 2) {
                        headers.add(new RecordHeader("n", bytes("again")));
                        headers.add(new RecordHeader("empty", new byte[0]));
                        headers.add(new RecordHeader("none", (byte[]) null));
                    }
                    results.add(producer.send(new ProducerRecord<>(topic, 0, TIMESTAMP + i, key, value, headers)));
                }
                for (Future<RecordMetadata> result : results) {
                    result.get();
                }
            }
        }
    }

    private static void read(String broker, String topic, PrintStream out) {
        TopicPartition partition = new TopicPartition(topic, 0);
        Map<String, Object> config = Map.of("bootstrap.servers", broker);
        try (Consumer<byte[], byte[]> consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            while (consumer.position(partition) < end) {
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(200))) {
                    StringJoiner headers = new StringJoiner(",").setEmptyValue("-");
                    for (Header h : r.headers()) {
                        headers.add(h.key() + "=" + printed(h.value()));
                    }
                    out.println(r.offset() + " " + r.timestamp() + " " + printed(r.key()) + " " + printed(r.value()) + " " + headers);
                }
            }
        }
    }

    private static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    private static String printed(byte[] b) {
        return b == null ? "-" : b.length == 0 ? "." : HexFormat.of().formatHex(b);
    }
}

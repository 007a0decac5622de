import java.io.*;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.regex.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;

/**
 * Counts words with Kafka Streams under exactly_once_v2, while an instance is closed and
 * started again, another is killed, and rustmq is killed and started again. Every count of
 * every word must be there once and in order.
 *
 * Usage: java Streams RUSTMQ DIR, the binary and an empty directory;
 * java Streams instance BROKER DIR is what the first starts to have something to kill.
 * STREAMS_VERBOSE=1 prints how long each step takes.
 */
public final class Streams {
    private static final String APP = "words";
    private static final int ROUNDS = 150;
    private static final List<String> WORDS = List.of("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "cats", "watch");

    private static int passed;
    private static Path dir;
    private static final List<Process> processes = new CopyOnWriteArrayList<>();
    private static final ExecutorService saying = Executors.newSingleThreadExecutor();

    private static void check(String name, boolean ok, Object detail) {
        if (!ok) {
            fail(name, detail);
        }
        passed++;
    }

    private static void fail(String name, Object detail) {
        System.out.println("streams: " + name + " failed: " + detail);
        // Streams and clients that are still at work do not hold this up.
        processes.forEach(Process::destroyForcibly);
        Runtime.getRuntime().halt(1);
    }

    /** As check, of what is looked at again and again. */
    private static void must(String name, boolean ok, Object detail) {
        if (!ok) {
            fail(name, detail);
        }
    }

    public static void main(String[] args) throws Exception {
        if (args[0].equals("instance")) {
            KafkaStreams streams = instance(args[1], Path.of(args[2]));
            streams.start();
            // Ends with the process that has started this one, if nothing kills it before.
            System.in.transferTo(OutputStream.nullOutputStream());
            Runtime.getRuntime().halt(0);
        }
        dir = Path.of(args[1]);
        // Halting does without; this is for a signal.
        Runtime.getRuntime().addShutdownHook(new Thread(() -> processes.forEach(Process::destroyForcibly)));
        Server server = new Server(args[0]);
        try {
            server.start();
            run(server);
        } catch (Exception failed) {
            failed.printStackTrace(System.out);
            fail("run", failed);
        }
        processes.forEach(Process::destroyForcibly);
        System.out.println("streams: " + passed + " passed, 0 failed");
        Runtime.getRuntime().halt(0);
    }

    /** The binary, which comes back to the same port and data. */
    private static final class Server {
        private final List<String> command;
        private Process process;
        String broker;

        Server(String binary) {
            command = List.of(binary, "serve", "--data-dir", dir.resolve("data").toString());
        }

        void start() throws Exception {
            List<String> line = new ArrayList<>(command);
            if (broker == null) {
                line.addAll(List.of("--ports", "free"));
            } else {
                line.addAll(List.of("--set", "network.kafka_port=" + broker.split(":")[1], "--set", "network.http_port=0"));
            }
            process = new ProcessBuilder(line).redirectError(ProcessBuilder.Redirect.appendTo(dir.resolve("rustmq.log").toFile())).start();
            processes.add(process);
            String ready = process.inputReader().readLine();
            Matcher kafka = Pattern.compile("\"kafka\":\"([^\"]+)\"").matcher(String.valueOf(ready));
            check("rustmq starts", kafka.find(), ready);
            broker = kafka.group(1);
        }

        void kill() throws Exception {
            process.destroyForcibly().waitFor();
        }
    }

    private static KafkaStreams instance(String broker, Path state) {
        Properties config = new Properties();
        config.putAll(Map.of(
            StreamsConfig.APPLICATION_ID_CONFIG, APP,
            StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, broker,
            StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2,
            StreamsConfig.STATE_DIR_CONFIG, state.toString(),
            StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1,
            // Each count is written, so that one that is doubled or lost shows.
            StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0,
            StreamsConfig.REPARTITION_PURGE_INTERVAL_MS_CONFIG, 500,
            StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class,
            StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class));
        // What a killed instance held is given to the other soon.
        config.putAll(Map.of(
            StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 6000,
            StreamsConfig.consumerPrefix(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG), 500,
            StreamsConfig.producerPrefix(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG), 8000));
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream("sentences")
            .flatMapValues(sentence -> List.of(sentence.split(" ")))
            .groupBy((key, word) -> word)
            .count(Materialized.as("counts"))
            .toStream()
            .to("counted", Produced.with(Serdes.String(), Serdes.Long()));
        return new KafkaStreams(builder.build(), config);
    }

    private static void run(Server server) throws Exception {
        String broker = server.broker;
        Map<String, Long> exact = new HashMap<>();
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", broker));
             Producer<String, String> producer = new KafkaProducer<>(Map.of("bootstrap.servers", broker, "acks", "all"),
                 new StringSerializer(), new StringSerializer());
             Counted counted = new Counted(broker)) {
            admin.createTopics(List.of(new NewTopic("sentences", 3, (short) 1), new NewTopic("counted", 2, (short) 1))).all().get(20, TimeUnit.SECONDS);

            KafkaStreams here = instance(broker, dir.resolve("here"));
            here.start();
            Process other = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC", "-Djava.io.tmpdir=" + System.getProperty("java.io.tmpdir"),
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", System.getProperty("java.class.path"), "Streams",
                "instance", broker, dir.resolve("other").toString())
                .redirectErrorStream(true).redirectOutput(dir.resolve("other.log").toFile()).start();
            processes.add(other);
            members(admin, 2);
            say(producer, exact);
            counted.until("two instances", exact);

            // An instance that is closed and started again finds its state and goes on.
            here.close(Duration.ofSeconds(20));
            say(producer, exact);
            here = instance(broker, dir.resolve("here"));
            here.start();
            members(admin, 2);
            counted.until("an instance started again", exact);

            // An instance that is killed has a transaction open: readers wait for its end.
            CountDownLatch killed = new CountDownLatch(1);
            Future<?> meanwhile = sayUntil(killed, producer, exact);
            counted.some();
            other.destroyForcibly().waitFor();
            killed.countDown();
            meanwhile.get();
            counted.until("an instance killed", exact);

            // The server is killed while transactions and requests are open.
            CountDownLatch restarted = new CountDownLatch(1);
            meanwhile = sayUntil(restarted, producer, exact);
            counted.some();
            server.kill();
            server.start();
            restarted.countDown();
            meanwhile.get();
            counted.until("rustmq killed", exact);
            check("streams run", here.state() == KafkaStreams.State.RUNNING, here.state());

            internal(admin, broker, exact);
            here.close(Duration.ofSeconds(20));
            check("streams closed", here.state() == KafkaStreams.State.NOT_RUNNING, here.state());
        }
    }

    /** Waits until so many members of the group have partitions. */
    private static void members(Admin admin, int count) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (true) {
            ClassicGroupDescription group = null;
            try {
                group = admin.describeClassicGroups(List.of(APP)).all().get(20, TimeUnit.SECONDS).get(APP);
                long with = group.members().stream().filter(member -> !member.assignment().topicPartitions().isEmpty()).count();
                if (group.state() == org.apache.kafka.common.ClassicGroupState.STABLE && with == count) {
                    check("members", true, group);
                    return;
                }
            } catch (ExecutionException none) {
                must("members", none.getCause() instanceof org.apache.kafka.common.errors.GroupIdNotFoundException, none);
            }
            must("members", System.nanoTime() < deadline, group);
            TimeUnit.MILLISECONDS.sleep(50);
        }
    }

    private static void say(Producer<String, String> producer, Map<String, Long> exact) throws Exception {
        sayUntil(new CountDownLatch(0), producer, exact).get();
    }

    /**
     * Sends sentences, a few at a time and at least so many rounds, until there are enough, and adds their
     * words to the exact counts.
     */
    private static Future<?> sayUntil(CountDownLatch enough, Producer<String, String> producer, Map<String, Long> exact) {
        Random random = new Random(exact.values().stream().mapToLong(n -> n).sum());
        return saying.submit(() -> {
            List<Future<RecordMetadata>> said = new ArrayList<>();
            for (int round = 0; round < ROUNDS || enough.getCount() > 0; round++) {
                if (round >= 10 * ROUNDS) {
                    enough.await(); // all of it is to be counted
                }
                for (int i = 0; i < 10; i++) {
                    List<String> words = new ArrayList<>();
                    for (int n = 1 + random.nextInt(4); n > 0; n--) {
                        words.add(WORDS.get(random.nextInt(WORDS.size())));
                        exact.merge(words.get(words.size() - 1), 1L, Long::sum);
                    }
                    said.add(producer.send(new ProducerRecord<>("sentences", "speaker " + i, String.join(" ", words))));
                }
                producer.flush();
            }
            for (Future<RecordMetadata> one : said) {
                one.get(60, TimeUnit.SECONDS);
            }
            return null;
        });
    }

    /** Reads what is committed of the counts: of each word 1, 2, 3, … */
    private static final class Counted implements AutoCloseable {
        private final KafkaConsumer<String, Long> consumer;
        private final Map<String, Long> counts = new HashMap<>();

        Counted(String broker) {
            consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", broker, "isolation.level", "read_committed", "auto.offset.reset", "earliest",
                "allow.auto.create.topics", false), new StringDeserializer(), new LongDeserializer());
            consumer.assign(List.of(new TopicPartition("counted", 0), new TopicPartition("counted", 1)));
        }

        private void poll() {
            for (ConsumerRecord<String, Long> record : consumer.poll(Duration.ofMillis(100))) {
                long before = counts.getOrDefault(record.key(), 0L);
                must("the next count", record.value() == before + 1, record.key() + ": " + record.value() + " after " + before + " at " + record.offset());
                counts.put(record.key(), record.value());
            }
        }

        private long sum() {
            return counts.values().stream().mapToLong(n -> n).sum();
        }

        /** Until something more is counted. */
        void some() {
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            for (long before = sum(); sum() == before;) {
                must("something counted", System.nanoTime() < deadline, counts);
                poll();
            }
        }

        void until(String name, Map<String, Long> exact) {
            long start = System.nanoTime();
            long deadline = start + TimeUnit.SECONDS.toNanos(90);
            while (!counts.equals(exact)) {
                must(name, System.nanoTime() < deadline, "counted " + new TreeMap<>(counts) + ", said " + new TreeMap<>(exact));
                poll();
            }
            check(name, true, "");
            if (System.getenv("STREAMS_VERBOSE") != null) {
                System.out.printf("%s: %.1f s, %d counts%n", name, (System.nanoTime() - start) / 1e9, sum());
            }
        }

        @Override
        public void close() {
            consumer.close();
        }
    }

    /** What Streams keeps for itself: a compacted changelog, and a topic it deletes records of. */
    private static void internal(Admin admin, String broker, Map<String, Long> exact) throws Exception {
        String changelog = APP + "-counts-changelog";
        String repartition = APP + "-counts-repartition";
        Map<String, String> configs = new HashMap<>();
        for (String topic : List.of(changelog, repartition)) {
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            Config config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            configs.put(topic, config.get("cleanup.policy").value());
            configs.put(topic + " retention", config.get("retention.ms").value());
        }
        check("cleanup policies", configs.get(changelog).equals("compact") && configs.get(repartition).equals("delete")
            && configs.get(repartition + " retention").equals("-1"), configs);

        Map<TopicPartition, OffsetSpec> first = new HashMap<>();
        Map<TopicPartition, OffsetSpec> last = new HashMap<>();
        Map<TopicPartition, OffsetSpec> changes = new HashMap<>();
        for (int i = 0; i < 3; i++) {
            first.put(new TopicPartition(repartition, i), OffsetSpec.earliest());
            last.put(new TopicPartition(repartition, i), OffsetSpec.latest());
            changes.put(new TopicPartition(changelog, i), OffsetSpec.latest());
        }
        // Streams deletes what it has committed; the markers after it may stay.
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (true) {
            long from = sum(admin, first);
            long to = sum(admin, last);
            if (from > to * 9 / 10) {
                check("repartition topic purged", true, "");
                break;
            }
            must("repartition topic purged", System.nanoTime() < deadline, from + " to " + to);
            TimeUnit.MILLISECONDS.sleep(50);
        }
        Map<String, Long> kept = new HashMap<>();
        Map<String, Object> config = Map.of("bootstrap.servers", broker, "isolation.level", "read_committed");
        try (KafkaConsumer<String, Long> consumer = new KafkaConsumer<>(config, new StringDeserializer(), new LongDeserializer())) {
            consumer.assign(changes.keySet());
            consumer.seekToBeginning(changes.keySet());
            var ends = admin.listOffsets(changes).all().get();
            deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
            while (!ends.entrySet().stream().allMatch(end -> consumer.position(end.getKey()) >= end.getValue().offset())) {
                must("changelog read", System.nanoTime() < deadline, kept);
                consumer.poll(Duration.ofMillis(100)).forEach(record -> kept.put(record.key(), record.value()));
            }
        }
        check("changelog", kept.equals(exact), kept + " and not " + exact);
    }

    private static long sum(Admin admin, Map<TopicPartition, OffsetSpec> of) throws Exception {
        return admin.listOffsets(of).all().get().values().stream().mapToLong(ListOffsetsResult.ListOffsetsResultInfo::offset).sum();
    }
}

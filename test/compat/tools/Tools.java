import java.io.*;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.regex.Pattern;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.Exit;

/**
 * Drives rustmq with the console tools of Apache Kafka, each called as its script calls it,
 * all in one JVM. Usage: java Tools HOST:PORT, of a server on which it has not run before.
 * TOOLS_VERBOSE=1 prints each call and what it says.
 */
public final class Tools {
    private static final PrintStream SCREEN = System.out;
    private static int passed;

    private static String broker;
    private static Path dir;

    /** What one tool has printed, and how it has ended. */
    private record Ran(int status, String out) {
        Ran says(String name, String... patterns) {
            for (String pattern : patterns) {
                check(name + ": " + pattern, Pattern.compile(pattern, Pattern.MULTILINE).matcher(out).find(), this);
            }
            return this;
        }

        Ran silentOn(String name, String text) {
            check(name + ": no " + text, !out.contains(text), this);
            return this;
        }

        long lines(String containing) {
            return out.lines().filter(line -> line.contains(containing)).count();
        }
    }

    private static final class Exited extends Error {
        final int status;

        Exited(int status) {
            super("exit " + status, null, false, false);
            this.status = status;
        }
    }

    private static void check(String name, boolean ok, Object detail) {
        if (!ok) {
            SCREEN.println("tools: " + name + " failed: " + detail);
            Runtime.getRuntime().halt(1);
        }
        passed++;
    }

    /** Calls the tool's main with these lines as its input, and returns when it is done. */
    private static Ran with(String input, String tool, String... args) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        PrintStream stream = new PrintStream(out, true, StandardCharsets.UTF_8);
        InputStream stdin = System.in;
        PrintStream stderr = System.err;
        // A tool that catches the end of the first call may call again: the first status is the one a shell sees.
        int[] status = {-1};
        Exit.Procedure exit = (code, message) -> {
            if (message != null) {
                stream.println(message);
            }
            if (status[0] < 0) {
                status[0] = code;
            }
            throw new Exited(code);
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        // What a script's process would still do at its end is done after main.
        List<Runnable> hooks = Collections.synchronizedList(new ArrayList<>());
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        System.setOut(stream);
        System.setErr(stream);
        long start = System.nanoTime();
        try {
            scala.Console.withOut(stream, () -> scala.Console.withErr(stream, () -> {
                try {
                    Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) args);
                } catch (InvocationTargetException thrown) {
                    if (!(thrown.getCause() instanceof Exited)) {
                        thrown.getCause().printStackTrace(stream);
                        status[0] = Math.max(status[0], 1);
                    }
                } catch (ReflectiveOperationException none) {
                    throw new IllegalStateException(none);
                }
                for (Runnable hook : hooks) {
                    hook.run();
                }
                return null;
            }));
        } finally {
            System.setIn(stdin);
            System.setOut(SCREEN);
            System.setErr(stderr);
        }
        if (System.getenv("TOOLS_VERBOSE") != null) {
            SCREEN.println("== " + tool + " " + String.join(" ", args) + ": " + status[0] + ", "
                + (System.nanoTime() - start) / 1_000_000 + " ms\n" + out.toString(StandardCharsets.UTF_8));
        }
        return new Ran(Math.max(status[0], 0), out.toString(StandardCharsets.UTF_8));
    }

    private static Ran tool(String tool, String... args) throws Exception {
        return with("", tool, args);
    }

    /** Calls a tool with --bootstrap-server, and expects status 0. */
    private static Ran ok(String tool, String args) throws Exception {
        Ran ran = tool("org.apache.kafka.tools." + tool, ("--bootstrap-server " + broker + " " + args).split(" "));
        check(tool + " " + args, ran.status == 0, ran);
        return ran;
    }

    /** Runs a tool in a process of its own, and expects status 0. */
    private static Ran process(String tool, String args) throws Exception {
        List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC", "-Djava.io.tmpdir=" + System.getProperty("java.io.tmpdir"), "-cp", System.getProperty("java.class.path"), "org.apache.kafka.tools." + tool));
        command.addAll(List.of(("--bootstrap-server " + broker + " " + args).split(" ")));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        Ran ran = new Ran(process.waitFor(), out);
        check(tool + " " + args, ran.status == 0, ran);
        return ran;
    }

    /** Calls a tool that the server refuses, and expects the reason. */
    private static void refused(String tool, String args, String reason) throws Exception {
        tool("org.apache.kafka.tools." + tool, ("--bootstrap-server " + broker + " " + args).split(" "))
            .says(tool + " " + args, reason);
    }

    private static Ran configs(String args) throws Exception {
        Ran ran = tool("kafka.admin.ConfigCommand", ("--bootstrap-server " + broker + " " + args).split(" "));
        check("kafka-configs " + args, ran.status == 0, ran);
        return ran;
    }

    private static void configsRefused(String args, String reason) throws Exception {
        Ran ran = tool("kafka.admin.ConfigCommand", ("--bootstrap-server " + broker + " " + args).split(" "));
        check("kafka-configs " + args, ran.status != 0, ran);
        ran.says("kafka-configs " + args, reason);
    }

    private static String file(String name, String text) throws IOException {
        Path path = dir.resolve(name);
        Files.writeString(path, text);
        return path.toString();
    }

    public static void main(String[] args) throws Exception {
        broker = args[0];
        dir = Files.createTempDirectory("tools");
        String topic = "tools-" + UUID.randomUUID().toString().substring(0, 8);
        try {
            cluster();
            topics(topic);
            console(topic);
            topicConfigs(topic);
            brokerConfigs();
            groups(topic);
            records(topic);
            replicas(topic);
            transactions(topic);
            measured(topic);
            verifiable(topic);
            ok("TopicCommand", "--delete --topic " + topic);
            ok("TopicCommand", "--list").silentOn("deleted", topic + "\n");
        } finally {
            try (var files = Files.list(dir)) {
                for (Path path : files.toList()) {
                    Files.delete(path);
                }
            }
            Files.delete(dir);
        }
        SCREEN.println("tools: " + passed + " passed, 0 failed");
        // Tools leave threads behind that their own exit would have ended.
        Runtime.getRuntime().halt(0);
    }

    private static void cluster() throws Exception {
        ok("BrokerApiVersionsCommand", "").says("api versions", "Produce\\(0\\): 0 to 13 \\[usable: 13\\]",
            "ConsumerGroupHeartbeat\\(68\\): 0 to 1 \\[usable: 1\\]", "ShareFetch\\(78\\): UNSUPPORTED");
        ok("FeatureCommand", "describe").says("features", "transaction.version.*FinalizedVersionLevel: 2", "group.version.*FinalizedVersionLevel: 1");
        refused("FeatureCommand", "upgrade --feature group.version=9", "9");
        cluster("cluster-id --bootstrap-server " + broker, "Cluster ID: \\S+");
        cluster("list-endpoints --bootstrap-server " + broker, broker.substring(0, broker.indexOf(':')));
        cluster("unregister --id 7 --bootstrap-server " + broker, "does not support");
        refused("MetadataQuorumCommand", "describe --status", "does not support DESCRIBE_QUORUM");
        refused("AclCommand", "--list", "nobody is authorised here");
        refused("DelegationTokenCommand", "--describe --command-config " + file("empty", ""), "does not support DESCRIBE_DELEGATION_TOKEN");
        ok("ClientMetricsCommand", "--alter --name slow --metrics org.apache.kafka --interval 1000 --match client_id=slow.*");
        ok("ClientMetricsCommand", "--describe --name slow").says("client metrics", "interval.ms=1000", "client_id=slow");
        ok("ClientMetricsCommand", "--list").says("client metrics listed", "^slow$");
        ok("ClientMetricsCommand", "--delete --name slow");
        ok("ClientMetricsCommand", "--list").silentOn("client metrics deleted", "slow");
        ok("LogDirsCommand", "--describe").says("log dirs", "\"error\":null", "\"broker\":1");
    }

    private static void cluster(String args, String pattern) throws Exception {
        tool("org.apache.kafka.tools.ClusterTool", args.split(" ")).says("kafka-cluster " + args, pattern);
    }

    private static void topics(String topic) throws Exception {
        ok("TopicCommand", "--create --topic " + topic + " --partitions 2 --config retention.ms=3600000")
            .says("create", "Created topic " + topic);
        ok("TopicCommand", "--create --if-not-exists --topic " + topic);
        refused("TopicCommand", "--create --topic " + topic, "already exists");
        refused("TopicCommand", "--create --topic " + topic + "-far --replication-factor 3", "[Rr]eplication factor");
        refused("TopicCommand", "--create --topic " + topic + "-bad --config retention.mss=1", "retention.ms");
        ok("TopicCommand", "--alter --topic " + topic + " --partitions 3");
        refused("TopicCommand", "--alter --topic " + topic + " --partitions 2", "3");
        ok("TopicCommand", "--list").says("list", "^" + topic + "$");
        Ran described = ok("TopicCommand", "--describe --topic " + topic)
            .says("describe", "PartitionCount: 3", "Configs: .*retention.ms=3600000", "Partition: 2\\s+Leader: 1\\s+Replicas: 1\\s+Isr: 1");
        check("describe, partitions", described.lines("Partition: ") == 3, described);
        ok("TopicCommand", "--describe --topics-with-overrides --topic " + topic).says("overrides", topic);
        Ran under = ok("TopicCommand", "--describe --under-replicated-partitions");
        check("under replicated", under.lines("Partition: ") == 0, under);
        Ran unavailable = ok("TopicCommand", "--describe --unavailable-partitions --under-min-isr-partitions");
        check("unavailable", unavailable.lines("Partition: ") == 0, unavailable);
        refused("TopicCommand", "--describe --topic " + topic + "-none", "does not exist");
    }

    /** Reads from the beginning so many records, as the console does. */
    private static Ran consumed(String topic, int count, String more) throws Exception {
        return ok("consumer.ConsoleConsumer", "--topic " + topic + " --from-beginning --timeout-ms 20000 --max-messages " + count + more);
    }

    private static void console(String topic) throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            StringBuilder lines = new StringBuilder();
            for (int i = 0; i < 40; i++) {
                lines.append("h:").append(codec).append("\tk").append(i).append("\t").append(codec).append(" value ").append(i).append('\n');
            }
            Ran ran = with(lines.toString(), "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", broker, "--topic", topic,
                "--compression-codec", codec, "--property", "parse.key=true", "--property", "parse.headers=true");
            check("console producer, " + codec, ran.status == 0 && !ran.out.contains("ERROR"), ran);
        }
        Ran read = consumed(topic, 200, " --group " + topic + "-console --property print.key=true --property print.headers=true"
            + " --property print.partition=true --property print.offset=true --property print.timestamp=true");
        read.says("console consumer", "^CreateTime:\\d+\tPartition:\\d\tOffset:\\d+\th:zstd\tk39\tzstd value 39$", "Processed a total of 200 messages");
        check("console consumer, distinct", read.out.lines().filter(line -> line.contains(" value ")).distinct().count() == 200, read);
        Ran one = ok("consumer.ConsoleConsumer", "--topic " + topic + " --partition 0 --offset 5 --max-messages 1 --timeout-ms 20000"
            + " --isolation-level read_committed --property print.offset=true");
        one.says("console consumer from an offset", "^Offset:5\t");
        consumed(topic, 200, " --group " + topic + "-848 --consumer-property group.protocol=consumer")
            .says("console consumer, consumer protocol", "Processed a total of 200 messages");
        // Offsets as Kafka keeps them: a key and a value of two lengths a partition.
        ok("consumer.ConsoleConsumer", "--topic __consumer_offsets --from-beginning --timeout-ms 1500"
            + " --formatter org.apache.kafka.tools.consumer.OffsetsMessageFormatter")
            .says("offsets topic", "\"group\":\"" + topic + "-console\",\"topic\":\"" + topic + "\",\"partition\":0", "\"offset\":\\d+");
        ok("consumer.ConsoleConsumer", "--topic __consumer_offsets --from-beginning --timeout-ms 1500"
            + " --formatter org.apache.kafka.tools.consumer.GroupMetadataMessageFormatter")
            .says("group metadata", "\"group\":\"");
    }

    private static void topicConfigs(String topic) throws Exception {
        configs("--alter --topic " + topic + " --add-config max.message.bytes=200000,cleanup.policy=[compact,delete]");
        configs("--describe --topic " + topic).says("topic configs", "max.message.bytes=200000 .*synonyms=\\{DYNAMIC_TOPIC_CONFIG:max.message.bytes=200000",
            "cleanup.policy=compact,delete", "retention.ms=3600000").silentOn("topic configs", "min.insync.replicas");
        configs("--describe --all --topic " + topic).says("all topic configs", "min.insync.replicas=\\d", "segment.bytes=\\d+");
        configs("--alter --topic " + topic + " --delete-config max.message.bytes,cleanup.policy");
        configs("--describe --topic " + topic).silentOn("deleted configs", "max.message.bytes=200000");
        configsRefused("--alter --topic " + topic + " --add-config cleanup.policy=shrink", "cleanup.policy");
        configsRefused("--alter --topic " + topic + " --add-config retention.mss=5", "retention.ms");

        String group = topic + "-configured";
        configs("--alter --group " + group + " --add-config consumer.session.timeout.ms=50000,consumer.heartbeat.interval.ms=4000");
        configs("--describe --group " + group).says("group configs", "consumer.session.timeout.ms=50000", "consumer.heartbeat.interval.ms=4000");
        configs("--describe --entity-type groups").says("groups with configs", group);
        configsRefused("--alter --group " + group + " --add-config consumer.session.timeout.ms=1", "session.timeout");
        configs("--alter --group " + group + " --delete-config consumer.session.timeout.ms,consumer.heartbeat.interval.ms");
        configs("--describe --group " + group).silentOn("group configs deleted", "DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000");
    }

    private static void brokerConfigs() throws Exception {
        configs("--describe --all --broker 1").says("broker configs", "message.max.bytes=\\d+", "group.max.size=\\d+");
        configs("--alter --broker-defaults --add-config log.retention.ms=500000000");
        configs("--describe --broker-defaults").says("broker defaults", "log.retention.ms=500000000");
        configs("--alter --broker-defaults --delete-config log.retention.ms");
        configsRefused("--alter --broker 1 --add-config num.io.threads=3", "num.io.threads");

        configs("--alter --user ada --add-config producer_byte_rate=1000000,consumer_byte_rate=2000000");
        configs("--alter --client-defaults --add-config request_percentage=400");
        configs("--alter --user ada --client browser --add-config controller_mutation_rate=50");
        configs("--describe --user ada").says("quotas of a user", "Quota configs for user-principal 'ada' are .*producer_byte_rate=1000000");
        configs("--describe --client-defaults").says("quotas of clients", "request_percentage=400");
        configs("--describe --user ada --client browser").says("quotas of both", "controller_mutation_rate=50");
        configs("--alter --user ada --delete-config producer_byte_rate,consumer_byte_rate");
        configs("--alter --client-defaults --delete-config request_percentage");
        configs("--alter --user ada --client browser --delete-config controller_mutation_rate");
        configs("--describe --user ada").silentOn("quotas deleted", "producer_byte_rate");
        configs("--alter --ip 10.0.0.1 --add-config connection_creation_rate=5");
        configs("--alter --ip-defaults --add-config connection_creation_rate=5000");
        configs("--describe --ip 10.0.0.1").says("quotas of an address", "connection_creation_rate=5");
        configs("--describe --ip-defaults").says("quotas of addresses", "connection_creation_rate=5000");
        configs("--alter --ip 10.0.0.1 --delete-config connection_creation_rate");
        configs("--alter --ip-defaults --delete-config connection_creation_rate");
        configs("--describe --ip 10.0.0.1").silentOn("quotas of an address deleted", "connection_creation_rate");
        configs("--alter --entity-type users --entity-name ada --add-config SCRAM-SHA-256=[password=secret]");
        configs("--describe --entity-type users --entity-name ada").says("password of a user", "SCRAM-SHA-256=iterations=4096");
        configs("--alter --entity-type users --entity-name ada --delete-config SCRAM-SHA-256");
        configs("--alter --client-metrics slow --add-config interval.ms=2000");
        configs("--describe --client-metrics slow").says("a subscription", "interval.ms=2000");
        configsRefused("--alter --client-metrics slow --add-config interval.ms=1", "interval.ms");
        configs("--alter --client-metrics slow --delete-config interval.ms");
    }

    private static Ran groupCommand(String args) throws Exception {
        return ok("consumer.group.ConsumerGroupCommand", args);
    }

    private static void groups(String topic) throws Exception {
        String group = topic + "-console";
        groupCommand("--list").says("groups", "^" + group + "$", "^" + topic + "-848$");
        groupCommand("--list --state").says("groups by state", "^" + group + "\\s+Empty");
        groupCommand("--list --type consumer").says("groups by type", "^" + topic + "-848\\s+Consumer|^" + topic + "-848$").silentOn("groups by type", group);
        ok("GroupsCommand", "--list").says("kafka-groups", group + "\\s+Classic\\s+consumer", topic + "-848\\s+Consumer\\s+consumer");
        groupCommand("--describe --group " + group).says("group", group + "\\s+" + topic + "\\s+0\\s+\\d+\\s+\\d+\\s+0\\s");
        groupCommand("--describe --state --group " + group).says("group state", group + ".*Empty\\s+0");
        groupCommand("--describe --members --verbose --group " + group).says("members", "has no active members");
        groupCommand("--describe --all-groups --verbose").says("all groups", topic + "-848");

        try (Live live = new Live(topic, topic + "-live")) {
            live.joined();
            groupCommand("--describe --members --verbose --group " + topic + "-live").says("members", topic + "-live\\s+\\S+.*\\s3\\s");
            groupCommand("--describe --state --group " + topic + "-live").says("state", "Stable\\s+1");
            refused("consumer.group.ConsumerGroupCommand", "--delete --group " + topic + "-live", "not empty");
            refused("consumer.group.ConsumerGroupCommand", "--reset-offsets --to-earliest --execute --topic " + topic + " --group " + topic + "-live",
                "inactive");
        }

        String reset = "--reset-offsets --group " + group + " --topic " + topic;
        groupCommand(reset + " --to-earliest --dry-run").says("reset, earliest", topic + "\\s+2\\s+0");
        groupCommand("--describe --group " + group).says("reset, only previewed", group + "\\s+" + topic + "\\s+0\\s+[1-9]\\d*\\s+\\d+\\s+0\\s");
        groupCommand(reset + ":0 --to-offset 3 --execute").says("reset, offset", topic + "\\s+0\\s+3");
        groupCommand(reset + ":0 --shift-by 2 --execute").says("reset, shift", topic + "\\s+0\\s+5");
        groupCommand(reset + ":0 --shift-by -100000 --execute").says("reset, below", topic + "\\s+0\\s+0");
        groupCommand(reset + " --to-datetime 2020-01-01T00:00:00.000 --execute").says("reset, time", topic + "\\s+1\\s+0");
        groupCommand(reset + " --by-duration PT0S --execute").says("reset, duration", topic + "\\s+1\\s+[1-9]");
        groupCommand(reset + " --to-latest --execute").says("reset, latest", topic + "\\s+1\\s+[1-9]");
        groupCommand(reset + " --to-current --execute").says("reset, current", topic + "\\s+1\\s+[1-9]");
        Ran exported = groupCommand(reset + " --to-earliest --dry-run --export").says("export", "\"?" + topic + "\"?,1,0");
        groupCommand(reset + " --from-file " + file("offsets.csv", exported.out.trim() + "\n") + " --execute").says("reset, file", topic + "\\s+1\\s+0");
        groupCommand("--delete-offsets --group " + group + " --topic " + topic + ":1").says("delete offsets", "Successful");
        Ran left = groupCommand("--describe --group " + group);
        check("offsets left", left.out.lines().filter(line -> line.startsWith(group + " ")).count() == 2, left);
        groupCommand("--delete --group " + group + " --group " + topic + "-848").says("delete groups", "successful");
        groupCommand("--list").silentOn("groups deleted", group);
        refused("consumer.group.ConsumerGroupCommand", "--describe --group " + group, "does not exist|not found");
        refused("consumer.group.ShareGroupCommand", "--describe --group " + topic + "-share", "does not support|not found");
    }

    /** A member of a group that polls in a thread of its own. */
    private static final class Live implements AutoCloseable {
        private final CountDownLatch joined = new CountDownLatch(1);
        private volatile boolean done;
        private final Thread thread;

        Live(String topic, String group) {
            Map<String, Object> config = Map.of("bootstrap.servers", broker, "group.id", group, "client.id", "live");
            thread = new Thread(() -> {
                var read = new org.apache.kafka.common.serialization.StringDeserializer();
                try (var consumer = new org.apache.kafka.clients.consumer.KafkaConsumer<>(config, read, read)) {
                    consumer.subscribe(List.of(topic));
                    while (!done) {
                        consumer.poll(java.time.Duration.ofMillis(100));
                        if (consumer.assignment().size() == 3) {
                            joined.countDown();
                        }
                    }
                }
            });
            thread.start();
        }

        void joined() throws InterruptedException {
            check("member joined", joined.await(30, TimeUnit.SECONDS), "");
        }

        @Override
        public void close() throws InterruptedException {
            done = true;
            thread.join();
        }
    }

    private static Ran offsets(String args) throws Exception {
        return ok("GetOffsetShell", args);
    }

    /** Sums the third of the fields that kafka-get-offsets prints. */
    private static long sum(Ran ran) {
        return ran.out.lines().filter(line -> line.matches(".+:\\d+:-?\\d+")).mapToLong(line -> Long.parseLong(line.split(":")[2])).sum();
    }

    private static void records(String topic) throws Exception {
        Ran latest = offsets("--topic " + topic);
        check("latest offsets", latest.out.lines().count() == 3 && sum(latest) == 200, latest);
        Ran earliest = offsets("--topic " + topic + " --time earliest");
        check("earliest offsets", sum(earliest) == 0, earliest);
        Ran newest = offsets("--topic-partitions " + topic + ":0-2 --time max-timestamp");
        check("offsets of the newest", newest.out.lines().count() == 2 && sum(newest) > 0, newest);
        Ran since = offsets("--topic " + topic + " --time 1000");
        check("offsets by time", sum(since) == 0, since);
        Ran local = offsets("--topic " + topic + " --time earliest-local");
        check("local offsets", local.out.lines().count() == 3, local);
        offsets("--topic " + topic + " --time latest-tiered");
        String plan = file("delete.json", "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":4},"
            + "{\"topic\":\"" + topic + "\",\"partition\":1,\"offset\":-1}]}");
        ok("DeleteRecordsCommand", "--offset-json-file " + plan).says("delete records", "partition: " + topic + "-0\\s+low_watermark: 4");
        offsets("--topic " + topic + " --time earliest").says("deleted records", "^" + topic + ":0:4$");
        String beyond = file("beyond.json", "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":400000}]}");
        refused("DeleteRecordsCommand", "--offset-json-file " + beyond, "OffsetOutOfRange|not within the range|out of range");
    }

    private static void replicas(String topic) throws Exception {
        ok("LeaderElectionCommand", "--election-type preferred --topic " + topic + " --partition 0").says("election", "Valid replica already elected|Successfully");
        ok("LeaderElectionCommand", "--election-type preferred --all-topic-partitions");
        String move = file("move.json", "{\"topics\":[{\"topic\":\"" + topic + "\"}],\"version\":1}");
        ok("reassign.ReassignPartitionsCommand", "--generate --broker-list 1 --topics-to-move-json-file " + move)
            .says("reassignment, generate", "Proposed partition reassignment configuration", "\"replicas\":\\[1\\]");
        String same = file("same.json", "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"replicas\":[1],\"log_dirs\":[\"any\"]}]}");
        ok("reassign.ReassignPartitionsCommand", "--execute --reassignment-json-file " + same).says("reassignment, execute", "Successfully started");
        ok("reassign.ReassignPartitionsCommand", "--verify --reassignment-json-file " + same).says("reassignment, verify", "is completed");
        ok("reassign.ReassignPartitionsCommand", "--list").says("reassignments", "No partition reassignments found");
        ok("reassign.ReassignPartitionsCommand", "--cancel --reassignment-json-file " + same);
        String far = file("far.json", "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"replicas\":[1,2],\"log_dirs\":[\"any\",\"any\"]}]}");
        refused("reassign.ReassignPartitionsCommand", "--execute --reassignment-json-file " + far, "2");
        ok("LogDirsCommand", "--describe --broker-list 1 --topic-list " + topic).says("log dirs of a topic", "\"partition\":\"" + topic + "-2\"");
    }

    private static Ran transactionCommand(String args) throws Exception {
        return ok("TransactionsCommand", args);
    }

    private static void transactions(String topic) throws Exception {
        String id = topic + "-tx";
        try (Producer<String, String> producer = new KafkaProducer<>(Map.of("bootstrap.servers", broker, "transactional.id", id, "max.block.ms", 20000),
                new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            producer.beginTransaction();
            long start = producer.send(new ProducerRecord<>(topic, 2, "open", "open")).get(20, TimeUnit.SECONDS).offset();
            transactionCommand("list").says("transactions", id + "\\s+\\S+\\s+\\d+\\s+Ongoing");
            transactionCommand("list --duration-filter 3600000").silentOn("transactions by duration", id);
            transactionCommand("list --transactional-id-pattern " + topic + ".*").says("transactions by pattern", id);
            transactionCommand("describe --transactional-id " + id).says("transaction", id + ".*Ongoing.*" + topic + "-2");
            transactionCommand("describe-producers --topic " + topic + " --partition 2").says("producers", "\\d+\\s+\\d+\\s+-?\\d+\\s+\\d+\\s+\\d+\\s+" + start);
            transactionCommand("find-hanging --broker-id 1 --max-transaction-timeout 0").silentOn("hanging", topic);
            transactionCommand("abort --topic " + topic + " --partition 2 --start-offset " + start);
            transactionCommand("describe-producers --topic " + topic + " --partition 2").silentOn("aborted", "\t" + start);
        }
        Ran copied = tool("org.apache.kafka.tools.TransactionalMessageCopier", ("--broker-list " + broker + " --input-topic " + topic + " --input-partition 0"
            + " --output-topic " + topic + "-copy --transactional-id " + id + "-copy --consumer-group " + topic + "-copier"
            + " --transaction-size 10 --enable-random-aborts --max-messages 20").split(" "));
        copied.says("copier", "\"stage\":\"ShutdownComplete\".*\"remaining\":0");
        consumed(topic + "-copy", 20, " --isolation-level read_committed").says("copies", "Processed a total of 20 messages");
        consumed("__transaction_state", 1, " --formatter org.apache.kafka.tools.consumer.TransactionLogMessageFormatter")
            .says("transaction log", "\"transactionalId\":\"");
    }

    private static void measured(String topic) throws Exception {
        String perf = topic + "-perf";
        ok("TopicCommand", "--create --topic " + perf + " --partitions 3");
        Ran produced = tool("org.apache.kafka.tools.ProducerPerformance", ("--topic " + perf + " --num-records 20000 --record-size 100 --throughput -1"
            + " --producer-props bootstrap.servers=" + broker + " acks=all compression.type=lz4").split(" "));
        produced.says("producer performance", "20000 records sent, .*99.9th");
        Ran transactional = tool("org.apache.kafka.tools.ProducerPerformance", ("--topic " + perf + " --num-records 5000 --record-size 100 --throughput -1"
            + " --transactional-id " + perf + " --transaction-duration-ms 50 --producer-props bootstrap.servers=" + broker).split(" "));
        transactional.says("producer performance, transactions", "5000 records sent, .*99.9th");
        ok("ConsumerPerformance", "--topic " + perf + " --messages 25000 --timeout 20000 --group " + perf).says("consumer performance", ", 25\\d\\d\\d, ");
        Ran latency = tool("org.apache.kafka.tools.EndToEndLatency", broker, perf, "200", "all", "100");
        latency.says("end to end latency", "Avg latency: [\\d.]+ ms", "Percentiles: 50th");
        ok("ClientCompatibilityTest", "--topic " + topic + "-clients --num-cluster-nodes 1 --offsets-for-times-supported true --cluster-id-supported true"
            + " --expect-record-too-large-exception false --idempotent-producer-supported true --create-topics-supported true --describe-acls-supported true --describe-configs-supported true");
        ok("TopicCommand", "--delete --topic newtopic");
    }

    private static void verifiable(String topic) throws Exception {
        String name = topic + "-verifiable";
        ok("TopicCommand", "--create --topic " + name + " --partitions 3");
        // Says what it has sent when its process ends, so it has one.
        Ran produced = process("VerifiableProducer", "--topic " + name + " --max-messages 3000 --throughput -1 --acks -1 --value-prefix 7");
        produced.says("verifiable producer", "\"sent\":3000,\"acked\":3000");
        check("verifiable producer, acknowledged", produced.lines("producer_send_success") == 3000, produced.lines("producer_send_success"));
        for (String protocol : List.of("classic", "consumer")) {
            Ran consumed = ok("VerifiableConsumer", "--topic " + name + " --group-id " + name + "-" + protocol + " --group-protocol " + protocol
                + " --max-messages 3000 --verbose --reset-policy earliest");
            consumed.says("verifiable consumer, " + protocol, "offsets_committed", "shutdown_complete").silentOn("verifiable consumer", "\"error\"");
            check("verifiable consumer, " + protocol, consumed.out.lines().filter(line -> line.contains("\"record_data\"")).count() == 3000,
                consumed.lines("record_data"));
            Ran described = groupCommand("--describe --group " + name + "-" + protocol);
            long committed = described.out.lines().filter(line -> line.startsWith(name)).map(line -> line.split("\\s+"))
                .filter(fields -> fields[3].equals(fields[4]) && fields[5].equals("0")).mapToLong(fields -> Long.parseLong(fields[3])).sum();
            check("verifiable consumer, committed", committed == 3000, described);
        }
    }
}

import java.net.URI;
import java.net.http.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

/** Drives rustmq with Apache Kafka's own client. Usage: java Compat HOST:PORT HOST:PORT, of Kafka and of HTTP */
public final class Compat {
    private static int passed;

    private static void check(String name, boolean ok, Object detail) {
        if (!ok) {
            System.err.println("java: " + name + " failed: " + detail);
            System.exit(1);
        }
        passed++;
    }

    public static void main(String[] args) throws Exception {
        String broker = args[0];
        String topic = "java-" + UUID.randomUUID().toString().substring(0, 8);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", broker))) {
            admin.createTopics(List.of(new NewTopic(topic, 3, (short) 1))).all().get(20, TimeUnit.SECONDS);
            check("describe topic", admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 3, "");
            check("describe cluster", admin.describeCluster().nodes().get().size() == 1, "");

            Map<String, String> sent = produce(broker, topic);
            Map<String, String> got = consume(broker, topic, sent.size());
            check("consume by group", got.equals(sent), got.size() + " of " + sent.size());

            Map<TopicPartition, OffsetAndMetadata> committed =
                admin.listConsumerGroupOffsets("g-" + topic).partitionsToOffsetAndMetadata().get();
            long total = committed.values().stream().mapToLong(OffsetAndMetadata::offset).sum();
            check("committed offsets", total == sent.size(), committed);
            check("describe group", admin.describeConsumerGroups(List.of("g-" + topic)).all().get().size() == 1, "");

            consumerProtocol(broker, admin, topic, sent.size());
            transactions(admin, broker, topic);
            clientMetrics(admin, broker, args[1], topic);

            TopicPartition first = new TopicPartition(topic, 0);
            long end = admin.listOffsets(Map.of(first, OffsetSpec.latest())).partitionResult(first).get().offset();
            check("latest offset", end > 0, end);
            check("max timestamp", admin.listOffsets(Map.of(first, OffsetSpec.maxTimestamp())).partitionResult(first).get().offset() >= 0, "");
            admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(1))).all().get();
            check("delete records", admin.listOffsets(Map.of(first, OffsetSpec.earliest())).partitionResult(first).get().offset() == 1, "");

            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(
                new AlterConfigOp(new ConfigEntry("max.message.bytes", "200000"), AlterConfigOp.OpType.SET)))).all().get();
            check("alter config", "200000".equals(
                admin.describeConfigs(List.of(resource)).all().get().get(resource).get("max.message.bytes").value()), "");
            admin.deleteTopics(List.of(topic)).all().get();
            check("delete topic", !admin.listTopics().names().get().contains(topic), "");
        }
        System.out.println("java: " + passed + " passed, 0 failed");
    }

    private static Map<String, String> produce(String broker, String topic) throws Exception {
        Map<String, String> sent = new HashMap<>();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            Map<String, Object> config = Map.of("bootstrap.servers", broker, "acks", "all",
                "enable.idempotence", true, "compression.type", codec, "linger.ms", 5);
            try (KafkaProducer<String, String> producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
                List<Future<RecordMetadata>> futures = new ArrayList<>();
                for (int i = 0; i < 200; i++) {
                    String key = codec + i;
                    String value = ("value " + i + " ").repeat(10);
                    sent.put(key, value);
                    futures.add(producer.send(new ProducerRecord<>(topic, key, value)));
                }
                for (Future<RecordMetadata> future : futures) {
                    check("ack " + codec, future.get(20, TimeUnit.SECONDS).offset() >= 0, "");
                }
            }
        }
        return sent;
    }

    /** Groups whose partitions the server assigns (KIP-848), and a rolling upgrade to them. */
    private static void consumerProtocol(String broker, Admin admin, String topic, int sent) throws Exception {
        String group = "k848-" + topic;
        try (KafkaConsumer<String, String> one = member(broker, group, "consumer", null)) {
            one.subscribe(List.of(topic));
            owns("consumer protocol, one member", Map.of(one, 3));
            one.seekToBeginning(one.assignment());
            int read = 0;
            for (long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30); read < sent && System.nanoTime() < deadline;) {
                read += one.poll(Duration.ofMillis(200)).count();
            }
            check("consumer protocol, records", read == sent, read + " of " + sent);
            one.commitSync();
            try (KafkaConsumer<String, String> two = member(broker, group, "consumer", "static-two")) {
                two.subscribe(new SubscriptionPattern("java-.*" + topic.substring(5)));
                long shared = owns("consumer protocol, two members", Map.of(one, -1, two, -1));
                check("consumer protocol, all partitions", shared == 3, shared);
                ConsumerGroupDescription described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
                check("consumer group described", described.type() == org.apache.kafka.common.GroupType.CONSUMER
                    && described.members().size() == 2 && described.partitionAssignor().equals("uniform"), described);
            }
        }
        long total = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
            .values().stream().mapToLong(OffsetAndMetadata::offset).sum();
        check("consumer protocol, committed offsets", total == sent, total);

        group = "rolling-" + topic;
        try (KafkaConsumer<String, String> old = member(broker, group, "classic", null)) {
            old.subscribe(List.of(topic));
            owns("rolling upgrade, before", Map.of(old, 3));
            try (KafkaConsumer<String, String> next = member(broker, group, "consumer", null)) {
                next.subscribe(List.of(topic));
                long shared = owns("rolling upgrade", Map.of(old, -1, next, -1));
                check("rolling upgrade, all partitions", shared == 3, shared);
            }
            owns("rolling upgrade, taken back", Map.of(old, 3));
        }
    }

    private static KafkaConsumer<String, String> member(String broker, String group, String protocol, String instance) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", broker, "group.id", group, "group.protocol", protocol,
            "auto.offset.reset", "earliest", "enable.auto.commit", false, "metadata.max.age.ms", 1000));
        if (instance != null) {
            config.put("group.instance.id", instance);
        }
        if (protocol.equals("classic")) {
            config.put("heartbeat.interval.ms", 500);
        }
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    /** Polls until each member owns so many partitions, -1: at least one, and returns how many together. */
    private static long owns(String name, Map<KafkaConsumer<String, String>, Integer> want) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (true) {
            boolean all = true;
            Set<TopicPartition> owned = new HashSet<>();
            long total = 0;
            for (Map.Entry<KafkaConsumer<String, String>, Integer> e : want.entrySet()) {
                if (want.size() > 1 || e.getKey().assignment().size() != e.getValue()) {
                    e.getKey().poll(Duration.ofMillis(100));
                }
                int n = e.getKey().assignment().size();
                all &= e.getValue() < 0 ? n > 0 : n == e.getValue();
                owned.addAll(e.getKey().assignment());
                total += n;
            }
            if (all && (want.size() == 1 || total == owned.size() && total == 3)) {
                return total;
            }
            check(name, System.nanoTime() < deadline, want.keySet().stream().map(KafkaConsumer::assignment).toList());
        }
    }

    /** Asks a producer for its metrics (KIP-714), and finds them in those of the broker. */
    private static void clientMetrics(Admin admin, String broker, String http, String topic) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, "s-" + topic);
        String id = "metrics-" + topic;
        admin.incrementalAlterConfigs(Map.of(resource, List.of(
            set("metrics", "org.apache.kafka.producer."), set("interval.ms", "500"), set("match", "client_id=" + id)))).all().get();
        check("client metrics described", "500".equals(admin.describeConfigs(List.of(resource)).all().get().get(resource).get("interval.ms").value()), "");
        check("client metrics listed", admin.listConfigResources(Set.of(ConfigResource.Type.CLIENT_METRICS), new ListConfigResourcesOptions()).all().get()
            .contains(resource), "");
        Map<String, Object> config = Map.of("bootstrap.servers", broker, "client.id", id);
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            HttpRequest scrape = HttpRequest.newBuilder(URI.create("http://" + http + "/metrics")).build();
            Set<String> missing = new HashSet<>();
            for (long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30); System.nanoTime() < deadline;) {
                producer.send(new ProducerRecord<>(topic, "measured", "measured")).get(20, TimeUnit.SECONDS);
                String shown = HttpClient.newHttpClient().send(scrape, HttpResponse.BodyHandlers.ofString()).body();
                List<String> own = shown.lines().filter(line -> line.contains("client_id=\"" + id + "\"") && line.contains("apache-kafka-java")).toList();
                missing.clear();
                for (Map.Entry<String, String> want : Map.of("rustmq_client_sum_total", "record.send.total", "rustmq_client_value", "connection.creation.rate").entrySet()) {
                    String metric = "metric=\"org.apache.kafka.producer." + want.getValue() + "\"";
                    if (own.stream().noneMatch(line -> line.startsWith(want.getKey() + "{") && line.contains(metric))) {
                        missing.add(metric);
                    }
                }
                if (missing.isEmpty()) {
                    break;
                }
            }
            check("client metrics exported", missing.isEmpty(), missing);
            check("client instance id", producer.clientInstanceId(Duration.ofSeconds(10)) != null, "");
        }
        admin.incrementalAlterConfigs(Map.of(resource, List.of(delete("metrics"), delete("interval.ms"), delete("match")))).all().get();
    }

    private static AlterConfigOp set(String key, String value) {
        return new AlterConfigOp(new ConfigEntry(key, value), AlterConfigOp.OpType.SET);
    }

    private static AlterConfigOp delete(String key) {
        return new AlterConfigOp(new ConfigEntry(key, null), AlterConfigOp.OpType.DELETE);
    }

    /** Copies a topic in transactions of which every other one is aborted, and is fenced off. */
    private static void transactions(Admin admin, String broker, String topic) throws Exception {
        String out = "out-" + topic;
        String group = "copy-" + topic;
        admin.createTopics(List.of(new NewTopic(out, 2, (short) 1))).all().get(20, TimeUnit.SECONDS);
        Map<String, Object> reading = Map.of("bootstrap.servers", broker, "group.id", group, "auto.offset.reset", "earliest",
            "enable.auto.commit", false, "isolation.level", "read_committed", "max.poll.records", 100);
        Set<String> copied = new HashSet<>();
        int read = 0;
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(reading, new StringDeserializer(), new StringDeserializer());
             KafkaProducer<String, String> producer = transactional(broker, topic)) {
            producer.initTransactions();
            consumer.subscribe(List.of(topic));
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            for (int i = 0; copied.size() < 1000 && System.nanoTime() < deadline; i++) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(500));
                if (records.isEmpty()) {
                    continue;
                }
                Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
                Map<TopicPartition, Long> from = new HashMap<>();
                producer.beginTransaction();
                for (ConsumerRecord<String, String> record : records) {
                    TopicPartition at = new TopicPartition(record.topic(), record.partition());
                    from.putIfAbsent(at, record.offset());
                    next.put(at, new OffsetAndMetadata(record.offset() + 1));
                    producer.send(new ProducerRecord<>(out, record.key(), record.value()));
                    read++;
                }
                producer.sendOffsetsToTransaction(next, consumer.groupMetadata());
                if (i % 2 == 1) {
                    producer.abortTransaction();
                    from.forEach(consumer::seek);
                    continue;
                }
                producer.commitTransaction();
                records.forEach(record -> copied.add(record.key()));
            }
            check("transactional copy", copied.size() == 1000 && read > 1000, copied.size() + " of 1000, " + read + " read");

            producer.beginTransaction();
            producer.send(new ProducerRecord<>(out, "open", "open")).get(20, TimeUnit.SECONDS);
            TransactionDescription open = admin.describeTransactions(List.of("tx-" + topic)).all().get().get("tx-" + topic);
            check("describe transaction", open.state() == TransactionState.ONGOING && !open.topicPartitions().isEmpty(), open);
            check("list transactions", admin.listTransactions().all().get().stream()
                .anyMatch(t -> t.transactionalId().equals("tx-" + topic) && t.state() == TransactionState.ONGOING), "");
            check("describe producers", admin.describeProducers(open.topicPartitions()).all().get().values().stream()
                .allMatch(s -> s.activeProducers().stream().anyMatch(p -> p.currentTransactionStartOffset().isPresent())), "");
            try (KafkaProducer<String, String> second = transactional(broker, topic)) {
                second.initTransactions();
                try {
                    producer.commitTransaction();
                    check("fenced", false, "a producer that was fenced off has committed");
                } catch (org.apache.kafka.common.KafkaException fenced) {
                    check("fenced", true, "");
                }
                second.beginTransaction();
                second.send(new ProducerRecord<>(out, "last", "last"));
                second.commitTransaction();
            }
        }
        long committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
            .values().stream().mapToLong(OffsetAndMetadata::offset).sum();
        check("offsets of transactions", committed == 1000, committed);
        Map<String, Integer> seen = new HashMap<>();
        Map<String, Object> checking = Map.of("bootstrap.servers", broker, "isolation.level", "read_committed");
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(checking, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> all = List.of(new TopicPartition(out, 0), new TopicPartition(out, 1));
            consumer.assign(all);
            consumer.seekToBeginning(all);
            // To the end of each partition, for a poll gives at most 500 records, of either; and to
            // the end of what is written, for a commit is answered before readers are shown it.
            Map<TopicPartition, Long> ends = new HashMap<>();
            admin.listOffsets(Map.of(all.get(0), OffsetSpec.latest(), all.get(1), OffsetSpec.latest())).all().get()
                .forEach((partition, end) -> ends.put(partition, end.offset()));
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
            while (!ends.entrySet().stream().allMatch(end -> consumer.position(end.getKey()) >= end.getValue())) {
                check("read committed to the end", System.nanoTime() < deadline, seen.size() + " keys, ends " + ends);
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) {
                    seen.merge(record.key(), 1, Integer::sum);
                }
            }
        }
        check("read committed, last transaction", seen.containsKey("last"), seen.size() + " keys");
        seen.remove("last");
        check("read committed", seen.keySet().equals(copied) && seen.values().stream().allMatch(n -> n == 1), seen.size() + " keys of " + copied.size());
    }

    private static KafkaProducer<String, String> transactional(String broker, String topic) {
        return new KafkaProducer<>(Map.of("bootstrap.servers", broker, "transactional.id", "tx-" + topic), new StringSerializer(), new StringSerializer());
    }

    private static Map<String, String> consume(String broker, String topic, int expected) {
        Map<String, Object> config = Map.of("bootstrap.servers", broker, "group.id", "g-" + topic,
            "auto.offset.reset", "earliest", "enable.auto.commit", false);
        Map<String, String> got = new HashMap<>();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
            while (got.size() < expected && System.nanoTime() < deadline) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) {
                    got.put(record.key(), record.value());
                }
            }
            consumer.commitSync();
        }
        return got;
    }
}

"""Drives rustmq with librdkafka (the confluent-kafka binding).

Usage: librdkafka.py HOST:PORT
Creates topics, produces with every codec and acks setting, idempotently,
consumes with and without a group, seeks by time, alters and deletes.
"""
import sys
import time
import uuid

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

broker = sys.argv[1]
passed = 0


def check(name, ok, detail=""):
    global passed
    if not ok:
        sys.exit(f"librdkafka: {name} failed: {detail}")
    passed += 1


def wait(futures):
    for future in futures.values():
        future.result(timeout=20)


admin = AdminClient({"bootstrap.servers": broker})
topic = f"librdkafka-{uuid.uuid4().hex[:8]}"
wait(admin.create_topics([NewTopic(topic, num_partitions=3, replication_factor=1)]))
check("create topic", len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 3)

sent = {}
for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
    for acks in ["0", "1", "all"]:
        delivered = []
        producer = Producer({
            "bootstrap.servers": broker, "compression.type": codec, "acks": acks,
            "enable.idempotence": acks == "all", "linger.ms": 5,
        })
        for i in range(50):
            key, value = f"{codec}-{acks}-{i}", f"value {i} " * 20
            sent[key] = value
            producer.produce(topic, key=key, value=value, headers=[("codec", codec.encode())],
                             on_delivery=lambda err, msg: delivered.append(err))
        check(f"flush {codec} acks={acks}", producer.flush(20) == 0)
        check(f"delivery {codec} acks={acks}", delivered == [None] * 50, delivered[:3])


def read(group, expected):
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group,
                         "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([topic])
    got, deadline = {}, time.monotonic() + 30
    while len(got) < expected and time.monotonic() < deadline:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        got[message.key().decode()] = message.value().decode()
    consumer.commit(asynchronous=False)
    return consumer, got


consumer, got = read(f"g-{topic}", len(sent))
check("consume by group", got == sent, f"{len(got)} of {len(sent)}")
committed = consumer.committed([TopicPartition(topic, p) for p in range(3)], timeout=10)
check("committed offsets", sum(c.offset for c in committed) == len(sent), committed)
low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
check("watermarks", low == 0 and high > 0, (low, high))
times = consumer.offsets_for_times([TopicPartition(topic, 0, 0)], timeout=10)
check("offsets for times", times[0].offset == 0, times)
consumer.close()

groups = admin.list_consumer_groups().result(timeout=10)
check("list groups", any(g.group_id == f"g-{topic}" for g in groups.valid))

wait(admin.create_partitions([NewPartitions(topic, 5)]))
check("add partitions", len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 5)
described = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)])
config = next(iter(described.values())).result(timeout=10)
check("describe configs", "max.message.bytes" in config)
wait(admin.delete_topics([topic]))
check("delete topic", topic not in admin.list_topics(timeout=10).topics)
print(f"librdkafka: {passed} passed, 0 failed")

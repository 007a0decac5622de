"""Drives rustmq with kafka-python, a client of its own making.

Usage: kafka_python.py HOST:PORT
"""
import sys
import uuid

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

broker = sys.argv[1]
passed = 0


def check(name, ok, detail=""):
    global passed
    if not ok:
        sys.exit(f"kafka-python: {name} failed: {detail}")
    passed += 1


admin = KafkaAdminClient(bootstrap_servers=broker)
topic = f"kafka-python-{uuid.uuid4().hex[:8]}"
admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])
check("create topic", topic in admin.list_topics())

producer = KafkaProducer(bootstrap_servers=broker, acks="all", compression_type="gzip")
sent = []
for i in range(200):
    value = f"record {i}".encode()
    meta = producer.send(topic, key=str(i).encode(), value=value).get(timeout=20)
    check("offset", meta.offset >= 0, meta)
    sent.append(value)
producer.close()

consumer = KafkaConsumer(topic, bootstrap_servers=broker, group_id=f"g-{topic}",
                         auto_offset_reset="earliest", consumer_timeout_ms=8000, enable_auto_commit=False)
got = []
for message in consumer:
    got.append(message.value)
    if len(got) == len(sent):
        break
check("consume", sorted(got) == sorted(sent), f"{len(got)} of {len(sent)}")
consumer.commit()
ends = consumer.end_offsets([TopicPartition(topic, 0), TopicPartition(topic, 1)])
check("end offsets", sum(ends.values()) == len(sent), ends)
consumer.close()
admin.delete_topics([topic])
check("delete topic", topic not in admin.list_topics())
print(f"kafka-python: {passed} passed, 0 failed")

"""Logs in with librdkafka (the confluent-kafka binding) where rules are in force.

Usage: secure.py HOST:PORT CAFILE PASSWORD TOKEN
alice may write and read the topic "secure" and use groups "secure-*", by password (SCRAM-SHA-512);
carol, by token (OAUTHBEARER), may only read it. Both are refused anything else. alice may produce
2,000 bytes a second as client "held", 2,500 as any other, and 3,000 were she nobody.
"""
import sys
import time

from confluent_kafka import Consumer, KafkaError, Producer

broker, cafile, password, token = sys.argv[1:]
passed = 0


def check(name, ok, detail=""):
    global passed
    if not ok:
        sys.exit(f"librdkafka, secure: {name} failed: {detail}")
    passed += 1


base = {"bootstrap.servers": broker, "security.protocol": "SASL_SSL", "ssl.ca.location": cafile, "topic.metadata.refresh.interval.ms": 1000}
alice = base | {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "alice", "sasl.password": password}
carol = base | {"sasl.mechanism": "OAUTHBEARER", "oauth_cb": lambda _: (token, time.time() + 600)}


def produce(who, topic):
    """Returns the error of one record, None if it is acked."""
    outcome, errors = [], []
    producer = Producer(who | {"message.timeout.ms": 8000, "error_cb": errors.append})
    producer.produce(topic, b"from python", on_delivery=lambda err, _: outcome.append(err))
    deadline = time.monotonic() + 9
    while not outcome and time.monotonic() < deadline:
        producer.poll(0.1)
        for error in errors:
            if error.code() == KafkaError._AUTHENTICATION:
                producer.purge()
                return error
    return outcome[0] if outcome else errors[-1]


def consume(who, group):
    """Returns a record, or the error that came instead."""
    consumer = Consumer(who | {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe(["secure"])
    try:
        deadline = time.monotonic() + 9
        while time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None:
                return message.error() or message.value()
    finally:
        consumer.close()


def throttled(who, client):
    """Returns how many seconds a client has to wait after a record of 100 kB."""
    waits, errors = [], []
    producer = Producer(who | {"client.id": client, "throttle_cb": lambda event: waits.append(event.throttle_time), "error_cb": errors.append})
    producer.produce("secure", b"v" * 100_000)
    deadline = time.monotonic() + 9
    while not waits and time.monotonic() < deadline:
        producer.poll(0.1)
    producer.purge()
    return waits[0] if waits else errors


check("SCRAM-SHA-512, produce", produce(alice, "secure") is None)
check("SCRAM-SHA-512, consume", consume(alice, "secure-python") == b"from python")
got = consume(carol, "secure-carol")
check("OAUTHBEARER, consume", got == b"from python", got)
error = produce(carol, "secure")
check("produce without a rule", error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, error)
error = consume(alice, "others")
check("another's group", isinstance(error, KafkaError) and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED, error)
error = produce(alice | {"sasl.password": "another"}, "secure")
check("a wrong password", error is not None and error.code() == KafkaError._AUTHENTICATION, error)
for client, least, most in ("held", 39, 42), ("other", 29, 32):
    wait = throttled(alice, client)
    check(f"quota of alice's client {client}", isinstance(wait, float) and least < wait < most, wait)
print(f"librdkafka, secure: {passed} passed, 0 failed")

// Drives rustmq with kafkajs.
//
// Usage: node kafkajs.mjs HOST:PORT DIR
// DIR/node_modules has what package.json names. Creates topics, produces with
// every codec, consumes by groups of one and two members, seeks, copies in
// transactions, and administers topics, configs, offsets and groups.
import { createRequire } from 'node:module';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { resolve } from 'node:path';

const [broker, dir] = process.argv.slice(2);
const require = createRequire(resolve(dir, 'package.json'));
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = require('kafkajs');
const Lz4 = require('@2l/kafkajs-lz4');
const zstd = require('@mongodb-js/zstd');
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy');
CompressionCodecs[CompressionTypes.LZ4] = new (Lz4.default ?? Lz4)().codec;
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: (encoder) => zstd.compress(encoder.buffer, 3),
  decompress: (buffer) => zstd.decompress(buffer),
});

let passed = 0;
function check(name, ok, detail = '') {
  if (!ok) {
    console.error(`kafkajs: ${name} failed:`, detail);
    process.exit(1);
  }
  passed++;
}
const kafka = new Kafka({ clientId: 'compat-js', brokers: [broker], logLevel: logLevel.NOTHING });
const topic = `kafkajs-${randomBytes(4).toString('hex')}`;
// A consumer ends, and sees a rebalance, only when its fetch is answered.
const member = { sessionTimeout: 10000, heartbeatInterval: 200, maxWaitTimeInMs: 100 };
const admin = kafka.admin();
await admin.connect();

// Runs a member of a group until done(records) says so, or 30 s are over.
async function read(config, from, done) {
  const consumer = kafka.consumer({ ...member, ...config });
  const records = [];
  await consumer.connect();
  await consumer.subscribe({ topics: [from], fromBeginning: true });
  const finished = new Promise((enough) => {
    setTimeout(enough, 30000).unref();
    consumer.run({
      eachMessage: async ({ partition, message }) => {
        records.push({ partition, ...message });
        if (done(records)) enough();
      },
    });
  });
  await finished;
  await consumer.disconnect();
  return records;
}

async function topics() {
  check('create topic', await admin.createTopics({ topics: [{ topic, numPartitions: 3, configEntries: [{ name: 'retention.ms', value: '3600000' }] }] }));
  check('create topic twice', !(await admin.createTopics({ topics: [{ topic, numPartitions: 3 }] })));
  const { topics: [described] } = await admin.fetchTopicMetadata({ topics: [topic] });
  check('topic metadata', described.partitions.length === 3 && described.partitions.every((p) => p.leader === p.isr[0]), described);
  const cluster = await admin.describeCluster();
  check('describe cluster', cluster.brokers.length === 1 && cluster.clusterId && cluster.controller !== null, cluster);
}

async function produce() {
  const sent = new Map();
  for (const [codec, compression] of Object.entries(CompressionTypes)) {
    for (const acks of [0, 1, -1]) {
      const producer = kafka.producer({ allowAutoTopicCreation: false, idempotent: acks === -1 });
      await producer.connect();
      const messages = [];
      for (let i = 0; i < 50; i++) {
        const key = `${codec} ${acks} ${i}`;
        const value = `value ${i} `.repeat(20);
        sent.set(key, value);
        messages.push({ key, value, headers: { codec } });
      }
      const answer = await producer.send({ topic, acks, compression, messages });
      check(`produce ${codec} acks=${acks}`, acks === 0 || answer.every((a) => a.errorCode === 0), answer);
      await producer.disconnect();
    }
  }
  return sent;
}

async function consume(sent) {
  const groupId = `g-${topic}`;
  const records = await read({ groupId }, topic, (got) => got.length === sent.size);
  const got = new Map(records.map((r) => [r.key.toString(), r.value.toString()]));
  check('consume by group', records.length === sent.size && [...sent].every(([key, value]) => got.get(key) === value), `${got.size} of ${sent.size}`);
  check('headers', records.every((r) => r.key.toString().startsWith(`${r.headers.codec} `)));
  const offsets = await admin.fetchTopicOffsets(topic);
  check('topic offsets', offsets.reduce((sum, o) => sum + Number(o.high), 0) === sent.size, offsets);
  const [committed] = await admin.fetchOffsets({ groupId, topics: [topic] });
  check('committed offsets', committed.partitions.reduce((sum, p) => sum + Number(p.offset), 0) === sent.size, committed);
  const then = await admin.fetchTopicOffsetsByTimestamp(topic, 1000);
  check('offsets by time', then.length === 3 && then.every((o) => o.offset === '0'), then);

  await admin.resetOffsets({ groupId, topic, earliest: true });
  const again = await read({ groupId }, topic, (have) => have.length === sent.size);
  check('read again after a reset', again.length === sent.size, again.length);
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '5' }] });
  const [set] = await admin.fetchOffsets({ groupId, topics: [topic] });
  check('set offsets', set.partitions.find((p) => p.partition === 0).offset === '5', set);
}

// Two members share the partitions; when one leaves, the other has all of them.
async function rebalance() {
  const groupId = `two-${topic}`;
  const join = async () => {
    const consumer = kafka.consumer({ ...member, groupId });
    const owned = { consumer, partitions: [] };
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      owned.partitions = payload.memberAssignment[topic] ?? [];
      owned.changed?.();
    });
    await consumer.connect();
    await consumer.subscribe({ topics: [topic] });
    await consumer.run({ eachMessage: async () => {} });
    return owned;
  };
  const until = async (members, name, ok) => {
    const late = AbortSignal.timeout(30000);
    while (!ok()) {
      await Promise.race([once(late, 'abort'), ...members.map((m) => new Promise((change) => { m.changed = change; }))]);
      if (late.aborted) break;
    }
    check(name, ok(), members.map((m) => m.partitions));
  };
  const one = await join();
  await until([one], 'one member', () => one.partitions.length === 3);
  const two = await join();
  await until([one, two], 'two members', () => one.partitions.length > 0 && two.partitions.length > 0
    && new Set([...one.partitions, ...two.partitions]).size === 3 && one.partitions.length + two.partitions.length === 3);
  const { groups: [described] } = await admin.describeGroups([groupId]);
  check('describe group', described.state === 'Stable' && described.members.length === 2 && described.protocol === 'RoundRobinAssigner', described);
  await two.consumer.disconnect();
  await until([one], 'one member left', () => one.partitions.length === 3);
  await one.consumer.disconnect();
}

async function transactions() {
  const out = `out-${topic}`;
  const groupId = `copy-${topic}`;
  await admin.createTopics({ topics: [{ topic: out, numPartitions: 2 }] });
  const producer = kafka.producer({ transactionalId: `tx-${topic}`, idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  const write = async (key, end) => {
    const transaction = await producer.transaction();
    await transaction.send({ topic: out, messages: Array.from({ length: 10 }, (_, i) => ({ key: `${key} ${i}`, value: 'v' })) });
    await transaction.sendOffsets({ consumerGroupId: groupId, topics: [{ topic, partitions: [{ partition: 0, offset: String(key) }] }] });
    await transaction[end]();
  };
  for (let i = 1; i <= 6; i++) await write(i, i % 2 ? 'commit' : 'abort');
  const [offsets] = await admin.fetchOffsets({ groupId, topics: [topic] });
  check('offsets of transactions', offsets.partitions.find((p) => p.partition === 0).offset === '5', offsets);
  const fencing = kafka.producer({ transactionalId: `tx-${topic}`, idempotent: true, maxInFlightRequests: 1 });
  await fencing.connect();
  const last = await fencing.transaction();
  await last.send({ topic: out, messages: [{ key: 'last', value: 'v' }] });
  const fenced = await write(7, 'commit').then(() => null, (error) => error);
  check('fenced', /fenced|epoch/i.test(`${fenced?.type} ${fenced}`), fenced);
  await last.commit();
  await producer.disconnect();
  await fencing.disconnect();
  const committed = await read({ groupId: `check-${topic}`, readUncommitted: false }, out, (got) => got.length >= 31);
  const keys = committed.map((r) => r.key.toString());
  check('read committed', keys.length === 31 && new Set(keys).size === 31 && keys.includes('last') && keys.every((k) => /^[135] |^last$/.test(k)), keys);
}

async function administer(sent) {
  await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] });
  check('create partitions', (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 4);
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic };
  await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'max.message.bytes', value: '200000' }] }] });
  const { resources: [configs] } = await admin.describeConfigs({ includeSynonyms: true, resources: [resource] });
  const value = (name) => configs.configEntries.find((c) => c.configName === name)?.configValue;
  check('alter config', value('max.message.bytes') === '200000' && value('retention.ms') !== '3600000', configs.configEntries.slice(0, 3));
  const refused = await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'cleanup.policy', value: 'shrink' }] }] })
    .then(() => null, (error) => error);
  check('refused config', refused?.type === 'INVALID_CONFIG', refused);
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '5' }] });
  const [first] = (await admin.fetchTopicOffsets(topic)).filter((o) => o.partition === 0);
  check('delete records', first.low === '5', first);
  const groups = (await admin.listGroups()).groups.map((g) => g.groupId);
  check('list groups', groups.includes(`g-${topic}`) && groups.includes(`two-${topic}`), groups);
  await admin.deleteGroups([`g-${topic}`, `two-${topic}`]);
  const left = (await admin.listGroups()).groups.map((g) => g.groupId);
  check('delete groups', !left.includes(`g-${topic}`) && !left.includes(`two-${topic}`), left);
  await admin.deleteTopics({ topics: [topic] });
  check('delete topic', !(await admin.listTopics()).includes(topic));
}

try {
  await topics();
  const sent = await produce();
  await consume(sent);
  await rebalance();
  await transactions();
  await administer(sent);
} catch (error) {
  console.error('kafkajs:', error);
  process.exit(1);
}
await admin.disconnect();
console.log(`kafkajs: ${passed} passed, 0 failed`);

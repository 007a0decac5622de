// What the cluster has when the pages are looked at: some of everything, and what strangers
// would write where they may.
import { readFileSync } from 'node:fs';
import { password } from './cluster.mjs';
import { until } from './until.mjs';

const markup = '<img src=x onerror="document.title=\'taken\'">';

// What strangers may choose: each is to be shown as the text that it is.
export const hostile = {
  markup,
  group: `billing/${markup}?a=1#b %2F..`,
  user: `"><script>document.title='taken'</script>`,
  topic: '__proto__',
  longTopic: `long.${'x'.repeat(244)}`, // as long as a name may be
  header: `</td><svg onload="document.title='taken'">`,
  direction: 'paid \u202e drawer \u2066 \u200b', // turns the text behind it around
  value: `${markup}\n</script><script>document.title='taken'</script>\n\u0000\u001b[2J javascript:alert(1)`,
};

export const quakes = readFileSync(new URL('../data/earthquakes.ndjson', import.meta.url), 'utf8').split('\n').filter(Boolean);

const partitions = 6;

// Fills a cluster, and returns when all of it can be seen.
export async function fill(cluster) {
  const create = (name, more = {}) => made(cluster, 'POST', '/api/v1/topics', { name, ...more });
  await Promise.all([
    create('orders', { partitions, configs: { 'retention.ms': '604800000' } }),
    create('payments', { partitions: 3, configs: { 'cleanup.policy': 'compact' } }),
    create('quakes', { partitions: 3 }),
    create('strong'),
    create('letters'),
    create('empty'),
    create('objects', { configs: { 'rustmq.durability': 'object' } }),
    create(hostile.topic),
    create(hostile.longTopic),
    create('strange'),
  ]);
  await users(cluster);
  await modules(cluster);
  const orders = (from, count) => Array.from({ length: count }, (_, i) => ({
    key: `customer-${(from + i) % 97}`, value: quakes[(from + i) % quakes.length], headers: [{ key: 'trace', value: `t-${from + i}` }, { key: 'kind', value: 'order' }],
  }));
  await Promise.all([
    cluster.produce('orders', orders(0, 3000)),
    cluster.produce('payments', Array.from({ length: 500 }, (_, i) => ({ key: `account-${i % 50}`, value: `{"paid":${i}}` }))),
    cluster.produce('quakes', quakes.slice(0, 400).map((value) => ({ value }))),
    cluster.produce('strange', strange()),
    cluster.produce(hostile.topic, [{ key: 'constructor', value: 'toString' }]),
  ]);
  // Groups that have read a part of it, and lag by the rest.
  await cluster.consume('orders', '-g', 'billing', '-n', '1000');
  await cluster.consume('orders', '-g', 'shipping', '-e');
  await cluster.consume('strange', '-g', hostile.group, '-n', '1');
  await cluster.produce('orders', orders(3000, 500));
  await until('something is in the bucket', async () => (await cluster.call('GET', '/api/v1/topics/orders')).body.bucket_bytes > 0);
}

// A call that is to succeed: brokers may be on their way into the cluster, and to its
// feature level.
export async function made(cluster, method, path, body) {
  return await until(`${method} ${path}`, async () => {
    const answer = await cluster.call(method, path, body);
    if (answer.status === 409) return answer; // by a try before, whose answer was late
    if (answer.status >= 400) throw new Error(`${answer.status}: ${JSON.stringify(answer.body)}`);
    return answer;
  });
}

async function users(cluster) {
  for (const name of ['root', 'reader', 'nobody', 'guest', hostile.user]) await made(cluster, 'POST', '/api/v1/users', { name, password });
  const rule = (principal, resource_type, name, operation, permission = 'allow') => ({
    principal, host: '*', resource_type, pattern: name.endsWith('*') && name !== '*' ? 'prefixed' : 'literal', name: name === '*' ? name : name.replace(/\*$/, ''), operation, permission,
  });
  await made(cluster, 'POST', '/api/v1/acls', {
    acls: [
      rule('User:reader', 'cluster', 'kafka-cluster', 'describe'),
      rule('User:reader', 'topic', 'orders', 'read'),
      rule('User:reader', 'group', 'billing', 'describe'),
      rule('User:reader', 'topic', 'payments', 'write', 'deny'),
      rule('User:CN=checkout', 'topic', 'ord*', 'write'),
      rule(`User:${hostile.user}`, 'group', hostile.group, 'read'),
    ],
  });
}

async function modules(cluster) {
  const deploy = (name, body) => made(cluster, 'POST', `/api/v1/etl/modules/${name}/versions`, body);
  const rules = (least) => ({ rules: [{ when: `mag >= ${least}`, action: 'route', topic: 'strong' }] });
  const spec = (least) => ({ mode: 'inline', topics: ['quakes'], on_failure: 'dead-letter', dead_letter_topic: 'letters', routes: ['strong'], config: rules(least), deadline_ms: 5000 });
  await deploy('strong', { battery: 'project', spec: spec(5) });
  await deploy('strong', { battery: 'project', spec: spec(4) });
  await deploy('hide-cards', { battery: 'mask', disabled: true, spec: { mode: 'inline', topics: ['payments'], config: { fields: [{ path: 'card', action: 'mask', keep_last: 4 }] } } });
}

// Records that a page has to show as what they are.
function strange() {
  const bytes = (n) => Buffer.from(Uint8Array.from({ length: n }, (_, i) => (i * 7 + 128) % 256)).toString('base64');
  return [
    { key: hostile.markup, value: hostile.value, headers: [{ key: hostile.header, value: hostile.markup }] },
    { key_base64: bytes(40), value_base64: bytes(400), headers: [{ key: 'bytes', value_base64: bytes(16) }] },
    { key: 'tombstone', value: null },
    { key: null, value: '' },
    { key: hostile.direction, value: hostile.direction },
    { key: 'wide', value: 'x'.repeat(100_000) }, // more than a look shows
    { key: 'deep', value: '['.repeat(2000) + ']'.repeat(2000) },
    { key: 'number', value: '{"id": 12345678901234567890, "__proto__": {"polluted": true}}' }, // not a number that JavaScript has
  ];
}

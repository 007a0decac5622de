// Nodes of rustmq as their operators start them: certificates, passwords and rules are on. It
// owns the processes and their directory, and gives ways to ask them that no page is part of.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './until.mjs';

export const superUser = 'root';
export const password = 'correct horse battery staple';

// What a shell of somebody else has set is not for the nodes.
const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('RUSTMQ_')));

// A command that failed, with all that it said.
class CommandError extends Error {
  constructor(args, code, stderr) {
    super(`rustmq ${args.join(' ')}: exit ${code}: ${stderr}`);
    this.code = code;
    this.stderr = stderr;
  }
}

export class Cluster {
  // bin is the program; with size 1 it is a node alone without certificates, asked nothing. set is
  // more of its configuration.
  constructor(bin, size = 3, set = {}) {
    this.bin = bin;
    this.size = size;
    this.set = set;
    this.dir = mkdtempSync(join(tmpdir(), 'rustmq-console-'));
    this.net = `127.${1 + Math.floor(Math.random() * 250)}.${1 + Math.floor(Math.random() * 250)}`;
    this.nodes = new Map();
    mkdirSync(join(this.dir, 'home'));
    process.on('exit', () => this.kill());
  }

  host(id) {
    return `${this.net}.${id}`;
  }

  // Where a browser finds a node.
  url(id = 1) {
    return `${this.secure ? 'https' : 'http'}://${this.host(id)}:9642`;
  }

  get secure() {
    return this.size > 1;
  }

  async begin() {
    if (this.secure) {
      await this.run(['admin', 'ca', 'init', '--cn', 'Console CA', '--no-passphrase', '--ca-dir', join(this.dir, 'ca')]);
      for (let id = 1; id <= this.size; id++) await this.issue(id);
      this.ca = readFileSync(join(this.dir, 'certs', 'bundle.pem'));
    }
    this.passwordFile = join(this.dir, 'password');
    writeFileSync(this.passwordFile, `${password}\n`, { mode: 0o600 });
    await Promise.all(Array.from({ length: this.size }, (_, i) => this.start(i + 1)));
    await until('all brokers serve', async () => {
      const { body } = await this.call('GET', '/api/v1/brokers');
      return body.brokers?.filter((b) => b.state === 'serving').length === this.size;
    });
  }

  issue(id) {
    return this.run(['admin', 'certs', 'issue', `node-${id}`, '--ca-dir', join(this.dir, 'ca'), '--profile', 'broker,controller',
      '--cluster', 'console', '--node', `${id}`, '--host', this.host(id), '--out', join(this.dir, 'certs')]);
  }

  // Starts a node that is none of those that the cluster began with.
  async join(id) {
    await this.issue(id);
    await this.start(id);
  }

  // Starts a node and waits until it can be used.
  async start(id) {
    const peers = Array.from({ length: this.size }, (_, i) => `${i + 1}@${this.host(i + 1)}`).join(',');
    const certs = (name) => join(this.dir, 'certs', name);
    const set = {
      'wal.capacity': '96MiB', 'wal.segment_size': '8MiB', 'wal.memory': '16MiB', 'wal.upload_bytes': '1MiB', 'wal.upload_interval': '1s',
      'broker.auto_create_topics': 'false',
      // As long as a machine that runs other tests too needs.
      'replication.heartbeat_timeout': '5s', 'controller.raft.election_timeout': '1s',
      // All that call come from one address.
      'security.rest.requests': '100000', 'security.rest.requests_per_ip': '100000', ...this.set,
    };
    if (this.secure) {
      Object.assign(set, {
        'network.tls': 'on', 'network.http_tls': 'on', 'security.sasl.mechanisms': 'SCRAM-SHA-512,PLAIN', 'security.authorization.super_users': superUser,
        'security.tls.cert_file': certs(`node-${id}.pem`), 'security.tls.key_file': certs(`node-${id}.key`),
        'security.cluster.ca_file': certs('bundle.pem'), 'security.cluster.cert_file': certs(`node-${id}.pem`), 'security.cluster.key_file': certs(`node-${id}.key`),
      });
    }
    const node = { log: '' };
    node.process = spawn(this.bin, ['serve', '--node-id', `${id}`, '--bind', this.host(id), ...(this.secure ? ['--peers', peers] : []),
      '--data-dir', join(this.dir, `node-${id}`), '--bucket', `file://${join(this.dir, 'bucket')}`,
      ...Object.entries(set).flatMap(([key, value]) => ['--set', `${key}=${value}`])], { cwd: this.dir, env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
    this.nodes.set(id, node);
    node.ended = once(node.process, 'exit');
    node.process.stderr.on('data', (text) => { node.log += text; });
    const ready = once(node.process.stdout, 'data');
    await Promise.race([ready, node.ended.then(() => { throw new Error(`node ${id} ended:\n${node.log}`); })]);
  }

  async end(id, signal = 'SIGKILL') {
    const node = this.nodes.get(id);
    this.nodes.delete(id);
    node.process.kill(signal);
    await node.ended;
  }

  // Ends all nodes at once, where nothing can be waited for.
  kill() {
    for (const node of this.nodes.values()) node.process.kill('SIGKILL');
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5 }); // they may write still
  }

  async close() {
    await Promise.all([...this.nodes.keys()].map((id) => this.end(id)));
    rmSync(this.dir, { recursive: true, force: true });
  }

  // Runs a command, which is to succeed, and returns what it prints.
  async run(args, input = '') {
    const child = spawn(this.bin, args, { cwd: this.dir, env: { ...environment, HOME: join(this.dir, 'home') } });
    let stdout = '', stderr = '';
    child.stdout.on('data', (text) => { stdout += text; });
    child.stderr.on('data', (text) => { stderr += text; });
    child.stdin.on('error', () => {}); // it may end before it has read all
    child.stdin.end(input);
    const [code] = await once(child, 'close');
    if (code !== 0) throw new CommandError(args, code, stderr);
    return stdout;
  }

  trust() {
    return this.secure ? ['--cafile', join(this.dir, 'certs', 'bundle.pem')] : [];
  }

  // rustmq admin …, by who runs the nodes.
  admin(...args) {
    const token = this.secure ? ['--token-file', join(this.dir, 'node-1', 'admin.token')] : [];
    return this.run(['admin', '--url', this.url(), ...this.trust(), ...token, ...args]);
  }

  clientFlags(user = superUser) {
    const who = this.secure ? ['--tls', ...this.trust(), '--user', user, '--password-file', this.passwordFile] : [];
    return ['-b', `${this.host(1)}:9092`, '--transport', 'tcp', ...who];
  }

  // rustmq produce and consume; records are what -f json takes and prints.
  produce(topic, records, ...flags) {
    return this.run(['produce', topic, ...this.clientFlags(), '-f', 'json', ...flags], records.map((r) => JSON.stringify(r)).join('\n') + '\n');
  }

  async consume(topic, ...flags) {
    const said = await this.run(['consume', topic, ...this.clientFlags(), '-f', 'json', ...flags]);
    return said.split('\n').filter(Boolean).map((line) => JSON.parse(line));
  }

  // A call of the admin API by who runs the node, or by a cookie; answers {status, headers, bytes, body}.
  async call(method, path, body, { node = 1, headers = {}, anonymous = false } = {}) {
    const token = this.secure && !anonymous && !headers.Authorization && !headers.Cookie
      ? { Authorization: `Bearer ${readFileSync(join(this.dir, `node-${node}`, 'admin.token'), 'utf8').trim()}` } : {};
    const sent = body === undefined ? undefined : JSON.stringify(body);
    const request = (this.secure ? https : http).request(this.url(node) + path, {
      method, ca: this.ca, agent: false, headers: { ...token, ...headers, ...(sent ? { 'Content-Type': 'application/json' } : {}) },
    });
    request.end(sent);
    const [response] = await once(request, 'response');
    const parts = [];
    for await (const part of response) parts.push(part);
    const bytes = Buffer.concat(parts);
    const packed = response.headers['content-encoding'] !== undefined;
    return {
      status: response.statusCode, headers: response.headers, bytes: bytes.length,
      body: packed ? bytes : /json/.test(response.headers['content-type'] ?? '') ? JSON.parse(bytes) : bytes.toString(),
    };
  }

  // A session of a user at a node: what a browser keeps of it.
  async session(user, node = 1) {
    const { status, headers, body } = await this.call('POST', '/api/v1/session', { user, password }, { node, anonymous: true });
    if (status !== 201) throw new Error(`a session of ${user}: ${status} ${JSON.stringify(body)}`);
    const [pair] = headers['set-cookie'][0].split(';');
    const [name, value] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)];
    return { name, value, url: `${this.url(node)}/`, httpOnly: true, secure: this.secure, sameSite: 'Strict', csrf: body.csrf_token };
  }
}

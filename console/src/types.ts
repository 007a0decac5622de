// The bodies of /api/v1, made from the code that serves it by `make generate`.

export interface ACL {
  /** an address, a range such as 10.0.0.0/8, or * */
  host: string;
  /** of the resource, * for all; of the cluster: kafka-cluster */
  name: string;
  /** read, write, create, delete, alter, describe, cluster-action, describe-configs, alter-configs, idempotent-write or all */
  operation: string;
  /** literal, or prefixed: for all names that begin so */
  pattern: string;
  /** allow, or deny, which wins */
  permission: string;
  /** User:NAME, or User:* for everybody */
  principal: string;
  /** topic, group, cluster, transactional-id, delegation-token or user */
  resource_type: string;
}

export interface ACLAnswer {
  allowed: boolean;
  note?: string;
  /** for the principal, or everybody, about the type of resource */
  rules: ACLConsidered[] | null;
  why: string;
}

export interface ACLConsidered {
  counts: boolean;
  /** an address, a range such as 10.0.0.0/8, or * */
  host: string;
  /** of the resource, * for all; of the cluster: kafka-cluster */
  name: string;
  /** read, write, create, delete, alter, describe, cluster-action, describe-configs, alter-configs, idempotent-write or all */
  operation: string;
  /** literal, or prefixed: for all names that begin so */
  pattern: string;
  /** allow, or deny, which wins */
  permission: string;
  /** User:NAME, or User:* for everybody */
  principal: string;
  /** topic, group, cluster, transactional-id, delegation-token or user */
  resource_type: string;
  why: string;
}

export interface ACLQuestion {
  /** the client's address; left out: not known, as rules see it */
  host?: string;
  name: string;
  operation: string;
  principal: string;
  resource_type: string;
}

export interface AclsBody {
  acls: ACL[] | null;
}

export interface AclsPageBody {
  acls: ACL[] | null;
  /** cursor of what comes behind these; left out: nothing does */
  next?: string;
}

export interface AddedController {
  id: number;
}

export interface AuditEvent {
  action?: string;
  /** events alike that this stands for, where there are several */
  count?: number;
  /** why it is no record that was written so */
  damaged?: string;
  detail?: string;
  door?: string;
  /** of them; time is the last */
  first?: string;
  /** event; begin, where a process began to record; gap, where some could not be recorded */
  kind: string;
  /** of a gap: events that were not recorded */
  lost?: number;
  /** that recorded it */
  node: number;
  /** in topic __audit */
  offset: number;
  outcome?: string;
  principal?: string;
  reason?: string;
  /** client id, or id of the request */
  request?: string;
  resource?: string;
  resource_type?: string;
  source?: string;
  time: string;
}

export interface AuditEvents {
  /** offset behind the last */
  end: number;
  /** oldest first */
  events: AuditEvent[] | null;
  /** there may be others before these, or, with after, behind them */
  more: boolean;
  /** for after: what comes behind what was looked at */
  next: number;
  /** first offset that there is */
  start: number;
}

export interface AuditReport {
  /** how many faults there are, of which the first hundred are told */
  broken: number;
  /** older records were deleted by retention */
  cut: boolean;
  /** offset behind the last record */
  end: number;
  events: number;
  faults?: Fault[] | null;
  /** the newest record of each node's newest chain; kept elsewhere, they show later that nothing before them was rewritten */
  heads: Head[] | null;
  /** chains: one for each start of a process that recorded something */
  lives: number;
  /** events that could not be recorded, as the log says itself */
  lost: number;
  records: number;
  /** first offset of the topic */
  start: number;
  /** brokers that run and did not say how far they have written: whether the end of their chains was cut is not known */
  unasked?: number[] | null;
  /** nothing is broken */
  whole: boolean;
}

export interface Backup {
  at: string;
  cluster_id: string;
  /** which a version has to know that is to read it */
  feature_level: number;
  /** of the last change that is in it */
  offset: number;
  /** as docs/formats.md has it, with the keys of passwords and the hashes of API tokens */
  snapshot: string;
}

export interface BatteriesOutputBody {
  batteries: Battery[] | null;
}

export interface Battery {
  bytes: number;
  /** what it does, in a line */
  doc: string;
  example_config?: unknown;
  name: string;
  sha256: string;
}

export interface Broker {
  /** of its registration */
  epoch: number;
  id: number;
  /** replicas of it that are in sync */
  in_sync: number;
  /** partitions that it leads */
  leads: number;
  listeners: Listener[] | null;
  /** replicas that are coming or going by a reassignment */
  moving: number;
  /** of the answer to a drain: the id of what it began */
  operation?: string;
  rack?: string;
  replica_list?: Replica[] | null;
  /** partitions that it has a replica of */
  replicas: number;
  /** serving, fenced (not in service), or draining */
  state: string;
}

export interface BrokerReplicas {
  after: number;
  before: number;
  id: number;
}

export interface BrokersOutputBody {
  brokers: Broker[] | null;
  /** cursor of what comes behind these; left out: nothing does */
  next?: string;
}

export interface BucketState {
  /** closed: requests pass */
  circuit: "closed" | "open" | "half-open";
  /** left out: since the start */
  circuit_since?: string;
  /** that this broker has met */
  damage?: DamageState;
  /** of these, the ones that manifests in the bucket list */
  filed_ranges: number;
  last_error?: string;
  last_error_at?: string;
  last_success_at?: string;
  manifests: number;
  metadata_log: MetadataLogState;
  /** by state: prepared, committed, condemned */
  objects: Record<string, Tally>;
  /** every key of the cluster begins with it */
  prefix: string;
  ranges: number;
  /** of record batches that are kept in the bucket */
  record_bytes: number;
  /** calls that were not made, or not again, to spare the store */
  refused: number;
  requests: RequestCount[] | null;
  retries: number;
  /** requests are counted by this process from then on */
  since: string;
  /** requests under way that have not moved for 5 s, or for a third of what their bytes may take */
  slow: number;
  /** the store has not answered without one of them since */
  slow_since?: string;
  /** of this broker */
  upload?: UploadState;
  /** of this broker */
  wal?: WALState;
  /** what is not as it should be, in words */
  warnings: string[] | null;
  /** the URL of the bucket, without what may be secret */
  where: string;
}

export interface CertificatesOfNode {
  certificates: NodeCertificate[] | null;
  node: number;
  /** why it does not say: the certificates are left out */
  unknown?: string;
}

export interface CertificatesOutputBody {
  /** the process that answers and the brokers in service, in order of their ids */
  nodes: CertificatesOfNode[] | null;
}

export interface ChangesOutputBody {
  /** the last 256, the newest first */
  changes: ConfigChange[] | null;
}

export interface CheckReport {
  /** named by the catalogue, and in the bucket */
  committed: Tally;
  /** named by nothing, and deleted in a while */
  condemned: Tally;
  /** of them, those that are damaged */
  corrupt: Tally;
  /** orphans that were removed */
  deleted: Tally;
  /** the first of each kind */
  findings: Finding[] | null;
  /** of ids that were never issued, or other keys: never touched */
  foreign: Tally;
  /** named by the catalogue, and not in the bucket */
  missing: Tally;
  /** pass it as after to go on; empty: all was looked at */
  next: string;
  /** came after their deletion */
  orphans: Tally;
  /** uploads under way, or not committed in time */
  prepared: Tally;
  /** a manifest that cannot be read may list them, or they are orphans: never touched */
  unjudged: Tally;
  /** objects that were read */
  verified: Tally;
  /** named by the catalogue with another size */
  wrong_size: Tally;
}

export interface CheckRequest {
  /** where to go on: next of the answer before */
  after?: string;
  /** of each kind that are told; 0: 20 */
  findings?: number;
  /** delete orphans that two listings have shown, object_storage.grace apart; nothing else ever is */
  repair?: boolean;
  /** read every byte of what the catalogue names, and compare it with its checksums */
  verify?: boolean;
}

export interface ClockConfirmed {
  /** false: there was nothing to confirm, and nothing was changed */
  confirmed: boolean;
  /** why retention had stopped */
  was?: string;
}

export interface ClusterHealth {
  healthy: boolean;
  /** what is not as usual, and meant to be so */
  notes: string[] | null;
  /** what is wrong, the worst first */
  problems: Problem[] | null;
}

export interface ClusterNode {
  /** the highest that its version knows; 0: it has not said */
  feature_level: number;
  id: number;
  rack?: string;
  roles: string[] | null;
  /** of its broker: serving, fenced or draining */
  state?: string;
}

export interface ClusterSetting {
  /** the broker that it is set on; -1: all nodes */
  broker: number;
  /** as in the configuration; defaults of topics have Kafka's name, as log.retention.ms */
  key: string;
  /** what clients of Kafka call it */
  name: string;
  value: string;
}

export interface ClusterView {
  /** without what may be secret */
  bucket?: string;
  /** bytes of batches in them that are still read */
  bucket_bytes: number;
  cluster_id: string;
  /** the node that leads; -1: none is known */
  controller: number;
  /** that every node may use */
  feature_level: number;
  /** of the cluster in its bucket; 0: it has none yet */
  incarnation: number;
  /** the highest feature level that the process that answers knows */
  known_level: number;
  nodes: ClusterNode[] | null;
  /** committed objects in the bucket */
  objects: number;
  partitions: number;
  topics: number;
  /** of the process that answers */
  version: string;
}

export interface ConfigChange {
  /** by the clock of the controller */
  at?: string;
  /** -1: all nodes */
  broker: number;
  /** the principal that asked; left out: nobody was asked who it is */
  by?: string;
  keys: ConfigKeyChange[] | null;
  /** index of the change in the metadata log */
  version: number;
}

export interface ConfigKeyChange {
  key: string;
  /** left out: it is not set any more */
  new?: string;
  /** left out: it was not set */
  old?: string;
}

export interface ConfigPatch {
  /** keys that go back to their default */
  delete?: string[] | null;
  /** change nothing: answer what would, or why it would not be taken */
  dry_run?: boolean;
  set?: Record<string, string>;
}

export interface ConfigSet {
  /** one broker; left out: all nodes */
  broker?: number;
  /** keys that go back to what each node's own sources say */
  delete?: string[] | null;
  dry_run?: boolean;
  set?: Record<string, string>;
}

export interface ConfigView {
  /** the process that answers */
  node: number;
  set: ClusterSetting[] | null;
  /** of the process that answers */
  settings: Setting[] | null;
  /** of the last change of what is set */
  version: number;
}

export interface Controller {
  /** heard of by the leader within the last election timeout */
  active: boolean;
  /** where brokers reach it */
  controller?: string;
  /** id of its data directory */
  directory: string;
  id: number;
  /** committed entries that it does not have */
  lag: number;
  leads: boolean;
  /** index up to which it has the metadata log */
  match: number;
  /** where other controllers reach it */
  raft?: string;
  /** voter, learner (sent the log, without a vote yet), or waiting (no member: it is to be added) */
  role: string;
}

export interface ControllerGroup {
  /** index up to which a majority has the metadata log */
  committed: number;
  controllers: Controller[] | null;
  leader: number;
  /** index of the leader's newest snapshot */
  snapshot: number;
  /** it grows with every election */
  term: number;
}

export interface Cost {
  /** all bytes that were put, by those that were uploaded */
  amplification?: number;
  /** storage on disks, in multiples of that in the bucket */
  cheaper: number;
  /** the same records on replicated disks instead */
  disks: DiskCost;
  /** of storage, for each GiB of records, with what lies around them */
  dollars_per_gib_month: number;
  /** all requests, those of compaction and reading too, for each of these GiB */
  dollars_per_gib_written?: number;
  /** what is stored now, and requests as since the start */
  month: MonthCost;
  prices: DollarsPerUnit;
  /** of the records in them that are kept */
  record_bytes: number;
  request_dollars: number;
  requests: RequestCost[] | null;
  /** requests are counted by this process from then on */
  since: string;
  /** of all objects */
  stored_bytes: number;
  /** uploaded since then, by this process; what compaction writes is not counted again */
  written_bytes: number;
}

export interface CreatedToken {
  created: string;
  /** left out: never */
  expires?: string;
  name: string;
  /** who its bearer is taken for */
  principal: string;
  /** it is for GET only */
  read_only?: boolean;
  /** lost: the cluster was brought back from its bucket, where tokens are not kept: delete it and create another */
  state: "valid" | "expired" | "lost";
  token: string;
}

export interface DamageState {
  /** of one of them */
  corrupt_error?: string;
  /** not served: their log is corrupt */
  corrupt_partitions: number;
  /** by which records could not be read that should be in the log or the bucket */
  last_error?: string;
  last_error_at?: string;
  /** the same, in words */
  warnings?: string[] | null;
}

export interface Decommission {
  /** replicas that begin to move to other brokers */
  begun: number;
  id: number;
  /** the id of what is under way */
  operation: string;
  /** moves that cannot begin, and why */
  refused?: string[] | null;
  /** replicas that it still has */
  replicas: number;
}

export interface DeletedBefore {
  error?: string;
  /** first offset that can be read from now on; left out: nothing is known to be deleted */
  log_start?: number;
  partition: number;
}

export interface DeletedRecords {
  /** in the order of the request */
  partitions: DeletedBefore[] | null;
}

export interface DiskCost {
  dollars_per_gib_month: number;
  /** of copies to replicas in two other zones */
  dollars_per_gib_written: number;
  /** share of each disk that is used */
  filled: number;
  month: number;
  replicas: number;
}

export interface DollarsPerUnit {
  /** a GiB of disk and a month */
  disk: number;
  /** 1000 requests, also heads */
  get: number;
  /** 1000 requests */
  list: number;
  /** 1000 requests */
  put: number;
  source: string;
  /** a GiB and a month */
  storage: number;
  /** a GiB from one zone to another */
  zone: number;
}

export interface Draining {
  /** false: it is given leaderships and replicas again */
  draining: boolean;
}

export interface ETLChange {
  at: string;
  by: string;
  reason?: string;
  version: number;
  what: string;
}

export interface ETLCounts {
  /** batches that an inline module was called for; transactions that were committed for an async one */
  calls: number;
  /** calls that failed */
  failures: number;
  /** what became of records: dropped, routed, rejected, dead-lettered; of an async module kept, dropped, routed, passed, dead_letter */
  outcomes: Record<string, number>;
  /** that it was shown */
  records: number;
  /** of an async module: partitions that were begun anew from the last transaction */
  restarts?: number;
  /** that its calls took, of an inline module */
  seconds?: number;
  /** of an async module: offsets that nobody can read any more */
  skipped?: number;
}

export interface ETLDeploy {
  /** or the name of a module that comes with rustmq */
  battery?: string;
  /** it is deployed, and the version that is active stays so */
  disabled?: boolean;
  /** nothing is changed */
  dry_run?: boolean;
  /** records that it is tried with first */
  sample?: ETLRecord[] | null;
  /** of bytes that were uploaded */
  sha256?: string;
  /** docs/etl-inline.md has its fields */
  spec: unknown;
  /** of the sample; left out: one that the spec names */
  topic?: string;
}

export interface ETLDeployed {
  active: boolean;
  dry_run?: boolean;
  name: string;
  /** what may not be meant so */
  notes: string[] | null;
  sha256: string;
  /** what became of the sample; without one only the times */
  trial: ETLTrial;
  /** that it has, or with dry_run would have had */
  version: number;
}

export interface ETLDisable {
  reason?: string;
}

export interface ETLEnable {
  /** left out: the one that was active last, or else the newest */
  version?: number;
}

export interface ETLHeader {
  key: string;
  value?: string | null;
  value_base64?: string;
}

export interface ETLHere {
  /** why it is not ready, or else its last failure */
  error?: string;
  /** since it runs here */
  failures: number;
  /** of an async module: those that the process leads */
  partitions?: ETLPartition[] | null;
  /** false: records for its topics are refused here, and producers try again */
  ready: boolean;
  /** that is to run here; it may be another for a moment after a change */
  version: number;
}

export interface ETLModule {
  /** the version that runs; 0: none */
  active: number;
  /** how it is in the process that answers, if that is a broker and the module active */
  here?: ETLHere;
  /** inline or async, of the version that runs, or else of the last */
  mode?: string;
  name: string;
  /** what becomes of records that it fails on, by that version: reject, pass or dead-letter */
  on_failure?: string;
  /** the version that a rollback goes to */
  previous?: number;
  /** what was said when its budget was spent */
  reason?: string;
  /** the version that records meet: the active one, or the one whose budget is spent */
  stands?: number;
  /** budget-spent: it was disabled, for it failed too often, and its records meet on_failure until somebody enables, rolls back or disables it */
  state: "active" | "disabled" | "budget-spent";
  /** of that version */
  topics?: string[] | null;
  versions: ETLVersion[] | null;
}

export interface ETLNode {
  broker: number;
  modules: ETLNodeModule[] | null;
  unknown?: string;
}

export interface ETLNodeModule {
  /** it runs there; false: only what it did is told */
  active: boolean;
  /** since the process began; of an async module since it is active there */
  counts: ETLCounts;
  /** why it is not ready, or else its last failure */
  error?: string;
  /** since it runs here */
  failures: number;
  name: string;
  /** of an async module: those that the process leads */
  partitions?: ETLPartition[] | null;
  /** false: records for its topics are refused here, and producers try again */
  ready: boolean;
  /** within the window of its error budget there */
  recent_failures: number;
  /** that is to run here; it may be another for a moment after a change */
  version: number;
}

export interface ETLPartition {
  /** offset of the first record that is to be transformed; -1: not known yet */
  committed: number;
  /** of the partition, as far as it is stable; -1: not known yet */
  end: number;
  /** what is tried again */
  error?: string;
  /** records between the two, holes among them */
  lag: number;
  partition: number;
  state: "starting" | "running" | "waiting" | "refused";
  /** left out: the module cannot be run at all */
  topic?: string;
}

export interface ETLPipeline {
  /** modules that read the topic behind its producers, each for itself */
  async: ETLStep[] | null;
  /** in the order that batches pass them; empty: none */
  inline: ETLStage[] | null;
  topic: string;
}

export interface ETLRecord {
  headers?: ETLHeader[] | null;
  key?: string | null;
  key_base64?: string;
  /** RFC 3339; left out: now */
  timestamp?: string;
  value?: string | null;
  value_base64?: string;
}

export interface ETLRollback {
  reason?: string;
  /** left out: the version that was active before */
  to?: number;
}

export interface ETLStage {
  /** of the highest priority first; of equal ones by name */
  modules: ETLStep[] | null;
  stage: number;
}

export interface ETLStep {
  /** it is shown the records alone for which one of its conditions holds */
  conditional?: boolean;
  dead_letter_topic?: string;
  name: string;
  on_failure: string;
  /** of an async module */
  output?: string;
  priority: number;
  routes?: string[] | null;
  /** its error budget is: records meet on_failure in its place, or with an async one wait */
  spent?: boolean;
  version: number;
}

export interface ETLSum {
  /** brokers that have answered */
  asked: number;
  counts: ETLCounts;
  /** of an async module, if the question is about it alone */
  lag?: number;
  name: string;
  /** brokers on which it is ready */
  ready: number;
  /** within the window of its error budget, on the broker that has most: each has a budget of its own */
  recent_failures: number;
}

export interface ETLTest {
  sample: ETLRecord[] | null;
  topic?: string;
  /** left out: the one that is active, or else the newest */
  version?: number;
}

export interface ETLTrial {
  /** microseconds of the calls with the records */
  call_us: number;
  /** microseconds, to verify, compile and initialise it */
  load_us: number;
  /** what the module said */
  logs?: string[] | null;
  records: ETLTried[] | null;
  /** that the records were taken to be of */
  topic: string;
}

export interface ETLTried {
  /** change: it is kept, with other content; skip: no condition of the spec holds, and the module is not shown it */
  action: "keep" | "change" | "drop" | "route" | "reject" | "skip";
  /** where it is changed */
  after?: ETLRecord;
  before: ETLRecord;
  error?: string;
  /** the topic of a route, the reason of a rejection */
  text?: string;
}

export interface ETLVersion {
  by: string;
  bytes: number;
  created: string;
  number: number;
  sha256: string;
  /** left out of lists */
  spec?: unknown;
}

export interface ErrorDetail {
  /** Where the error occurred, e.g. 'body.items[3].tags' or 'path.thing-id' */
  location?: string;
  /** Error message text */
  message?: string;
  /** The value at the given location */
  value?: unknown;
}

export interface ErrorModel {
  /** A human-readable explanation specific to this occurrence of the problem. */
  detail?: string;
  /** Optional list of individual error details */
  errors?: ErrorDetail[] | null;
  /** A URI reference that identifies the specific occurrence of the problem. */
  instance?: string;
  /** HTTP status code */
  status?: number;
  /** A short, human-readable summary of the problem type. This value should not change between occurrences of the error. */
  title?: string;
  /** A URI reference to human-readable documentation for the error. */
  type?: string;
}

export interface EtlNodesOutputBody {
  /** the same by module */
  modules: ETLSum[] | null;
  /** the brokers in service, in order of their ids */
  nodes: ETLNode[] | null;
}

export interface Evacuation {
  /** how many replicas the other brokers in service have, before and afterwards */
  brokers: BrokerReplicas[] | null;
  /** it has nothing and does not serve: DELETE takes it out of the cluster */
  forgets: boolean;
  id: number;
  /** bytes of these partitions in the bucket, which do not move */
  kept_bytes: number;
  /** partitions that others would come to lead */
  leads: number;
  /** replicas that others would be given in its place */
  moves: ReplicaMove[] | null;
  /** of them, those that a reassignment moves already */
  moving: number;
  /** replicas that it has */
  replicas: number;
  /** what new replicas would be sent: records that are not in the bucket yet, as leaders say */
  sent_bytes: number;
  /** of the broker, as it is listed */
  state: string;
  /** partitions that no other broker in service can take */
  stuck?: string[] | null;
  /** partitions of which it is not known what would be sent, for their leaders do not say: the first ten */
  unknown?: string[] | null;
}

export interface Fault {
  kind: string;
  life?: string;
  node?: number;
  /** in the topic, where it shows; -1: nowhere */
  offset: number;
  what: string;
}

export interface Finding {
  detail: string;
  key: string;
  kind: "missing" | "wrong-size" | "corrupt" | "orphan" | "foreign";
  object?: string;
  /** byte of the object at which it is corrupt */
  position?: number;
  /** whose records are concerned, where one can tell */
  range?: FindingRange;
  /** bytes in the bucket; 0 when it is missing */
  size: number;
  /** bytes by the catalogue, if it names the object */
  want?: number;
}

export interface FindingRange {
  base: number;
  /** the offset after the last */
  end: number;
  partition: number;
  topic: string;
}

export interface GroupDescription {
  group: string;
  /** classic, or consumer (KIP-848) */
  kind: string;
  /** of all partitions whose leaders can be asked */
  lag_records: number;
  /** since the first record that is not consumed was appended, of the partition of which that is longest ago; left out: not known */
  lag_seconds?: number;
  member_list: GroupMember[] | null;
  members: number;
  partition_list: GroupPartition[] | null;
  /** with a committed offset */
  partitions: number;
  /** consumer, connect or another; empty: only offsets were committed */
  protocol_type: string;
  state: string;
  /** of those partitions, in order; without what the caller may not describe */
  topics: string[] | null;
}

export interface GroupMember {
  assigned: PartitionsTaken[] | null;
  client_id: string;
  host: string;
  /** of a static member */
  instance_id?: string;
  member_id: string;
}

export interface GroupPartition {
  /** left out: nothing is committed */
  committed?: number;
  /** the high watermark */
  end: number;
  /** left out: not known */
  lag_records?: number;
  /** since the first record that is not consumed was appended, as metrics estimate it; left out: not known */
  lag_seconds?: number;
  log_start: number;
  /** who consumes it */
  member_id?: string;
  /** what is not as it should be */
  note?: string;
  partition: number;
  topic: string;
}

export interface GroupSummary {
  group: string;
  /** classic, or consumer (KIP-848) */
  kind: string;
  /** of all partitions whose leaders can be asked */
  lag_records: number;
  /** since the first record that is not consumed was appended, of the partition of which that is longest ago; left out: not known */
  lag_seconds?: number;
  members: number;
  /** with a committed offset */
  partitions: number;
  /** consumer, connect or another; empty: only offsets were committed */
  protocol_type: string;
  state: string;
  /** of those partitions, in order; without what the caller may not describe */
  topics: string[] | null;
}

export interface GroupsOutputBody {
  groups: GroupSummary[] | null;
  /** cursor of what comes behind these; left out: nothing does */
  next?: string;
}

export interface Head {
  hash: string;
  life: string;
  node: number;
  offset: number;
  seq: number;
}

export interface History {
  /** seconds between two points */
  every: number;
  /** by name, as many as times: produced_bytes, produced_records, fetched_bytes, requests and uploaded_bytes a second; produce_p50, produce_p99, produce_p999, fetch_p50, fetch_p99, sync_p50 and sync_p99 in seconds; log_bytes, memory_bytes, waiting_bytes, bucket_bytes, connections and brokers */
  figures: Record<string, (number | null)[] | null>;
  /** of the points, in seconds since 1970, rising */
  times: number[] | null;
}

export interface HistoryOutputBody {
  /** oldest first; the last hundred */
  history: ETLChange[] | null;
}

export interface LagHistory {
  /** between two looks */
  every_seconds: number;
  group: string;
  /** in order of time, as the process that answers has seen since it began; where it could not look there is none, nor while nobody had asked it for groups for an hour */
  points: LagPoint[] | null;
}

export interface LagPoint {
  /** of all partitions whose leaders could be asked */
  lag_records: number;
  /** of the partition that was furthest behind in time; left out: not known */
  lag_seconds?: number;
  time: string;
}

export interface Listener {
  address: string;
  /** peer is for other brokers */
  name: string;
}

export interface Login {
  password: string;
  user: string;
}

export interface MayInputBody {
  /** each METHOD /path, and where it is the body that names what the call is about, METHOD /path BODY; without a body it is about anything */
  calls: string[] | null;
}

export interface MayOutputBody {
  /** of each call, in their order: whether its row allows it; false too for what this process does not serve */
  allowed: boolean[] | null;
}

export interface Message {
  /** its key, its value or its headers are longer than is shown: rustmq consume prints all of it */
  cut?: boolean;
  /** headers that it has */
  header_count: number;
  headers?: ETLHeader[] | null;
  key?: string | null;
  key_base64?: string;
  /** of the whole key */
  key_bytes: number;
  offset: number;
  partition: number;
  /** RFC 3339; left out: now */
  timestamp?: string;
  /** what became of that: who reads what is committed sees the record if it was committed; open: it is not decided, or one before it is not */
  transaction?: "committed" | "aborted" | "open";
  /** it is of a transaction */
  transactional?: boolean;
  value?: string | null;
  value_base64?: string;
  /** of the whole value */
  value_bytes: number;
}

export interface MetadataLogState {
  /** the last change */
  applied: number;
  /** the last one that is in the bucket too */
  shipped: number;
}

export interface ModulesOutputBody {
  modules: ETLModule[] | null;
  /** cursor of what comes behind these; left out: nothing does */
  next?: string;
}

export interface MonthCost {
  /** not foretold from less than a minute */
  requests?: number;
  storage: number;
}

export interface NewPassword {
  /** that it is for; left out: SCRAM-SHA-256 and SCRAM-SHA-512 */
  mechanisms?: string[] | null;
  /** kept only as the keys of SCRAM */
  password: string;
}

export interface NewToken {
  /** 0: it does not expire */
  expires_in_seconds?: number;
  name: string;
  /** User:NAME; left out: the caller */
  principal?: string;
  read_only?: boolean;
}

export interface NewTopic {
  configs?: Record<string, string>;
  dry_run?: boolean;
  name: string;
  /** 0: the broker's default */
  partitions?: number;
  /** 0: min(3, brokers) */
  replication_factor?: number;
}

export interface NewUser {
  /** that it is for; left out: SCRAM-SHA-256 and SCRAM-SHA-512 */
  mechanisms?: string[] | null;
  name: string;
  /** kept only as the keys of SCRAM */
  password: string;
}

export interface NodeCertificate {
  /** left out: it is in no file that a key names */
  file?: string;
  issuer: string;
  /** hosts, addresses and URIs that it is for */
  names: string[] | null;
  not_after: string;
  not_before: string;
  /** hexadecimal */
  serial: string;
  /** of the certificate, hexadecimal */
  sha256: string;
  subject: string;
  /** tls: shown to clients; client-ca: of an authority of theirs; cluster: shown to the other servers; cluster-ca: of an authority of those */
  use: "tls" | "client-ca" | "cluster" | "cluster-ca";
}

export interface NodeCertificatesOutputBody {
  certificates: NodeCertificate[] | null;
}

export interface NodeFigures {
  /** its way to the bucket; closed: requests pass */
  circuit: "closed" | "open" | "half-open";
  damage?: DamageState;
  data_dir: string;
  /** of the disk of its data directory; disk_total_bytes 0: it is not known */
  disk_free_bytes: number;
  disk_total_bytes: number;
  /** URL of its metrics, health and API, as it is dialled from elsewhere; on a loopback address it is reached from its own machine alone */
  http?: string;
  /** of the bucket */
  last_error?: string;
  /** of broker, controller, admin, what the process is; left out by versions that do not say */
  roles?: string[] | null;
  started: string;
  /** what is not as it should be there, in words */
  troubles: string[] | null;
  upload?: UploadState;
  version: string;
  wal?: WALState;
}

export interface NodeReport {
  broker: number;
  figures?: NodeFigures;
  /** why it does not say: the figures are left out */
  unknown?: string;
}

export interface NodesOutputBody {
  /** the brokers in service, in order of their ids */
  nodes: NodeReport[] | null;
}

export interface OffsetMove {
  end: number;
  /** left out: nothing is committed */
  from?: number;
  log_start: number;
  note?: string;
  partition: number;
  /** left out: it stays as it is */
  to?: number;
  topic: string;
}

export interface OffsetPlan {
  executed: boolean;
  group: string;
  /** there is no such group yet: the reset makes it */
  new?: boolean;
  partitions: OffsetMove[] | null;
}

export interface OffsetReset {
  /** every partition that the group has committed an offset of, instead of topics */
  all_topics?: boolean;
  /** do it; else only what would be done is answered */
  execute?: boolean;
  to: "earliest" | "latest" | "offset" | "time" | "shift";
  topics?: ResetTopic[] | null;
  /** the offset; the time, in milliseconds since 1970; or by how many records to shift */
  value?: number;
}

export interface Operation {
  /** of a drain or a decommission */
  broker?: number;
  id: string;
  kind: "drain" | "decommission" | "reassignment";
  /** what there is to do yet */
  left: number;
  /** the first ten that are left */
  partitions?: string[] | null;
  /** stuck: what is left needs a person, as what says; ended: it was taken back, or the broker is gone */
  state: "running" | "done" | "stuck" | "ended";
  /** what there was to do when it began: leaderships, or replicas to move; left out: the id does not say */
  total?: number;
  /** the same in words, and what helps */
  what: string;
}

export interface OperationsOutputBody {
  /** those that are under way, and drains that are done of brokers that have replicas yet */
  operations: Operation[] | null;
}

export interface Overview {
  /** when they were reckoned, in seconds since 1970 */
  at?: number;
  /** in service */
  brokers: number;
  /** the newest, by the names of /api/v1/history; null: not known */
  figures: Record<string, number | null>;
  healthy: boolean;
  internal_topics: number;
  /** false: the process that answers has just begun, and does not know yet */
  judged: boolean;
  /** of which are left out */
  more_problems?: number;
  notes: string[] | null;
  /** of those */
  partitions: number;
  /** what is wrong, the worst first, and no more than 20 */
  problems: Problem[] | null;
  /** brokers that do not say what they count: the figures are without theirs */
  silent: SilentBroker[] | null;
  time: string;
  /** without internal ones */
  topics: number;
}

export interface Partition {
  /** bytes of its batches in the bucket */
  bucket_bytes: number;
  /** first offset that is to be uploaded */
  bucket_end: number;
  /** first offset that compaction by key has not come to */
  cleaned_end?: number;
  /** offset after the last record that can be read */
  high_watermark: number;
  isr: number[] | null;
  leader: number;
  leader_epoch: number;
  /** first offset that is in the write-ahead log; what lies before is read from the bucket */
  local_start: number;
  /** first offset that can be read */
  log_start: number;
  /** those of them that are in memory too */
  memory_bytes: number;
  partition: number;
  replicas: number[] | null;
  /** why its leader does not say what it holds: the figures are at least what the process that answers knows */
  unknown?: string;
  /** bytes of its batches in the write-ahead log of its leader */
  wal_bytes: number;
}

export interface PartitionBefore {
  /** offset before which they go; -1: all that are there */
  before: number;
  partition: number;
}

export interface PartitionCount {
  /** partitions the topic has afterwards */
  total: number;
}

export interface PartitionsOutputBody {
  /** cursor of what comes behind these; left out: nothing does */
  next?: string;
  /** in order of their numbers */
  partitions: Partition[] | null;
}

export interface PartitionsTaken {
  partitions: number[] | null;
  topic: string;
}

export interface PeekedMessages {
  high_watermark: number;
  /** where who reads what is committed reads up to; before it no transaction is open */
  last_stable: number;
  log_start: number;
  /** records that were read for it, shown or not: one look reads 32 MiB at most */
  looked: number;
  /** offset for the next look; high_watermark, or last_stable of what is committed: there is nothing behind these */
  next: number;
  partition: number;
  /** in order of their offsets */
  records: Message[] | null;
  topic: string;
}

export interface PipelinesOutputBody {
  /** cursor of what comes behind these; left out: nothing does */
  next?: string;
  /** of topics that a module is for, in order of their names */
  pipelines: ETLPipeline[] | null;
  /** all topics that a module could be for, as far as the caller may describe them */
  topics: number;
  /** modules whose specs this version does not know */
  unknown?: string[] | null;
}

export interface Probe {
  /** it does all that is needed */
  ok: boolean;
  /** its clock less that of the process that asked */
  skew_seconds: number;
  steps: ProbeStep[] | null;
  where: string;
}

export interface ProbeStep {
  error?: string;
  /** what does not work without it */
  means?: string;
  name: string;
  seconds: number;
}

export interface Problem {
  /** what helps */
  do: string;
  /** it had begun by then, at the start of the process that answers */
  earlier?: boolean;
  /** names the problem for as long as it lasts: leaderless, broker/3, certificate/2 */
  id: string;
  kind: "controllers" | "leaderless" | "under-min-isr" | "under-replicated" | "broker" | "node" | "log" | "disk" | "bucket" | "upload" | "damage" | "healing" | "certificate" | "clock" | "audit" | "config" | "module";
  /** that it is a problem of */
  node?: number;
  /** the first ten that it is of */
  partitions?: string[] | null;
  /** critical: something is not served, or about to be lost; warning: it will come to that, or nothing else may fail meanwhile */
  severity: "critical" | "warning";
  /** when it began, as far as is known; left out: not yet known */
  since?: string;
  /** what is wrong, and what follows from it */
  what: string;
}

export interface QuotaPatch {
  /** as clients call themselves */
  client_id?: string;
  /** every client id that has no quota by name */
  default_client_id?: boolean;
  /** every address that has no quota by name, each for itself */
  default_ip?: boolean;
  /** every user that has no quota by name */
  default_user?: boolean;
  /** keys that are held to nothing any more */
  delete?: string[] | null;
  /** change nothing: answer what would be held to, or why it would not be taken */
  dry_run?: boolean;
  /** an address, such as 192.0.2.7 or 2001:db8::7; with no user and no client id */
  ip?: string;
  set?: Record<string, number>;
  /** name of a user; ANONYMOUS is who has not said */
  user?: string;
}

export interface Quotas {
  /** as clients call themselves */
  client_id?: string;
  /** every client id that has no quota by name */
  default_client_id?: boolean;
  /** every address that has no quota by name, each for itself */
  default_ip?: boolean;
  /** every user that has no quota by name */
  default_user?: boolean;
  /** an address, such as 192.0.2.7 or 2001:db8::7; with no user and no client id */
  ip?: string;
  /** by key: producer_byte_rate and consumer_byte_rate in bytes a second, request_percentage of one core, controller_mutation_rate in partitions a second; of an address, connection_creation_rate in connections a second */
  rates: Record<string, number>;
  /** name of a user; ANONYMOUS is who has not said */
  user?: string;
}

export interface QuotasOutputBody {
  /** cursor of what comes behind these; left out: nothing does */
  next?: string;
  quotas: Quotas[] | null;
}

export interface Rebalance {
  brokers: BrokerReplicas[] | null;
  dry_run: boolean;
  /** bytes of these partitions in the bucket, which do not move */
  kept_bytes: number;
  moves: ReplicaMove[] | null;
  /** the id of what is under way; left out: nothing began */
  operation?: string;
  /** moves that did not begin, and why */
  refused?: string[] | null;
  /** what new replicas are sent: records that are not in the bucket yet, by the last reports of leaders, some KiB of a partition not counted */
  sent_bytes: number;
}

export interface RebalanceRequest {
  /** say what would move, and move nothing */
  dry_run?: boolean;
}

export interface RecordToSend {
  headers?: ETLHeader[] | null;
  key?: string | null;
  key_base64?: string;
  /** left out: as producers choose it, by the key; without key each in turn */
  partition?: number | null;
  /** RFC 3339; left out: now */
  timestamp?: string;
  value?: string | null;
  value_base64?: string;
}

export interface RecordsToDelete {
  partitions: PartitionBefore[] | null;
}

export interface RefusedState {
  /** of the last one */
  error: string;
  last: string;
  since: string;
}

export interface Replica {
  in_sync: boolean;
  leads: boolean;
  /** adding or removing, while a reassignment is under way */
  moving?: string;
  partition: number;
  topic: string;
}

export interface ReplicaMove {
  /** its replicas before */
  from: number[] | null;
  kept_bytes: number;
  partition: number;
  sent_bytes: number;
  /** its replicas afterwards */
  to: number[] | null;
  topic: string;
}

export interface ReplicasOutputBody {
  /** cursor of what comes behind these; left out: nothing does */
  next?: string;
  /** by topic and partition */
  replicas: Replica[] | null;
}

export interface RequestCost {
  bytes: number;
  class: string;
  dollars: number;
  requests: number;
}

export interface RequestCount {
  bytes: number;
  calls: number;
  class: string;
  errors: number;
  /** as the store counts them: pages of a list, parts of an upload */
  requests: number;
  /** sum over calls */
  seconds: number;
}

export interface ResetTopic {
  /** none: all */
  partitions?: number[] | null;
  topic: string;
}

export interface SentRecord {
  offset: number;
  partition: number;
  timestamp: string;
  topic: string;
}

export interface Session {
  /** for the header X-CSRF-Token of calls that change something, by the cookie */
  csrf_token?: string;
  /** of the session that has begun, at the latest */
  ends?: string;
  /** the server asks nobody who calls: there are no sessions */
  open?: boolean;
  principal: string;
  read_only?: boolean;
  /** it may do everything */
  super?: boolean;
}

export interface Setting {
  default: string;
  key: string;
  /** it may change while processes run: on one broker or all (node), or for all (cluster); left out: it waits for a restart */
  live?: "node" | "cluster";
  /** what the node's own sources say, below what is set in the cluster */
  own: string;
  own_source: string;
  /** why what is set in the cluster is not obeyed here */
  refused?: string;
  /** where that comes from: cluster, cluster node, a flag, the environment, a line of a file, default */
  source: string;
  /** what this process obeys */
  value: string;
  /** its file says something else by now, which waits for a restart */
  waits?: boolean;
}

export interface SilentBroker {
  broker: number;
  why: string;
}

export interface Snapshot {
  /** of the last entry of the metadata log in it */
  index: number;
}

export interface Tally {
  bytes: number;
  objects: number;
}

export interface Token {
  created: string;
  /** left out: never */
  expires?: string;
  name: string;
  /** who its bearer is taken for */
  principal: string;
  /** it is for GET only */
  read_only?: boolean;
  /** lost: the cluster was brought back from its bucket, where tokens are not kept: delete it and create another */
  state: "valid" | "expired" | "lost";
}

export interface TokensOutputBody {
  /** cursor of what comes behind these; left out: nothing does */
  next?: string;
  tokens: Token[] | null;
}

export interface Topic {
  bucket_bytes: number;
  /** what was set on the topic; the rest has defaults */
  configs: Record<string, string>;
  /** what an ack means, in words */
  durability: string;
  /** its replication factor was left to the cluster, and is 3 once there are so many brokers */
  grows?: boolean;
  /** KIP-516 topic id */
  id: string;
  internal?: boolean;
  /** partitions without a leader, of which nothing is served */
  leaderless?: number;
  memory_bytes: number;
  name: string;
  partition_list?: Partition[] | null;
  partitions: number;
  /** high watermarks less log starts: at most so many, for compaction takes some, and markers of transactions are none */
  records: number;
  replication_factor: number;
  /** partitions with fewer replicas in sync than they have */
  under_replicated?: number;
  wal_bytes: number;
}

export interface TopicConfig {
  /** the config of brokers that is its default */
  broker_key?: string;
  /** what it goes back to when it is deleted from the topic */
  default: string;
  doc: string;
  /** it is said when the topic is made, and stays */
  fixed?: boolean;
  key: string;
  /** where that comes from: it was set on the topic; on all brokers as their default; the configuration of the process that answers; nothing was said */
  source: "topic" | "cluster" | "node" | "default";
  type: "boolean" | "int" | "long" | "double" | "string" | "list";
  /** that is in effect */
  value: string;
}

export interface TopicConfigsOutputBody {
  /** in order of their keys */
  configs: TopicConfig[] | null;
}

export interface TopicsOutputBody {
  /** cursor of what comes behind these; left out: nothing does */
  next?: string;
  /** in order of their names */
  topics: Topic[] | null;
}

export interface UploadOutputBody {
  bytes: number;
  sha256: string;
}

export interface UploadState {
  /** of them */
  bytes: number;
  failing_since?: string;
  failures: number;
  /** how long what is committed may wait, wal.upload_interval */
  interval_seconds: number;
  last_error?: string;
  /** uploaded since the start */
  objects: number;
  /** that they are of */
  partitions: number;
  /** that the catalogue did not take: another leader was quicker */
  refused_ranges: number;
  /** objects under way */
  running: number;
  /** committed and not in the bucket yet */
  waiting_bytes: number;
  /** the oldest of them */
  waiting_since?: string;
}

export interface User {
  mechanisms: UserCredential[] | null;
  name: string;
}

export interface UserCredential {
  iterations: number;
  /** the cluster was brought back from its bucket, where passwords are not kept: set it anew */
  lost?: boolean;
  /** SCRAM-SHA-256 or SCRAM-SHA-512; with either also PLAIN, where it is served */
  mechanism: string;
}

export interface UsersOutputBody {
  /** cursor of what comes behind these; left out: nothing does */
  next?: string;
  users: User[] | null;
}

export interface WALState {
  capacity_bytes: number;
  /** share of what produce may use; producers are slowed down from 0.9 on */
  fullness: number;
  /** producers are refused: the log has no room */
  refused?: RefusedState;
  /** producers of partitions are refused of which too much waits for its upload */
  refused_partition?: RefusedState;
  /** why the log can have no further file, though its capacity allows for it */
  short?: string;
  used_bytes: number;
}

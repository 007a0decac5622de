package configs

import (
	"strings"
	"time"
)

// Config is a whole configuration.
type Config struct {
	Broker      Broker      `toml:"broker"`
	Network     Network     `toml:"network"`
	WAL         WAL         `toml:"wal"`
	Cache       Cache       `toml:"cache"`
	Storage     Storage     `toml:"object_storage"`
	Compaction  Compaction  `toml:"compaction"`
	Controller  Controller  `toml:"controller"`
	Replication Replication `toml:"replication"`
	Operations  Operations  `toml:"operations"`
	Metrics     Metrics     `toml:"metrics"`
	Tracing     Tracing     `toml:"tracing"`
	Security    Security    `toml:"security"`

	origins map[string]Origin
}

// Broker is the node and its topics.
type Broker struct {
	ID               int32        `toml:"id" doc:"this node's id, unique in the cluster"`
	Rack             string       `toml:"rack" doc:"where the node stands, e.g. an availability zone; replicas are spread over racks, and consumers that name theirs (client.rack) read from a replica there"`
	DataDir          string       `toml:"data_dir" doc:"directory of everything this node keeps"`
	Roles            string       `toml:"roles" doc:"what the process is: broker, controller, admin, comma separated"`
	NumPartitions    int32        `toml:"num_partitions" live:"cluster" doc:"partitions of a topic that is made without a number"`
	AutoCreateTopics string       `toml:"auto_create_topics" live:"node" doc:"make a topic on first use: true, false, or auto: while only loopback is bound"`
	MessageMaxBytes  Size         `toml:"message_max_bytes" doc:"largest record batch; a topic's max.message.bytes overrides it"`
	TelemetrySeries  int32        `toml:"telemetry_series" doc:"most series of metrics that clients push (KIP-714), together, that are kept and exported"`
	Groups           Groups       `toml:"groups"`
	Transactions     Transactions `toml:"transactions"`
}

// Groups is the coordinator of consumer groups.
type Groups struct {
	MinSessionTimeout     Duration `toml:"min_session_timeout" doc:"shortest session that a member may ask for, or a group be given"`
	MaxSessionTimeout     Duration `toml:"max_session_timeout" doc:"longest session that a member may ask for, or a group be given"`
	InitialRebalanceDelay Duration `toml:"initial_rebalance_delay" doc:"how long an empty group waits for more members before its first assignment"`
	MaxSize               int32    `toml:"max_size" doc:"most members of one group"`
	OffsetsRetention      Duration `toml:"offsets_retention" doc:"how long offsets are kept of a group without members, or of topics that it does not consume"`
	LagPartitions         int32    `toml:"lag_partitions" doc:"most partitions of groups, together, whose lag is exported as metrics"`

	// Of the consumer protocol (KIP-848), where the server assigns.
	ConsumerSessionTimeout    Duration `toml:"consumer_session_timeout" doc:"after which a silent member of the consumer protocol is removed"`
	ConsumerHeartbeatInterval Duration `toml:"consumer_heartbeat_interval" doc:"how often members of the consumer protocol are to send heartbeats"`
	ConsumerMaxSize           int32    `toml:"consumer_max_size" doc:"most members of one group of the consumer protocol"`
	ConsumerAssignors         string   `toml:"consumer_assignors" doc:"assignors that members may ask for, the default first: uniform, range"`
	ConsumerMigrationPolicy   string   `toml:"consumer_migration_policy" doc:"whether a group with members may change its protocol: bidirectional, upgrade, downgrade, disabled"`
}

// AssignorList is ConsumerAssignors, one by one.
func (g Groups) AssignorList() []string {
	var all []string
	for name := range strings.SplitSeq(g.ConsumerAssignors, ",") {
		all = append(all, strings.TrimSpace(name))
	}
	return all
}

// Transactions is the coordinator of transactions.
type Transactions struct {
	MaxTimeout   Duration `toml:"max_timeout" doc:"longest that a producer may let its transactions take; Kafka's transaction.max.timeout.ms"`
	IDExpiration Duration `toml:"id_expiration" doc:"a transactional id that nobody has used for that long is forgotten; Kafka's transactional.id.expiration.ms"`
}

// Network is the listeners and what connections may cost.
type Network struct {
	Bind                string   `toml:"bind" doc:"host of every listener; http_port stays on loopback where it neither asks who calls, over TLS (security.rest.authentication, network.http_tls), nor security.allow_insecure is set"`
	KafkaPort           int      `toml:"kafka_port" doc:"Kafka over TCP, and QUIC on the same number over UDP; 0: any free one"`
	HTTPPort            int      `toml:"http_port" doc:"metrics, health, REST; 0: any free one"`
	HTTPTLS             string   `toml:"http_tls" doc:"TLS 1.3 for http_port, with the certificate of security.tls: on, off, or auto: where it asks who calls and is bound beyond loopback"`
	BrokerPort          int      `toml:"broker_port" doc:"what brokers say to each other, over gRPC; opened where controller.peers is set; 0: any free one"`
	AdvertisedHost      string   `toml:"advertised_host" doc:"host that clients are told to dial; empty: the bound one"`
	TLS                 string   `toml:"tls" doc:"off or on, for Kafka over TCP; QUIC is always encrypted"`
	MaxFrame            Size     `toml:"max_frame" doc:"largest request"`
	ConnectionMemory    Size     `toml:"connection_memory" doc:"bytes of requests and unsent answers of one connection"`
	RequestMemory       Size     `toml:"request_memory" doc:"bytes of requests of all connections"`
	ResponseMemory      Size     `toml:"response_memory" doc:"bytes of answers that clients have not taken yet, of all connections"`
	MaxConnections      int      `toml:"max_connections" live:"node" doc:"connections in all"`
	MaxConnectionsPerIP int      `toml:"max_connections_per_ip" live:"node" doc:"connections from one address"`
	MaxConnectionRate   int      `toml:"max_connection_rate" live:"node" doc:"connections that are taken a second, ten seconds' worth at once; 0: any. Beyond it TCP waits, and QUIC is refused. What one address may is a quota: rustmq admin quotas set --ip"`
	IdleTimeout         Duration `toml:"idle_timeout" live:"node" doc:"a connection without a request for that long is closed"`
	QUIC                QUIC     `toml:"quic"`
	External            External `toml:"external"`
}

// External is a second listener, for clients that come from elsewhere and reach the node by
// another address than those beside it.
type External struct {
	AdvertisedHost string `toml:"advertised_host" doc:"host that clients which come by external.port are told to dial; empty: there is no such listener"`
	Port           int    `toml:"port" doc:"second port of Kafka, over TCP and QUIC like kafka_port, with external.advertised_host; 0: any free one"`
	AdvertisedPort int    `toml:"advertised_port" doc:"port that its clients are told to dial, of the proxy or load balancer before it; 0: external.port"`
}

// On reports whether there is one.
func (e External) On() bool { return e.AdvertisedHost != "" }

// QUIC is the listener on UDP.
type QUIC struct {
	Enabled       bool     `toml:"enabled" doc:"listen for QUIC"`
	IdleTimeout   Duration `toml:"idle_timeout" doc:"a QUIC connection without a packet for that long is gone"`
	MaxStreams    int64    `toml:"max_streams" doc:"streams of one connection, each a Kafka connection of its own"`
	ReceiveMemory Size     `toml:"receive_memory" doc:"bytes that clients may have sent and nobody has read yet, of all QUIC connections; each needs 512KiB"`
	ZeroRTT       bool     `toml:"zero_rtt" doc:"take the first requests of a known client in its first packet; only what changes nothing is served before the handshake is complete"`
}

// WAL is the write-ahead log.
type WAL struct {
	Capacity     Size     `toml:"capacity" doc:"disk for the log; never more than half of what is free at start, what the log holds counted as free"`
	Reserve      Size     `toml:"reserve" doc:"part of the capacity that produce cannot take, cut with it where the disk is smaller; 0: two segments"`
	SegmentSize  Size     `toml:"segment_size" doc:"one file of the log; stays as it is once there is a log"`
	Memory       Size     `toml:"memory" doc:"memory for the tail of the log, which consumers read"`
	Sync         string   `toml:"sync" doc:"always: acks after the disk; interval: acks before it, a power cut may lose the last wal.sync_interval"`
	SyncInterval Duration `toml:"sync_interval" doc:"time between syncs with wal.sync = interval"`
	IO           string   `toml:"io" doc:"auto, pwrite or io_uring"`
	AcceptLost   string   `toml:"accept_lost" doc:"id of a log that is lost, as the refused start names it: the node starts with a new one, without what was acked and not yet in the bucket"`

	UploadInterval Duration `toml:"upload_interval" live:"node" doc:"how long committed records may wait before they are uploaded to the bucket"`
	UploadBytes    Size     `toml:"upload_bytes" live:"node" doc:"committed bytes that are uploaded without waiting for the interval; about the size of the largest object of an upload"`

	AckInterval Duration `toml:"ack_interval" doc:"how long a batch may wait for others to share its object, on topics with rustmq.durability = object: acks come after that object's commit"`
	AckBytes    Size     `toml:"ack_bytes" doc:"bytes of such batches, of all those topics, that are uploaded without waiting for the interval"`
}

// Cache is memory for what is read back from the bucket.
type Cache struct {
	Policy              string   `toml:"policy" doc:"which blocks stay: w-tinylfu (what is asked for often) or lru (what was asked for last, of what was asked for again); with neither does a scan push out what is used"`
	Capacity            Size     `toml:"capacity" doc:"bytes of blocks of records"`
	Indexes             Size     `toml:"indexes" doc:"bytes of indexes of objects"`
	TTL                 Duration `toml:"ttl" doc:"how long a block stays after it was read; 0: until it is pushed out"`
	MaintenanceInterval Duration `toml:"maintenance_interval" doc:"time between two sweeps for what is older"`
	ReadAhead           Size     `toml:"read_ahead" doc:"bytes that may be on their way from the bucket, or read ahead, for all consumers together"`
}

// Storage is the bucket.
type Storage struct {
	URL                 string   `toml:"url" doc:"the bucket: file:///path, s3://name?region=…, gs://name, azblob://name or mem://; empty: the directory bucket in data_dir"`
	Prefix              string   `toml:"prefix" doc:"before every key in the bucket"`
	Parallel            int      `toml:"parallel" doc:"objects that are uploaded at once"`
	PartSize            Size     `toml:"part_size" doc:"bytes of one request of an upload; a smaller object is one request. Each object under way holds some of these in memory"`
	Verify              string   `toml:"verify" doc:"how stored bytes are compared with those that were sent: auto (by the store's own checksum, or read back where it has none) or readback"`
	Checksum            string   `toml:"checksum" doc:"checksums that the S3 client sends: when_supported, or when_required for stores that refuse them"`
	StorageClass        string   `toml:"storage_class" doc:"storage class of objects, as the store names it; empty: the bucket's"`
	Encryption          string   `toml:"encryption" doc:"server-side encryption of S3 objects: AES256 or aws:kms; empty: the bucket's"`
	UploadTimeout       Duration `toml:"upload_timeout" doc:"an upload that takes longer is given up by the controller"`
	Grace               Duration `toml:"grace" doc:"how long an object stays in the bucket after nothing names it any more"`
	CheckInterval       Duration `toml:"check_interval" live:"cluster" doc:"time between two comparisons of the bucket with the catalogue"`
	RetentionInterval   Duration `toml:"retention_interval" live:"cluster" doc:"time between two looks for records past their retention"`
	MetadataLogInterval Duration `toml:"metadata_log_interval" doc:"how long a change of metadata may wait before it is in the bucket too"`
	ManifestRanges      int      `toml:"manifest_ranges" doc:"ranges of one partition that the metadata holds itself; with more, the oldest move into a manifest in the bucket"`
	Prices              Prices   `toml:"prices"`
}

// Prices are what `rustmq admin storage cost` calculates with; see [PriceLists].
type Prices struct {
	Storage Price  `toml:"storage" doc:"dollars for a GiB in the bucket and a month"`
	Put     Price  `toml:"put" doc:"dollars for 1000 puts, also the parts of one"`
	Get     Price  `toml:"get" doc:"dollars for 1000 gets or heads; deletions are free"`
	List    Price  `toml:"list" doc:"dollars for 1000 lists, of 1000 keys each"`
	Disk    Price  `toml:"disk" doc:"dollars for a GiB of disk and a month, of which replication without a bucket needs three, 60 % full"`
	Zone    Price  `toml:"zone" doc:"dollars for a GiB that goes from one zone to another, both sides together"`
	Source  string `toml:"source" doc:"where and when the prices that are set here stood; printed with what is calculated from them"`
}

// Compaction is the rewriting of small objects into large ones.
type Compaction struct {
	Parallel     int      `toml:"parallel" doc:"objects that are rewritten at once; 0: none, they stay as they were uploaded. Each holds up to 64MiB of data in memory"`
	Bandwidth    Size     `toml:"bandwidth" live:"node" doc:"bytes a second that are read to be rewritten; about as many are written. 0: no bound"`
	MinObject    Size     `toml:"min_object" doc:"bytes of one partition that get an object of their own when they are rewritten; less shares one"`
	TargetObject Size     `toml:"target_object" doc:"how large objects become; one of half the size is left as it is"`
	Interval     Duration `toml:"interval" doc:"time between two looks for objects that are worth rewriting, and for ranges that are to be listed in manifests"`
	KeyMemory    Size     `toml:"key_memory" doc:"memory for the keys of a topic with cleanup.policy compact while it is compacted, 32 bytes for each; with more keys it takes several rounds. 0: no topic is compacted by key"`
	KeyInterval  Duration `toml:"key_interval" doc:"time between two looks for partitions that are worth compacting by key"`
	KeyPatience  Duration `toml:"key_patience" doc:"how long less than 1MiB of new records of a partition may wait until it is compacted by key"`
}

// Controller is the metadata quorum.
type Controller struct {
	Peers         string   `toml:"peers" doc:"the first controllers of the cluster, this node's among them if it is one, the same on every node: 1@host,2@host,3@host; the ports are those of this section, or id@host:raft_port:port. Empty: a node alone"`
	RaftPort      int      `toml:"raft_port" doc:"what controllers say to each other, over gRPC; opened where controller.peers is set, unless that names another port for this node"`
	Port          int      `toml:"port" doc:"what brokers ask controllers, over gRPC; opened where controller.peers is set, unless that names another port for this node"`
	MaxPartitions int      `toml:"max_partitions" live:"cluster" doc:"partitions of all topics together, beyond which none is made"`
	FeatureLevel  int      `toml:"feature_level" live:"cluster" doc:"metadata feature level beyond which the cluster does not rise by itself; 0: as far as every node knows. Set to the present one before an upgrade, the version can be taken back (docs/upgrade.md)"`
	Raft          Raft     `toml:"raft"`
	Snapshot      Snapshot `toml:"snapshot"`
	Balance       Balance  `toml:"balance"`
}

// Balance is how leaderships, and replicas, come to be spread over brokers.
type Balance struct {
	Enabled        bool     `toml:"enabled" live:"cluster" doc:"leaderships move to in-sync replicas on brokers that less passes through"`
	MovesPerMinute int      `toml:"moves_per_minute" live:"cluster" doc:"leaderships that are moved so in any minute, at most"`
	GrowAfter      Duration `toml:"grow_after" doc:"how long a broker must be in service before topics that named no replication factor, and those of the brokers' own, are given replicas on it"`

	SpreadEnabled        bool     `toml:"spread_enabled" live:"cluster" doc:"replicas move to a broker that has less than half as many as others, as one that has joined, until it has its share; only what is not in the bucket is sent"`
	SpreadMovesPerMinute int      `toml:"spread_moves_per_minute" live:"cluster" doc:"partitions that are given other replicas so in any minute, at most"`
	SpreadAfter          Duration `toml:"spread_after" doc:"how long such a broker must be in service before"`
}

// Raft is the timing of the metadata log.
type Raft struct {
	Heartbeat       Duration `toml:"heartbeat" doc:"time between two heartbeats of a leading controller"`
	ElectionTimeout Duration `toml:"election_timeout" doc:"silence after which another controller stands for election; at least five heartbeats"`
}

// Snapshot is when the metadata log is compacted.
type Snapshot struct {
	Entries int64 `toml:"entries" doc:"entries since the last snapshot after which another is taken"`
	Bytes   Size  `toml:"bytes" doc:"bytes since the last snapshot after which another is taken"`
}

// Replication is the liveness of brokers.
type Replication struct {
	HeartbeatInterval Duration `toml:"heartbeat_interval" doc:"time between two heartbeats of a broker to the controllers; one whose connection breaks, and that is not heard for two of these, is fenced before its timeout. A node alone takes 2s unless this is set"`
	HeartbeatTimeout  Duration `toml:"heartbeat_timeout" doc:"silence after which a broker is fenced, and others lead; more than the interval. A node alone takes 10s unless this is set, for there is nobody else to lead"`
	LagTime           Duration `toml:"lag_time" doc:"a follower that has not had the end of the log for that long is not in sync any more"`
}

// Operations is how the process behaves.
type Operations struct {
	GracefulShutdownTimeout Duration `toml:"graceful_shutdown_timeout" live:"node" doc:"bound on a stop; what has not ended then is left as by a kill. Set while nodes run: 1s at least"`
	LogFormat               string   `toml:"log_format" doc:"auto (text on a terminal, JSON otherwise), text or json"`
	LogLevel                string   `toml:"log_level" live:"node" doc:"debug, info, warn or error; where text goes to a terminal, and nothing is set, warn"`
	SlowRequest             Duration `toml:"slow_request" live:"node" doc:"requests of Kafka's clients that take so long are told to the log, ten in ten seconds at most: what fetches and members of groups wait for does not count; 0: none is"`
}

// Security is who may reach the process.
type Security struct {
	AllowInsecure bool      `toml:"allow_insecure" doc:"bind other addresses than loopback without TLS and authentication, for HTTP too"`
	TLS           TLS       `toml:"tls"`
	Cluster       MutualTLS `toml:"cluster"`
	SASL          SASL      `toml:"sasl"`
	REST          REST      `toml:"rest"`

	Authorization Authorization `toml:"authorization"`
	Audit         Audit         `toml:"audit"`
}

// SASL is how clients of Kafka say who they are.
type SASL struct {
	Mechanisms string   `toml:"mechanisms" doc:"how clients of Kafka say who they are: SCRAM-SHA-512, SCRAM-SHA-256, OAUTHBEARER, PLAIN (these two over TLS and QUIC only), comma separated; empty: they are not asked"`
	MaxSession Duration `toml:"max_session" doc:"how long a client may go on until it says so again (KIP-368, Kafka's connections.max.reauth.ms); 0: as long as its connection, or its token, lasts"`
	OAuth      OAuth    `toml:"oauth"`
}

// MechanismList is Mechanisms, one by one.
func (s SASL) MechanismList() []string {
	var all []string
	for name := range strings.SplitSeq(s.Mechanisms, ",") {
		if name = strings.TrimSpace(name); name != "" {
			all = append(all, name)
		}
	}
	return all
}

// REST is who may call the admin API, and how often.
type REST struct {
	Authentication     string   `toml:"authentication" doc:"whether the admin API (/api/v1) asks who calls: on, off, or auto: where clients of Kafka prove who they are"`
	Metrics            string   `toml:"metrics" doc:"whether /metrics asks who calls: open, ask, or auto: where the admin API does and others than this machine reach it. /healthz and /readyz ask nobody"`
	SessionIdleTimeout Duration `toml:"session_idle_timeout" doc:"a session of the console ends when it was not used for that long"`
	MaxSession         Duration `toml:"max_session" doc:"a session of the console ends after that, used or not"`
	Requests           int      `toml:"requests" live:"node" doc:"calls of the admin API a second, of all callers together; four times as many at once"`
	RequestsPerIP      int      `toml:"requests_per_ip" live:"node" doc:"calls of the admin API a second from one address, or from one /64 of IPv6; half of them may change something; four times as many at once"`
	ConnectionsPerIP   int      `toml:"connections_per_ip" live:"node" doc:"connections to http_port from one address other than loopback"`
}

// OAuth is which tokens are taken from clients (OAUTHBEARER).
type OAuth struct {
	JWKS            string   `toml:"jwks" doc:"where the keys are that sign tokens: a file, or an https URL (RFC 7517); read again on SIGHUP, and when a token names a key that is not known"`
	CAFile          string   `toml:"ca_file" doc:"PEM certificates of who may sign that URL's; empty: the system's"`
	RefreshInterval Duration `toml:"refresh_interval" doc:"time between two reads of the keys"`
	Issuer          string   `toml:"issuer" doc:"what tokens must say in iss"`
	Audience        string   `toml:"audience" doc:"what tokens must say in aud, among others"`
	Claim           string   `toml:"claim" doc:"claim that is the name of the user"`
	Algorithms      string   `toml:"algorithms" doc:"algorithms that tokens may be signed with: RS256, PS256, ES256, EdDSA"`
	Skew            Duration `toml:"skew" doc:"how far the clocks of who issues tokens and of this node may be apart"`
}

// AlgorithmList is Algorithms, one by one.
func (o OAuth) AlgorithmList() []string {
	var all []string
	for name := range strings.SplitSeq(o.Algorithms, ",") {
		all = append(all, strings.TrimSpace(name))
	}
	return all
}

// Authorization is what clients of Kafka may do.
type Authorization struct {
	Mode       string `toml:"mode" doc:"on: clients may do what ACLs allow them, and nothing else; off: every client may do everything; auto: on where clients prove who they are. The same on every broker"`
	SuperUsers string `toml:"super_users" doc:"users that may do everything, separated by semicolons: admin; CN=operator,O=example. Without one nobody may write the first ACL by Kafka's protocol"`
}

// TLS is the server's certificate, and what clients show.
type TLS struct {
	CertFile         string `toml:"cert_file" doc:"PEM chain of the server, read again once it has changed, and on SIGHUP; empty: made by the development CA in data_dir/certs"`
	KeyFile          string `toml:"key_file" doc:"PEM key of the server, read with it"`
	MinVersion       string `toml:"min_version" doc:"oldest version of TLS that clients of Kafka over TCP may speak: 1.3 or 1.2; QUIC is always 1.3"`
	ClientAuth       string `toml:"client_auth" doc:"whether clients of TLS and QUIC show a certificate: none, request (they may) or require (they must)"`
	ClientCAFile     string `toml:"client_ca_file" doc:"PEM certificates of who may sign clients, read again once they have changed, and on SIGHUP"`
	CRLFile          string `toml:"crl_file" doc:"revocation lists of those authorities, PEM or DER, read again within seconds when the file changes: who is revoked is refused, and cut off if connected; empty: nobody is revoked"`
	PrincipalMapping string `toml:"principal_mapping" doc:"which principal a client's certificate is: rules as of Kafka's ssl.principal.mapping.rules on its subject (RULE:pattern/replacement/[LU], DEFAULT), and on its subject alternative names (URI:…, DNS:…, EMAIL:…); the first that matches counts"`
}

// MutualTLS is how the servers of a cluster know each other; the first three, or none.
type MutualTLS struct {
	CAFile   string `toml:"ca_file" doc:"PEM certificates of who may sign the servers of this cluster; empty: gRPC between servers is in the clear, and neither side proves who it is"`
	CertFile string `toml:"cert_file" doc:"PEM chain of this server, for both sides of a connection: it names the hosts by which others reach this node, and the node, rustmq://<cluster>/node/<id>?roles=<roles>"`
	KeyFile  string `toml:"key_file" doc:"PEM key of this server"`
	CRLFile  string `toml:"crl_file" doc:"revocation lists of those authorities, as security.tls.crl_file; empty: no server is revoked"`
}

// Default returns the configuration of `rustmq serve` without flags.
func Default() *Config {
	const mib, gib = 1 << 20, 1 << 30
	seconds := func(n int) Duration { return Duration(time.Duration(n) * time.Second) }
	millis := func(n int) Duration { return Duration(time.Duration(n) * time.Millisecond) }
	return &Config{
		Broker: Broker{
			ID: 1, DataDir: "./rustmq-data", Roles: "broker,controller,admin", NumPartitions: 1,
			AutoCreateTopics: "auto", MessageMaxBytes: 1048588, // message.max.bytes of Kafka
			TelemetrySeries: 10_000,
			Groups: Groups{MinSessionTimeout: seconds(6), MaxSessionTimeout: seconds(1800), InitialRebalanceDelay: 0, MaxSize: 10_000,
				OffsetsRetention: seconds(7 * 24 * 3600), LagPartitions: 10_000,
				ConsumerSessionTimeout: seconds(45), ConsumerHeartbeatInterval: seconds(5), ConsumerMaxSize: 10_000,
				ConsumerAssignors: "uniform,range", ConsumerMigrationPolicy: "bidirectional"},
			Transactions: Transactions{MaxTimeout: seconds(900), IDExpiration: seconds(7 * 24 * 3600)},
		},
		Network: Network{
			Bind: "127.0.0.1", KafkaPort: 9092, HTTPPort: 9642, HTTPTLS: "auto", BrokerPort: 9093, TLS: "off",
			MaxFrame: 100 * mib, ConnectionMemory: 64 * mib, RequestMemory: 256 * mib, ResponseMemory: 256 * mib,
			MaxConnections: 20_000, MaxConnectionsPerIP: 20_000, IdleTimeout: seconds(600),
			QUIC:     QUIC{Enabled: true, IdleTimeout: seconds(30), MaxStreams: 1024, ReceiveMemory: 1024 * mib, ZeroRTT: true},
			External: External{Port: 9192},
		},
		WAL: WAL{
			Capacity: 10 * gib, SegmentSize: 32 * mib, Memory: 256 * mib,
			Sync: "always", SyncInterval: millis(50), IO: "auto",
			UploadInterval: seconds(10), UploadBytes: 32 * mib, AckInterval: millis(250), AckBytes: 4 * mib,
		},
		Cache: Cache{
			Policy: "w-tinylfu", Capacity: 128 * mib, Indexes: 32 * mib, TTL: seconds(3600), MaintenanceInterval: seconds(60), ReadAhead: 64 * mib,
		},
		Storage: Storage{
			Parallel: 3, PartSize: 40 * mib, Verify: "auto", Checksum: "when_supported",
			UploadTimeout: seconds(1800), Grace: seconds(900), CheckInterval: seconds(21600), RetentionInterval: seconds(30), MetadataLogInterval: seconds(60), ManifestRanges: 128,
			Prices: Prices{Storage: ListPrice, Put: ListPrice, Get: ListPrice, List: ListPrice, Disk: ListPrice, Zone: ListPrice},
		},
		Compaction: Compaction{Parallel: 1, Bandwidth: 64 * mib, MinObject: 10 * mib, TargetObject: 64 * mib, Interval: seconds(60), KeyMemory: 128 * mib, KeyInterval: seconds(15), KeyPatience: seconds(600)},
		Controller: Controller{
			RaftPort: 9094, Port: 9095, MaxPartitions: 200_000,
			Raft:     Raft{Heartbeat: millis(50), ElectionTimeout: millis(500)},
			Snapshot: Snapshot{Entries: 100_000, Bytes: 64 * mib},
			Balance:  Balance{Enabled: true, MovesPerMinute: 300, GrowAfter: Duration(time.Minute), SpreadEnabled: true, SpreadMovesPerMinute: 300, SpreadAfter: seconds(5)},
		},
		Replication: Replication{HeartbeatInterval: millis(200), HeartbeatTimeout: seconds(1), LagTime: seconds(10)},
		Security: Security{
			TLS:  TLS{MinVersion: "1.3", ClientAuth: "none", PrincipalMapping: "DEFAULT"},
			SASL: SASL{OAuth: OAuth{RefreshInterval: seconds(300), Claim: "sub", Algorithms: "RS256,PS256,ES256,EdDSA", Skew: seconds(30)}},
			REST: REST{
				Authentication: "auto", Metrics: "auto", SessionIdleTimeout: seconds(1800), MaxSession: seconds(12 * 3600),
				Requests: 1000, RequestsPerIP: 200, ConnectionsPerIP: 64,
			},
			Authorization: Authorization{Mode: "auto"},
			Audit:         Audit{Record: "auto", OnFull: "alert", RetentionTime: seconds(90 * 24 * 3600), RetentionBytes: 1 * gib},
		},
		Operations: Operations{GracefulShutdownTimeout: seconds(10), LogFormat: "auto", LogLevel: "info", SlowRequest: seconds(1)},
		Metrics:    Metrics{Partitions: "topics"},
		Tracing:    Tracing{Sample: "0", Service: "rustmq"},
	}
}

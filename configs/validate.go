package configs

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
)

// maxPrefix leaves room in a key for what follows: the cluster's id, which may be long,
// and the object's.
const maxPrefix = 384

// beginsKeys reports whether every store can hold keys below a prefix: what package
// bucket says of keys.
func beginsKeys(prefix string) bool {
	if len(prefix) > maxPrefix || !fs.ValidPath(prefix) {
		return false
	}
	for segment := range strings.SplitSeq(prefix, "/") {
		if len(segment) > 255 || segment[0] == '.' {
			return false
		}
	}
	return !strings.ContainsFunc(prefix, func(r rune) bool { return r == '\\' || unicode.IsControl(r) })
}

// validate returns all that is wrong with the values. It is one long list, in the
// order of the sections, so that a key that nobody checks is seen to be missing.
func (c *Config) validate() []Problem {
	var out []Problem
	wrong := func(key, format string, args ...any) {
		out = append(out, Problem{Key: key, Reason: fmt.Sprintf(format, args...)})
	}
	between := func(key string, v, low, high int64) {
		if v < low || v > high {
			wrong(key, "%d is out of range: %d to %d", v, low, high)
		}
	}
	durationBetween := func(key string, d, low, high Duration) {
		if d < low || d > high {
			wrong(key, "%v is out of range: %v to %v", d, low, high)
		}
	}
	oneOf := func(key, v string, allowed ...string) {
		if !slices.Contains(allowed, v) {
			wrong(key, "%q is not one of %s", v, strings.Join(allowed, ", "))
		}
	}
	sizeBetween := func(key string, v, low, high Size) {
		if v < low || v > high {
			wrong(key, "%v is out of range: %v to %v", v, low, high)
		}
	}
	const kib, mib, gib, tib = Size(1 << 10), Size(1 << 20), Size(1 << 30), Size(1 << 40)
	// Nothing waits longer than a day, and no timer ticks faster than a
	// millisecond; the cross-field rules cannot overflow within these.
	const tick, second, day = Duration(time.Millisecond), Duration(time.Second), Duration(24 * time.Hour)

	between("broker.id", int64(c.Broker.ID), 1, 1<<31-1)
	between("broker.num_partitions", int64(c.Broker.NumPartitions), 1, 100_000)
	if c.Broker.DataDir == "" {
		wrong("broker.data_dir", "name a directory")
	}
	for _, role := range c.RoleList() {
		oneOf("broker.roles", role, "broker", "controller", "admin")
	}
	if c.Front() && !c.Clustered() {
		wrong("broker.roles", "admin alone is the front of a cluster: name its controllers (controller.peers, or --peers 1@host,2@host,3@host), or add a role, such as rustmq serve --roles admin,controller,broker")
	}
	oneOf("broker.auto_create_topics", c.Broker.AutoCreateTopics, "auto", "true", "false")
	sizeBetween("broker.message_max_bytes", c.Broker.MessageMaxBytes, 1*kib, 1*gib)
	g := c.Broker.Groups
	durationBetween("broker.groups.min_session_timeout", g.MinSessionTimeout, tick, day)
	durationBetween("broker.groups.max_session_timeout", g.MaxSessionTimeout, tick, day)
	if g.MaxSessionTimeout < g.MinSessionTimeout {
		wrong("broker.groups.max_session_timeout", "%v is less than broker.groups.min_session_timeout, %v", g.MaxSessionTimeout, g.MinSessionTimeout)
	}
	durationBetween("broker.groups.initial_rebalance_delay", g.InitialRebalanceDelay, 0, day)
	durationBetween("broker.transactions.max_timeout", c.Broker.Transactions.MaxTimeout, tick, day)
	durationBetween("broker.transactions.id_expiration", c.Broker.Transactions.IDExpiration, tick, 10*365*day)
	between("broker.groups.max_size", int64(g.MaxSize), 1, 1_000_000)
	durationBetween("broker.groups.offsets_retention", g.OffsetsRetention, Duration(time.Minute), 100*365*day)
	between("broker.telemetry_series", int64(c.Broker.TelemetrySeries), 1, 1_000_000)
	between("broker.groups.lag_partitions", int64(g.LagPartitions), 1, 1_000_000)
	durationBetween("broker.groups.consumer_session_timeout", g.ConsumerSessionTimeout, tick, day)
	durationBetween("broker.groups.consumer_heartbeat_interval", g.ConsumerHeartbeatInterval, tick, day)
	if g.ConsumerSessionTimeout <= g.ConsumerHeartbeatInterval {
		wrong("broker.groups.consumer_session_timeout", "%v is not more than broker.groups.consumer_heartbeat_interval, %v", g.ConsumerSessionTimeout, g.ConsumerHeartbeatInterval)
	}
	between("broker.groups.consumer_max_size", int64(g.ConsumerMaxSize), 1, 1_000_000)
	for _, name := range g.AssignorList() {
		oneOf("broker.groups.consumer_assignors", name, "uniform", "range")
	}
	oneOf("broker.groups.consumer_migration_policy", g.ConsumerMigrationPolicy, "bidirectional", "upgrade", "downgrade", "disabled")

	n := c.Network
	switch {
	case n.Bind != "localhost" && net.ParseIP(n.Bind) == nil:
		wrong("network.bind", "%q is not an address; write 127.0.0.1, ::1 or 0.0.0.0", n.Bind)
	case !c.Loopback() && !c.Security.AllowInsecure && slices.Contains(c.RoleList(), "broker") && !c.authenticatesOverTLS():
		wrong("network.bind", "%q would serve anyone who reaches it, for clients are not authenticated over TLS: bind 127.0.0.1, have clients prove who they are, over TLS (docs/security.md), or set security.allow_insecure = true if the network is yours alone", n.Bind)
	case !c.Loopback() && !c.Security.AllowInsecure && c.Clustered() && c.Security.Cluster.CAFile == "":
		wrong("network.bind", "%q would let anyone who reaches it be a server of the cluster: set security.cluster.ca_file, cert_file and key_file, or security.allow_insecure = true if the network is yours alone", n.Bind)
	}
	if h := n.AdvertisedHost; h != "" && !dialable(h) {
		wrong("network.advertised_host", "%q is no host that clients could dial; write a name or an address, without a port", h)
	}
	between("network.kafka_port", int64(n.KafkaPort), 0, 65535)
	between("network.http_port", int64(n.HTTPPort), 0, 65535)
	between("network.broker_port", int64(n.BrokerPort), 0, 65535)
	if n.KafkaPort == n.HTTPPort && n.KafkaPort != 0 {
		wrong("network.http_port", "%d is network.kafka_port too", n.HTTPPort)
	}
	c.validateExternal(wrong, between)
	oneOf("network.tls", n.TLS, "off", "on")
	sizeBetween("network.max_frame", n.MaxFrame, 64*kib, 1*gib)
	sizeBetween("network.connection_memory", n.ConnectionMemory, 64*kib, tib)
	sizeBetween("network.request_memory", n.RequestMemory, 1*mib, tib)
	sizeBetween("network.response_memory", n.ResponseMemory, 1*mib, tib)
	between("network.max_connections", int64(n.MaxConnections), 1, 10_000_000)
	between("network.max_connections_per_ip", int64(n.MaxConnectionsPerIP), 1, 10_000_000)
	between("network.max_connection_rate", int64(n.MaxConnectionRate), 0, 1_000_000)
	durationBetween("network.idle_timeout", n.IdleTimeout, second, day)
	durationBetween("network.quic.idle_timeout", n.QUIC.IdleTimeout, second, day)
	sizeBetween("network.quic.receive_memory", n.QUIC.ReceiveMemory, 1*mib, tib)
	between("network.quic.max_streams", n.QUIC.MaxStreams, 1, 1<<20)
	if c.Broker.MessageMaxBytes > n.MaxFrame {
		wrong("broker.message_max_bytes", "%v does not fit in network.max_frame, %v", c.Broker.MessageMaxBytes, n.MaxFrame)
	}

	w := c.WAL
	sizeBetween("wal.segment_size", w.SegmentSize, 1*mib, 1*gib)
	if w.SegmentSize%4096 != 0 {
		wrong("wal.segment_size", "%v is not a multiple of 4KiB", w.SegmentSize)
	}
	if w.Capacity < 8*w.SegmentSize {
		wrong("wal.capacity", "%v is less than eight segments of wal.segment_size, %v", w.Capacity, w.SegmentSize)
	}
	if w.Reserve >= w.Capacity/2 {
		wrong("wal.reserve", "%v is not less than half of wal.capacity, %v", w.Reserve, w.Capacity)
	}
	sizeBetween("wal.memory", w.Memory, 8*mib, tib)
	if c.Broker.MessageMaxBytes > w.SegmentSize/4 {
		wrong("broker.message_max_bytes", "%v is more than a quarter of wal.segment_size, %v", c.Broker.MessageMaxBytes, w.SegmentSize)
	}
	oneOf("wal.sync", w.Sync, "always", "interval")
	durationBetween("wal.sync_interval", w.SyncInterval, tick, day)
	if raw, err := hex.DecodeString(w.AcceptLost); w.AcceptLost != "" && (err != nil || len(raw) != 16) {
		wrong("wal.accept_lost", "%q is not the id of a log; want 32 hex digits", w.AcceptLost)
	}
	oneOf("wal.io", w.IO, "auto", "pwrite", "io_uring")
	durationBetween("wal.upload_interval", w.UploadInterval, 10*tick, day)
	sizeBetween("wal.upload_bytes", w.UploadBytes, 64*kib, 1*gib)
	durationBetween("wal.ack_interval", w.AckInterval, tick, 10*second)
	sizeBetween("wal.ack_bytes", w.AckBytes, 64*kib, 1*gib)
	if w.UploadBytes > w.Capacity/8 {
		wrong("wal.upload_bytes", "%v is more than an eighth of wal.capacity, %v", w.UploadBytes, w.Capacity)
	}

	oneOf("cache.policy", c.Cache.Policy, "w-tinylfu", "lru")
	sizeBetween("cache.capacity", c.Cache.Capacity, 8*mib, tib)
	sizeBetween("cache.indexes", c.Cache.Indexes, 1*mib, tib)
	durationBetween("cache.ttl", c.Cache.TTL, 0, 365*day)
	durationBetween("cache.maintenance_interval", c.Cache.MaintenanceInterval, second, day)
	sizeBetween("cache.read_ahead", c.Cache.ReadAhead, 4*mib, tib)

	o := c.Storage
	if reason := bucketURL(o.URL); reason != "" {
		wrong("object_storage.url", "%s", reason)
	}
	if strings.HasPrefix(o.Prefix, "/") || strings.HasSuffix(o.Prefix, "/") || strings.Contains(o.Prefix, "//") {
		wrong("object_storage.prefix", "%q: write it without slashes at its ends, like streams/production", o.Prefix)
	} else if o.Prefix != "" && !beginsKeys(o.Prefix) {
		wrong("object_storage.prefix", "%.80q begins no key in a bucket: write words between slashes that do not begin with a dot, without backslashes and control characters, at most %d bytes, like streams/production", o.Prefix, maxPrefix)
	}
	between("object_storage.parallel", int64(o.Parallel), 1, 64)
	sizeBetween("object_storage.part_size", o.PartSize, 5*mib, 1*gib)
	oneOf("object_storage.verify", o.Verify, "auto", "readback")
	oneOf("object_storage.checksum", o.Checksum, "when_supported", "when_required")
	oneOf("object_storage.encryption", o.Encryption, "", "AES256", "aws:kms")
	durationBetween("object_storage.upload_timeout", o.UploadTimeout, 10*second, day)
	durationBetween("object_storage.grace", o.Grace, second, 30*day)
	durationBetween("object_storage.check_interval", o.CheckInterval, second, 30*day)
	durationBetween("object_storage.retention_interval", o.RetentionInterval, 10*tick, day)
	durationBetween("object_storage.metadata_log_interval", o.MetadataLogInterval, 10*tick, day)
	between("object_storage.manifest_ranges", int64(o.ManifestRanges), 2, 1_000_000)

	z := c.Compaction
	between("compaction.parallel", int64(z.Parallel), 0, 64)
	// Below it an upload that waits for what it is made of looks like one that is stuck.
	if least := Size(z.Parallel) * mib; z.Bandwidth != 0 && (z.Bandwidth < least || z.Bandwidth > tib) {
		wrong("compaction.bandwidth", "%v is out of range: 0, or %v to %v, 1MiB for each of compaction.parallel", z.Bandwidth, least, tib)
	}
	sizeBetween("compaction.min_object", z.MinObject, 64*kib, 1*gib)
	sizeBetween("compaction.target_object", z.TargetObject, 1*mib, 4*gib)
	if z.TargetObject < 2*z.MinObject {
		wrong("compaction.target_object", "%v is less than twice compaction.min_object, %v", z.TargetObject, z.MinObject)
	}
	durationBetween("compaction.interval", z.Interval, second, day)
	if z.KeyMemory != 0 {
		sizeBetween("compaction.key_memory", z.KeyMemory, 1*mib, 64*gib)
	}
	durationBetween("compaction.key_interval", z.KeyInterval, 10*tick, day)
	durationBetween("compaction.key_patience", z.KeyPatience, 0, day)
	// The objects under way share the bandwidth, and are half as large again at most.
	if z.Bandwidth > 0 && float64(z.TargetObject)*1.5*float64(z.Parallel)/float64(z.Bandwidth) > time.Duration(o.UploadTimeout).Seconds()/2 {
		wrong("compaction.bandwidth", "%v is too little to make %d objects of compaction.target_object, %v, in half of object_storage.upload_timeout, %v", z.Bandwidth, z.Parallel, z.TargetObject, o.UploadTimeout)
	}

	between("controller.raft_port", int64(c.Controller.RaftPort), 1, 65535)
	between("controller.port", int64(c.Controller.Port), 1, 65535)
	if c.Controller.Port == c.Controller.RaftPort {
		wrong("controller.port", "%d is controller.raft_port too", c.Controller.Port)
	}
	c.validatePeers(wrong)
	between("controller.max_partitions", int64(c.Controller.MaxPartitions), 1, 10_000_000)
	between("controller.feature_level", int64(c.Controller.FeatureLevel), 0, 10_000)
	raft := c.Controller.Raft
	durationBetween("controller.raft.heartbeat", raft.Heartbeat, tick, day)
	durationBetween("controller.raft.election_timeout", raft.ElectionTimeout, 5*tick, day)
	if raft.ElectionTimeout < 5*raft.Heartbeat {
		wrong("controller.raft.election_timeout", "%v is less than five times controller.raft.heartbeat, %v", raft.ElectionTimeout, raft.Heartbeat)
	}
	between("controller.snapshot.entries", c.Controller.Snapshot.Entries, 100, 1<<40)
	sizeBetween("controller.snapshot.bytes", c.Controller.Snapshot.Bytes, 64*kib, tib)
	between("controller.balance.moves_per_minute", int64(c.Controller.Balance.MovesPerMinute), 1, 100_000)
	durationBetween("controller.balance.grow_after", c.Controller.Balance.GrowAfter, tick, day)
	between("controller.balance.spread_moves_per_minute", int64(c.Controller.Balance.SpreadMovesPerMinute), 1, 100_000)
	durationBetween("controller.balance.spread_after", c.Controller.Balance.SpreadAfter, tick, day)
	durationBetween("replication.lag_time", c.Replication.LagTime, 100*tick, day)
	alive := c.Liveness()
	durationBetween("replication.heartbeat_interval", alive.HeartbeatInterval, 10*tick, day)
	durationBetween("replication.heartbeat_timeout", alive.HeartbeatTimeout, 10*tick, day)
	if alive.HeartbeatTimeout <= alive.HeartbeatInterval {
		wrong("replication.heartbeat_timeout", "%v is not more than replication.heartbeat_interval, %v", alive.HeartbeatTimeout, alive.HeartbeatInterval)
	}
	durationBetween("operations.graceful_shutdown_timeout", c.Operations.GracefulShutdownTimeout, tick, day)
	oneOf("operations.log_format", c.Operations.LogFormat, "auto", "text", "json")
	oneOf("operations.log_level", c.Operations.LogLevel, "debug", "info", "warn", "error")
	durationBetween("operations.slow_request", c.Operations.SlowRequest, 0, day)
	oneOf("metrics.partitions", c.Metrics.Partitions, "off", "topics", "all")
	if why := traceEndpoint(c.Tracing.Endpoint); why != "" && c.Tracing.Endpoint != "" {
		wrong("tracing.endpoint", "%s", why)
	}
	if _, err := c.Tracing.SampleRatio(); err != nil {
		wrong("tracing.sample", "%v", err)
	}
	if c.Tracing.Service == "" {
		wrong("tracing.service", "name the service")
	}
	t := c.Security.TLS
	if (t.CertFile == "") != (t.KeyFile == "") {
		wrong("security.tls.cert_file", "give security.tls.cert_file and security.tls.key_file, or neither")
	}
	oneOf("security.tls.min_version", t.MinVersion, "1.3", "1.2")
	oneOf("security.tls.client_auth", t.ClientAuth, "none", "request", "require")
	asks := t.ClientAuth != "none"
	if asks && t.ClientCAFile == "" {
		wrong("security.tls.client_ca_file", "security.tls.client_auth = %q needs it: whose certificates are taken?", t.ClientAuth)
	}
	if asks && n.TLS != "on" {
		wrong("security.tls.client_auth", "%q needs network.tls = on: over plain TCP nobody shows a certificate", t.ClientAuth)
	}
	if !asks && t.ClientCAFile != "" {
		wrong("security.tls.client_ca_file", "nobody is asked for a certificate: set security.tls.client_auth to request or require")
	}
	if !asks && t.CRLFile != "" {
		wrong("security.tls.crl_file", "nobody is asked for a certificate: set security.tls.client_auth to request or require")
	}
	c.validateAuthorization(wrong, oneOf)
	c.validateAudit(wrong, oneOf)
	durationBetween("security.audit.retention_time", c.Security.Audit.RetentionTime, 0, 100*365*day)
	sizeBetween("security.audit.retention_bytes", c.Security.Audit.RetentionBytes, 0, 1024*tib)
	if m := c.Security.Cluster; (m.CAFile == "") != (m.CertFile == "") || (m.CertFile == "") != (m.KeyFile == "") {
		wrong("security.cluster.ca_file", "give security.cluster.ca_file, cert_file and key_file, or none of them")
	} else if m.CAFile == "" && m.CRLFile != "" {
		wrong("security.cluster.crl_file", "there are no servers to be revoked without security.cluster.ca_file, cert_file and key_file")
	}
	c.validateSASL(wrong, oneOf, durationBetween)
	c.validateREST(wrong, between, oneOf, durationBetween)
	return out
}

// validateExternal checks section network.external.
func (c *Config) validateExternal(wrong func(key, format string, args ...any), between func(key string, v, low, high int64)) {
	n, e := c.Network, c.Network.External
	between("network.external.port", int64(e.Port), 0, 65535)
	between("network.external.advertised_port", int64(e.AdvertisedPort), 0, 65535)
	if !e.On() {
		if e.AdvertisedPort != 0 {
			wrong("network.external.advertised_port", "%d is told to nobody: set network.external.advertised_host, for which there is the second listener", e.AdvertisedPort)
		}
		return
	}
	if !dialable(e.AdvertisedHost) {
		wrong("network.external.advertised_host", "%q is no host that clients could dial; write a name or an address, without a port", e.AdvertisedHost)
	}
	if e.Port == 0 {
		return
	}
	used := map[int]string{n.KafkaPort: "network.kafka_port", n.HTTPPort: "network.http_port"}
	if c.Clustered() {
		used[n.BrokerPort], used[c.Controller.RaftPort], used[c.Controller.Port] = "network.broker_port", "controller.raft_port", "controller.port"
		if self, named := c.Self(); named {
			delete(used, c.Controller.RaftPort)
			delete(used, c.Controller.Port)
			used[self.RaftPort], used[self.Port] = "of controller.peers", "of controller.peers"
		}
	}
	if other, taken := used[e.Port]; taken {
		wrong("network.external.port", "%d is %s too", e.Port, other)
	}
}

// validateSASL checks section security.sasl.
func (c *Config) validateSASL(wrong func(key, format string, args ...any), oneOf func(key, v string, allowed ...string), durationBetween func(key string, d, low, high Duration)) {
	const day = Duration(24 * time.Hour)
	s := c.Security.SASL
	mechanisms := s.MechanismList()
	for i, name := range mechanisms {
		oneOf("security.sasl.mechanisms", name, "SCRAM-SHA-512", "SCRAM-SHA-256", "OAUTHBEARER", "PLAIN")
		if slices.Contains(mechanisms[:i], name) {
			wrong("security.sasl.mechanisms", "%s is named twice", name)
		}
	}
	inTheClear := c.Network.TLS == "off" && !c.Network.QUIC.Enabled
	if inTheClear && len(mechanisms) > 0 && !slices.ContainsFunc(mechanisms, func(name string) bool { return name != "PLAIN" && name != "OAUTHBEARER" }) {
		wrong("security.sasl.mechanisms", "PLAIN shows passwords and OAUTHBEARER tokens, and they are offered over TLS and QUIC only: set network.tls = on, or name SCRAM-SHA-512 too")
	}
	if s.MaxSession != 0 {
		durationBetween("security.sasl.max_session", s.MaxSession, Duration(time.Second), 365*day)
	}
	o := s.OAuth
	durationBetween("security.sasl.oauth.refresh_interval", o.RefreshInterval, Duration(10*time.Second), day)
	durationBetween("security.sasl.oauth.skew", o.Skew, 0, Duration(5*time.Minute))
	if !slices.Contains(mechanisms, "OAUTHBEARER") {
		return
	}
	for _, key := range []struct{ name, value string }{{"jwks", o.JWKS}, {"issuer", o.Issuer}, {"audience", o.Audience}, {"claim", o.Claim}} {
		if key.value == "" {
			wrong("security.sasl.oauth."+key.name, "the mechanism OAUTHBEARER needs it")
		}
	}
	for _, name := range o.AlgorithmList() {
		oneOf("security.sasl.oauth.algorithms", name, "RS256", "PS256", "ES256", "EdDSA")
	}
}

// dialable reports whether clients may be told to dial a host: a name, or an address
// that is one machine's.
func dialable(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return !ip.IsUnspecified() && !ip.IsMulticast()
	}
	if len(host) > 253 { // RFC 1035 §2.3.4
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, func(r rune) bool {
			return r < 0x80 && r != '-' && r != '_' && !('0' <= r && r <= '9') && !('a' <= r && r <= 'z') && !('A' <= r && r <= 'Z')
		}) {
			return false
		}
	}
	return true
}

// bucketURL says what is wrong with the URL of a bucket, or "".
func bucketURL(url string) string {
	if url == "" {
		return ""
	}
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok || !slices.Contains([]string{"file", "mem", "s3", "gs", "azblob"}, scheme) {
		return fmt.Sprintf("%q is not the URL of a bucket; write file:///path, s3://name?region=…, gs://name, azblob://name or mem://", url)
	}
	if scheme == "file" && !strings.HasPrefix(rest, "/") {
		return fmt.Sprintf("%q does not name a directory from the root: write file:///path", url)
	}
	if scheme == "file" && path.Clean(rest) == "/" {
		return fmt.Sprintf("%q is the root of the disk: write file:///path", url)
	}
	if scheme == "file" && strings.ContainsAny(rest, "?#") {
		return fmt.Sprintf("%q: a directory has no parameters, and a path with ? or # is written with %%3F or %%23", url)
	}
	if scheme != "file" && scheme != "mem" && (rest == "" || rest[0] == '?') {
		return fmt.Sprintf("%q names no bucket: write %s://name", url, scheme)
	}
	return ""
}

// RoleList is broker.roles taken apart.
func (c *Config) RoleList() []string {
	var roles []string
	for role := range strings.SplitSeq(c.Broker.Roles, ",") {
		roles = append(roles, strings.TrimSpace(role))
	}
	return roles
}

// Front reports whether the process is neither broker nor controller: it serves the admin API
// of a cluster, and keeps nothing.
func (c *Config) Front() bool {
	roles := c.RoleList()
	return !slices.Contains(roles, "broker") && !slices.Contains(roles, "controller")
}

// Authenticates reports whether every client of Kafka proves who it is, by a certificate or SASL.
func (c *Config) Authenticates() bool {
	return c.Security.TLS.ClientAuth == "require" || len(c.Security.SASL.MechanismList()) > 0
}

// authenticatesOverTLS reports whether nobody in between sees what proves it.
func (c *Config) authenticatesOverTLS() bool { return c.Authenticates() && c.Network.TLS == "on" }

// Guarded reports whether all that is bound elsewhere than on loopback asks who calls: for
// HTTP, see [Config.HTTPGuarded].
func (c *Config) Guarded() bool {
	clients := c.authenticatesOverTLS() || !slices.Contains(c.RoleList(), "broker")
	return clients && (!c.Clustered() || c.Security.Cluster.CAFile != "")
}

// Loopback reports whether every listener is bound to loopback.
func (c *Config) Loopback() bool {
	if c.Network.Bind == "localhost" {
		return true
	}
	ip := net.ParseIP(c.Network.Bind)
	return ip != nil && ip.IsLoopback()
}

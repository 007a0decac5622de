package roles_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wayIn is one way to get at what one may not have.
type wayIn struct {
	what string
	// by tries it, and returns what it is told; nil: it is in.
	by func(*fortress) error
	// told is what by has to return, of errors.Is; nil: the connection ends, or whatever else.
	told error
	// counted is the beginning of a sample of /metrics that grows by it.
	counted string
	// logged is in a line of the log by it; empty: only counted, for there are ten such lines
	// a second at most.
	logged string
	// audited is in a line of the audit log of what was denied: "ACTION RESOURCE: REASON", of
	// which alike ones are folded into one with the reason of the first.
	audited string
}

const (
	handshakes      = `rustmq_kafka_connections_refused_total{reason="handshake"}`
	unauthenticated = `rustmq_kafka_connections_failed_total{reason="unauthenticated"}`
)

func failedLogin(mechanism string) string {
	return `rustmq_broker_authentications_total{mechanism="` + mechanism + `",result="failed"}`
}

// TestWaysIn tries one way in after another at a node that is as guarded as can be, as a
// stranger, and as bob, who may use what is his: each is refused, and the node says so. What
// is alice's is what it was when all is over.
func TestWaysIn(t *testing.T) {
	t.Parallel()
	f := newFortress(t)
	var audited []string
	for _, table := range [][]wayIn{certificateWays(f), serverWays(), loginWays(), tokenWays(f), orderWays(), bobsWays(f), nameWays()} {
		for _, way := range table {
			before, said := f.counter(way.counted), len(f.log.String())
			err := way.by(f)
			switch {
			case err == nil:
				t.Errorf("%s: it is in", way.what)
			case way.told != nil && !errors.Is(err, way.told):
				t.Errorf("%s: it is told %v, not %v", way.what, err, way.told)
			}
			if way.counted != "" {
				f.await(way.what+" is counted as "+way.counted, func() bool { return f.counter(way.counted) > before })
			}
			if way.logged != "" {
				f.await(fmt.Sprintf("%s is logged as %q", way.what, way.logged), func() bool { return strings.Contains(f.log.String()[said:], way.logged) })
			}
			if way.audited != "" {
				audited = append(audited, way.audited)
			}
			if way.counted == "" && way.logged == "" && way.told == nil {
				t.Errorf("%s: nothing says that it was refused", way.what)
			}
		}
	}
	f.untouched()
	f.denied(audited)
	f.nobodyLooksLikeBob()
}

// nobodyLooksLikeBob holds that what SCRAM tells before a proof does not tell a user from
// nobody: neither where users were made here, nor where Kafka's tools have made them, with
// other iterations.
func (f *fortress) nobodyLooksLikeBob() {
	f.Helper()
	adm := kadm.NewClient(f.alice())
	told := f.line().challenge("bob")
	for range 2 {
		for i := range 20 {
			if nobody := f.line().challenge(fmt.Sprint("nobody-", i)); nobody != told {
				f.Errorf("bob has %s, and who is not there has %s", told, nobody)
			}
		}
		var upserts []kadm.UpsertSCRAM
		for user, password := range map[string]string{"alice": alicesPassword, "bob": bobsPassword} {
			upserts = append(upserts, kadm.UpsertSCRAM{User: user, Mechanism: kadm.ScramSha512, Iterations: 5000, Password: password})
		}
		altered, err := adm.AlterUserSCRAMs(f.Context(), nil, upserts)
		must(f.T, errors.Join(err, altered.Error()))
		before := told
		if told = f.line().challenge("bob"); told == before && !strings.HasPrefix(told, "i=5000,") {
			f.Errorf("bob has %s still", told)
		}
	}
}

// certificateWays are those of TLS, over either transport.
func certificateWays(f *fortress) (ways []wayIn) {
	now := time.Now()
	for name, template := range map[string]*x509.Certificate{
		"expired":      {NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		"not-yet":      {NotBefore: now.Add(time.Hour), NotAfter: now.Add(2 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		"servers-only": {ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
	} {
		f.ours.Sign(name, template)
	}
	f.theirs.Sign("foreign", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	mixed := f.shows(f.ours.Client("expired"))
	mixed.Certificates = nil
	mixed.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: f.ours.Client("bob").Certificates[0].Certificate, PrivateKey: f.ours.Client("expired").Certificates[0].PrivateKey}, nil
	}
	for what, c := range map[string]struct {
		config *tls.Config
		logged string
	}{
		"a certificate that has ended":                {f.shows(f.ours.Client("expired")), "expired or is not yet valid"},
		"a certificate that is not valid yet":         {f.shows(f.ours.Client("not-yet")), "expired or is not yet valid"},
		"a certificate of another authority":          {f.shows(f.theirs.Client("foreign")), "unknown authority"},
		"a certificate that is revoked":               {f.shows(f.ours.Client("revoked")), "was revoked on"},
		"a certificate for servers only":              {f.shows(f.ours.Client("servers-only")), "incompatible key usage"},
		"a certificate without the key that it is of": {mixed, "invalid signature"},
	} {
		ways = append(ways, wayIn{what: what, counted: handshakes, logged: c.logged, audited: "handshake", by: func(f *fortress) error { return f.hello(f.dialTLS(c.config)) }},
			wayIn{what: what + ", over QUIC", counted: handshakes, audited: "handshake", by: func(f *fortress) error { return f.hello(f.dialQUIC(c.config)) }})
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12} {
		ways = append(ways, wayIn{what: tls.VersionName(version), counted: handshakes, audited: "handshake", by: func(f *fortress) error {
			config := f.shows(nil)
			config.MinVersion, config.MaxVersion = version, version
			return f.hello(f.dialTLS(config))
		}})
	}
	return append(ways, wayIn{what: "no TLS at all", counted: handshakes, by: func(f *fortress) error { return f.hello(f.dialClear()) }})
}

// serverWays are those of a client at the doors of servers: its certificate is of the same
// authority. transport/rpc has every service and role (TestCallersProveTheirRole).
func serverWays() (ways []wayIn) {
	said := "a call of another server is refused" // once a second
	for _, method := range []string{"/rustmq.rpc.Replication/Push", "/rustmq.rpc.Raft/Hello", "/rustmq.rpc.Controller/Call"} {
		ways = append(ways, wayIn{what: method + " with a client's certificate", told: errNotAllowed, logged: said, by: func(f *fortress) error {
			return f.call(method, f.shows(f.ours.Client("bob")))
		}}, wayIn{what: method + " without a certificate", told: errNoHandshake, by: func(f *fortress) error {
			return f.call(method, f.shows(nil))
		}})
		said = ""
	}
	return ways
}

// loginWays are those of passwords.
func loginWays() []wayIn {
	failed := failedLogin("SCRAM-SHA-512")
	final := func(change func(last string) string) func(*fortress) error {
		return func(f *fortress) error {
			l := f.line()
			s := f.scram(l, "bob", bobsPassword)
			_, err := l.authenticate([]byte(change(s.last)))
			return err
		}
	}
	proof := func(with string) func(*fortress) error {
		return final(func(last string) string { return last[:strings.LastIndex(last, ",p=")] + with })
	}
	return []wayIn{
		{what: "a wrong password", told: kerr.SaslAuthenticationFailed, counted: failed, by: func(f *fortress) error {
			return f.line().login("bob", "not "+bobsPassword)
		}},
		{what: "a user who is not there", told: kerr.SaslAuthenticationFailed, counted: failed, by: func(f *fortress) error {
			return f.line().login("nobody", bobsPassword)
		}},
		{what: "the last message of another exchange", told: kerr.SaslAuthenticationFailed, counted: failed, by: func(f *fortress) error {
			l := f.line()
			s := f.scram(l, "bob", bobsPassword)
			if _, err := l.authenticate([]byte(s.last)); err != nil {
				return errors.Join(errWrongServer, err) // it is good once
			}
			again := f.line()
			if _, err := again.begin("SCRAM-SHA-512", []byte(s.first)); err != nil {
				return errors.Join(errWrongServer, err)
			}
			_, err := again.authenticate([]byte(s.last))
			return err
		}},
		{what: "an empty proof", told: kerr.SaslAuthenticationFailed, counted: failed, by: proof(",p=")},
		{what: "no proof", told: kerr.SaslAuthenticationFailed, counted: failed, by: proof("")},
		{what: "a proof of zeros", told: kerr.SaslAuthenticationFailed, counted: failed, by: proof(",p=" + strings.Repeat("A", 86) + "==")},
		{what: "as another user than the name", told: kerr.SaslAuthenticationFailed, counted: failed, by: func(f *fortress) error {
			_, err := f.line().begin("SCRAM-SHA-512", []byte("n,a=alice,n=bob,r=abc"))
			return err
		}},
		{what: "channel binding, so that it cannot be checked", told: kerr.SaslAuthenticationFailed, counted: failed, by: func(f *fortress) error {
			_, err := f.line().begin("SCRAM-SHA-512", []byte("p=tls-exporter,,n=bob,r=abc"))
			return err
		}},
		{what: "a mechanism that is not offered", told: kerr.UnsupportedSaslMechanism, by: func(f *fortress) error {
			_, err := f.line().begin("GSSAPI", nil)
			return err
		}},
	}
}

// tokenWays are those of tokens.
func tokenWays(f *fortress) (ways []wayIn) {
	claims := func(change ...any) map[string]any {
		c := map[string]any{"iss": "https://id.example", "aud": "rustmq", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
		for i := 0; i < len(change); i += 2 {
			c[change[i].(string)] = change[i+1]
		}
		return c
	}
	other := newIssuer(f.T)
	for what, token := range map[string]string{
		"a token without a signature":                     unsigned(f.T, claims()),
		"a token signed with the public key, as a secret": f.tokens.sign(f.T, jose.HS256, publicPEM(f.T, f.tokens.key), "k1", claims()),
		"a token for another audience":                    f.tokens.sign(f.T, jose.ES256, f.tokens.key, "k1", claims("aud", "other")),
		"a token of another issuer":                       f.tokens.sign(f.T, jose.ES256, f.tokens.key, "k1", claims("iss", "https://id.example.evil")),
		"a token that has ended":                          f.tokens.sign(f.T, jose.ES256, f.tokens.key, "k1", claims("exp", time.Now().Add(-time.Minute).Unix())),
		"a token without an end":                          f.tokens.sign(f.T, jose.ES256, f.tokens.key, "k1", claims("exp", nil)),
		"a token of a foreign key with our key's id":      f.tokens.sign(f.T, jose.ES256, other.key, "k1", claims()),
		"a token of a foreign key id":                     f.tokens.sign(f.T, jose.ES256, other.key, "k9", claims()),
		"a token whose key id is a path":                  f.tokens.sign(f.T, jose.ES256, other.key, "../../../../dev/null", claims()),
	} {
		ways = append(ways, wayIn{what: what, told: kerr.SaslAuthenticationFailed, counted: failedLogin("OAUTHBEARER"), audited: "login", by: func(f *fortress) error {
			return f.line().bearer(token)
		}})
	}
	return ways
}

// orderWays are messages that are not due.
func orderWays() []wayIn {
	ways := []wayIn{
		{what: "a second handshake within an exchange", told: kerr.IllegalSaslState, counted: unauthenticated, by: func(f *fortress) error {
			l := f.line()
			if _, err := l.begin("SCRAM-SHA-512", []byte("n,,n=bob,r=abc")); err != nil {
				return errors.Join(errWrongServer, err)
			}
			return l.handshake("PLAIN")
		}},
		{what: "a proof before a handshake", told: kerr.IllegalSaslState, counted: unauthenticated, by: func(f *fortress) error {
			_, err := f.line().authenticate([]byte("\x00bob\x00" + bobsPassword))
			return err
		}},
		{what: "to become another user", told: kerr.SaslAuthenticationFailed, counted: unauthenticated, by: func(f *fortress) error {
			l := f.line()
			if err := l.login("bob", bobsPassword); err != nil {
				return errors.Join(errWrongServer, err)
			}
			return l.ended(l.login("alice", alicesPassword))
		}},
		{what: "to become another user by another mechanism", told: kerr.SaslAuthenticationFailed, counted: unauthenticated, by: func(f *fortress) error {
			l := f.line()
			if err := l.login("bob", bobsPassword); err != nil {
				return errors.Join(errWrongServer, err)
			}
			_, err := l.begin("PLAIN", []byte("\x00alice\x00"+alicesPassword))
			return l.ended(err)
		}},
		{what: "a frame that is too long for a stranger", counted: `rustmq_kafka_connections_failed_total{reason="malformed"}`, by: func(f *fortress) error {
			l := f.line()
			_, err := l.Write([]byte{0, 1, 0, 1, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255})
			return l.ended(err)
		}},
	}
	for _, q := range []kmsg.Request{
		at(9, kmsg.NewPtrMetadataRequest()), producedTo("alices"), at(12, kmsg.NewPtrFetchRequest()), at(5, kmsg.NewPtrCreateTopicsRequest()),
		at(2, kmsg.NewPtrCreateACLsRequest()), at(0, kmsg.NewPtrAlterUserSCRAMCredentialsRequest()), at(0, kmsg.NewPtrDescribeClusterRequest()),
	} {
		ways = append(ways, wayIn{what: kmsg.NameForKey(q.Key()) + " before anybody is known", counted: unauthenticated, audited: "comes before the client has said who it is", by: func(f *fortress) error {
			_, err := f.line().ask(q)
			return err
		}})
	}
	return ways
}

// at is a request of a version.
func at(version int16, q kmsg.Request) kmsg.Request {
	q.SetVersion(version)
	return q
}

func producedTo(topic string) *kmsg.ProduceRequest {
	q := kmsg.NewPtrProduceRequest()
	q.Version, q.Acks, q.TimeoutMillis = 9, -1, 10_000
	q.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: []byte("x")}}}}
	return q
}

// bobsWays are those of bob, who is known, to what is alice's.
func bobsWays(f *fortress) (ways []wayIn) {
	group, id := "alices", "alices"
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.SessionTimeoutMillis, join.ProtocolType = group, 10_000, "consumer"
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
	beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	beat.Group, beat.SubscribedTopicNames = group, []string{"bobs"}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.Generation = group, -1
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "bobs", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1}}}}
	remove := kmsg.NewPtrDeleteGroupsRequest()
	remove.Groups = []string{group}
	producer := kmsg.NewPtrInitProducerIDRequest()
	producer.TransactionalID, producer.TransactionTimeoutMillis = &id, 10_000
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.Topics = id, []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "bobs", Partitions: []int32{0}}}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.Commit = id, true
	offsets := kmsg.NewPtrTxnOffsetCommitRequest()
	offsets.TransactionalID, offsets.Group = "bobs", group
	offsets.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "bobs", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: 1}}}}
	inTransaction := producedTo("bobs")
	inTransaction.TransactionID, inTransaction.Topics[0].Partitions[0].Records = &id, aBatch(f.T, transactional)
	trim := kmsg.NewPtrDeleteRecordsRequest()
	trim.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "alices", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 1}}}}
	drop := kmsg.NewPtrDeleteTopicsRequest()
	drop.TopicNames = []string{"alices"}
	scrams := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	scrams.Deletions = []kmsg.AlterUserSCRAMCredentialsRequestDeletion{{Name: "alice", Mechanism: 2}}
	rule := kmsg.NewPtrCreateACLsRequest()
	rule.Creations = []kmsg.CreateACLsRequestCreation{{ResourceType: 2, ResourceName: "alices", ResourcePatternType: 3, Principal: "User:bob", Host: "*", Operation: 3, PermissionType: 3}}
	for _, c := range []struct {
		what string
		q    kmsg.Request
		told error
		of   string // as the audit log has it
	}{
		{"to join another's group", at(5, join), kerr.GroupAuthorizationFailed, "group.read alices"},
		{"to join another's group by heartbeat", at(0, beat), kerr.GroupAuthorizationFailed, "group.read alices"},
		{"to commit another's offsets", at(8, commit), kerr.GroupAuthorizationFailed, "group.read alices"},
		{"to delete another's group", at(2, remove), kerr.GroupAuthorizationFailed, "group.delete alices"},
		{"to fence another's producer", at(4, producer), kerr.TransactionalIDAuthorizationFailed, "transactional-id.write alices"},
		{"to add to another's transaction", at(3, add), kerr.TransactionalIDAuthorizationFailed, "transactional-id.write alices"},
		{"to end another's transaction", at(3, end), kerr.TransactionalIDAuthorizationFailed, "transactional-id.write alices"},
		{"to commit another's offsets in a transaction", at(3, offsets), kerr.GroupAuthorizationFailed, "group.read alices"},
		{"to produce in another's transaction", inTransaction, kerr.TransactionalIDAuthorizationFailed, "transactional-id.write alices"},
		{"to produce to another's topic", producedTo("alices"), kerr.TopicAuthorizationFailed, "topic.write alices"},
		{"to produce to a topic whose name begins as one's own", producedTo("bobs.more"), kerr.TopicAuthorizationFailed, "topic.write bobs.more"},
		{"to produce to one's own topic in other letters", producedTo("BOBS"), kerr.TopicAuthorizationFailed, "topic.write BOBS"},
		{"to produce to a group's offsets", producedTo("__consumer_offsets"), kerr.TopicAuthorizationFailed, "topic.write __consumer_offsets"},
		{"to fetch another's topic", fetched("alices", [16]byte{}), kerr.TopicAuthorizationFailed, "topic.read alices"},
		{"to fetch another's topic by its id", fetched("", f.alices), kerr.TopicAuthorizationFailed, "topic.read alices"},
		{"to delete another's records", at(2, trim), kerr.TopicAuthorizationFailed, "topic.delete alices"},
		{"to delete another's topic", at(4, drop), kerr.TopicAuthorizationFailed, "topic.delete alices"},
		{"to take another's password away", at(0, scrams), kerr.ClusterAuthorizationFailed, "cluster.alter kafka-cluster"},
		{"to allow oneself more", at(2, rule), kerr.ClusterAuthorizationFailed, "cluster.alter kafka-cluster"},
	} {
		ways = append(ways, wayIn{what: c.what, told: c.told, counted: "rustmq_broker_authorization_denied_total{", audited: c.of + ":", by: func(f *fortress) error {
			_, err := f.as("bob", bobsPassword).ask(c.q)
			return err
		}})
	}
	return ways
}

// fetched asks for the records of a topic by its name, or where that is empty by its id.
func fetched(topic string, id [16]byte) *kmsg.FetchRequest {
	q := kmsg.NewPtrFetchRequest()
	q.Version, q.MaxBytes, q.SessionEpoch = 12, 1<<20, -1
	if topic == "" {
		q.Version = 13
	}
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.PartitionMaxBytes = 1 << 20
	q.Topics = []kmsg.FetchRequestTopic{{Topic: topic, TopicID: id, Partitions: []kmsg.FetchRequestTopicPartition{partition}}}
	return q
}

// nameWays are names of topics that are more than names, of somebody who may make any.
func nameWays() (ways []wayIn) {
	as := func(what string, told error, q kmsg.Request) {
		ways = append(ways, wayIn{what: what, told: told, by: func(f *fortress) error {
			_, err := f.as("alice", alicesPassword).ask(q)
			return err
		}})
	}
	for _, name := range []string{
		".", "..", "../../etc", "a/b", `a\b`, "/", "", "a b", "a\x00b", "a\n", "%2e%2e", "tópico", "\u202eevil", "\xff", "con:", strings.Repeat("a", 250), strings.Repeat("a", 30_000),
	} {
		create := kmsg.NewPtrCreateTopicsRequest()
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, 1, 1
		create.Topics = []kmsg.CreateTopicsRequestTopic{topic}
		short := name[:min(len(name), 20)]
		as(fmt.Sprintf("to make a topic %q", short), kerr.InvalidTopicException, at(5, create))
		meta := kmsg.NewPtrMetadataRequest()
		meta.AllowAutoTopicCreation = true
		meta.Topics = []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr(name)}}
		as(fmt.Sprintf("to have a topic %q made on first use", short), kerr.InvalidTopicException, at(9, meta))
	}
	drop := kmsg.NewPtrDeleteTopicsRequest()
	drop.TopicNames = []string{"__consumer_offsets"}
	as("to produce to an internal topic", kerr.InvalidTopicException, producedTo("__consumer_offsets"))
	as("to delete an internal topic", kerr.InvalidTopicException, at(4, drop))
	return ways
}

// errWrongServer is in the error of a way that did not come to where it was to be refused.
var errWrongServer = errors.New("the way ends before its end")

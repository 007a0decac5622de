package rustmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"rustmq.dev/rustmq/sdk/go/transport"
)

// Defaults and limits of a client.
const (
	defaultBroker          = "127.0.0.1:9092" // where `rustmq serve` listens
	defaultPort            = "9092"
	defaultDeliveryTimeout = 2 * time.Minute // as Kafka's delivery.timeout.ms
	defaultBufferedBytes   = 64 << 20
	defaultRecordBytes     = 1_000_012              // what a broker takes unless its topic says more
	metadataPause          = 250 * time.Millisecond // between two questions who leads what; franz-go's is 5 s
	maxBufferedRecords     = 1 << 20                // bytes are what bounds; this bounds records of none
	requestOverhead        = 1 << 20                // of a produce request, beside its records
	smallestWrite          = 100 << 20              // franz-go's largest request, unless records are larger
)

// Acks is who has to have a record before it counts as delivered.
type Acks int

// Acks of a producer.
const (
	AcksAll    Acks = iota // all replicas in sync; producing is idempotent
	AcksLeader             // the leader alone: lost with it
	AcksNone               // nobody: not even errors are heard of
)

// Codec names of [WithCompression].
const (
	Uncompressed = "none"
	Gzip         = "gzip"
	Snappy       = "snappy"
	LZ4          = "lz4"
	Zstd         = "zstd"
)

// TLS says whom to trust and who the client is. Files are PEM, and are read again
// once they have changed, for connections from then on.
type TLS struct {
	CAFile            string // authorities to trust; empty: the system's
	CertFile, KeyFile string // the client's certificate; empty: it has none
	ServerName        string // that the broker's certificate is for; empty: the host that is dialled

	// QUICOnly has TCP be in the clear, for brokers with TLS off (network.tls), who have QUIC
	// all the same, and never in the clear.
	QUICOnly bool

	// Config is what the files are added to; nil: TLS 1.2 and later, 1.3 over QUIC.
	Config *tls.Config
}

// An Option of [New].
type Option func(*config) error

type config struct {
	brokers         []string
	clientID        string
	tls             *TLS
	mechanism       sasl.Mechanism
	shown           string // what the mechanism shows to who listens; empty: nothing
	log             *slog.Logger
	acks            Acks
	codecs          []kgo.CompressionCodec
	linger          time.Duration // negative: franz-go's
	deliveryTimeout time.Duration
	bufferedBytes   int
	recordBytes     int32
	createTopics    bool
	breaker         *Breaker
	hooks           Hooks
	transactionalID string
	transactionTime time.Duration
	admin           adminTarget
	extra           []kgo.Opt
	transport       transport.Mode
}

func newConfig(opts []Option) (*config, error) {
	c := &config{
		clientID: "rustmq-go", log: slog.New(slog.DiscardHandler), linger: -1,
		deliveryTimeout: defaultDeliveryTimeout, bufferedBytes: defaultBufferedBytes, recordBytes: defaultRecordBytes,
	}
	for _, opt := range opts {
		if err := opt(c); err != nil {
			return nil, fmt.Errorf("rustmq: %w", err)
		}
	}
	if len(c.brokers) == 0 {
		c.brokers = []string{defaultBroker}
	}
	if c.tls == nil && c.transport == transport.QUIC {
		return nil, errors.New("rustmq: QUIC is never in the clear: add WithTLS with the authority that the brokers' certificates are of")
	}
	if c.shown != "" && (c.tls == nil || c.tls.QUICOnly && c.transport != transport.QUIC) {
		return nil, fmt.Errorf("rustmq: %s is shown to the broker, and to whoever listens: add WithTLS, or authenticate by SCRAM", c.shown)
	}
	return c, nil
}

// WithBrokers names brokers to start from, host or host:port (9092); the others are
// learnt from them. Default: 127.0.0.1:9092.
func WithBrokers(addresses ...string) Option {
	return func(c *config) error {
		for _, a := range addresses {
			if strings.TrimSpace(a) == "" {
				return errors.New("WithBrokers: an address is empty; want host:port")
			}
			if _, _, err := net.SplitHostPort(a); err != nil {
				a = net.JoinHostPort(strings.Trim(a, "[]"), defaultPort)
			}
			c.brokers = append(c.brokers, a)
		}
		return nil
	}
}

// WithClientID is the name that brokers know this client by, in logs and quotas;
// default "rustmq-go".
func WithClientID(id string) Option {
	return func(c *config) error { c.clientID = id; return nil }
}

// WithTLS encrypts connections.
func WithTLS(t TLS) Option {
	return func(c *config) error {
		if (t.CertFile == "") != (t.KeyFile == "") {
			return errors.New("WithTLS: CertFile and KeyFile: give both, or neither")
		}
		c.tls = &t
		return nil
	}
}

// WithTransport says over what brokers are reached: transport.Auto, the default, measures and
// chooses where there is TLS (docs/transports.md), and is TCP in the clear otherwise.
func WithTransport(mode transport.Mode) Option {
	return func(c *config) error { c.transport = mode; return nil }
}

// WithSCRAM authenticates a user by SCRAM-SHA-512, which shows the password to nobody.
func WithSCRAM(user, password string) Option {
	return func(c *config) error {
		c.mechanism, c.shown = scram.Auth{User: user, Pass: password}.AsSha512Mechanism(), ""
		return nil
	}
}

// WithSCRAM256 is [WithSCRAM] by SCRAM-SHA-256, for brokers that have no other.
func WithSCRAM256(user, password string) Option {
	return func(c *config) error {
		c.mechanism, c.shown = scram.Auth{User: user, Pass: password}.AsSha256Mechanism(), ""
		return nil
	}
}

// WithPlain authenticates a user by PLAIN, which needs [WithTLS].
func WithPlain(user, password string) Option {
	return func(c *config) error {
		c.mechanism, c.shown = plain.Auth{User: user, Pass: password}.AsMechanism(), "a password of PLAIN"
		return nil
	}
}

// WithToken authenticates by OAUTHBEARER, which needs [WithTLS]. token is called for
// each connection, and again before the session ends; it may be called concurrently.
func WithToken(token func(context.Context) (string, error)) Option {
	return func(c *config) error {
		c.mechanism = oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			t, err := token(ctx)
			return oauth.Auth{Token: t}, err
		})
		c.shown = "a token"
		return nil
	}
}

// WithLogger is told what is worth a person's time; default: nobody.
func WithLogger(log *slog.Logger) Option {
	return func(c *config) error {
		if log != nil {
			c.log = log
		}
		return nil
	}
}

// WithAcks says who has to have a record. Other than [AcksAll], the default, gives up
// idempotence: a record may be there twice, or be lost.
func WithAcks(a Acks) Option {
	return func(c *config) error {
		if a < AcksAll || a > AcksNone {
			return fmt.Errorf("WithAcks(%d): want AcksAll, AcksLeader or AcksNone", int(a))
		}
		c.acks = a
		return nil
	}
}

// WithCompression names codecs by preference, of which the first that the broker knows
// is taken; default: snappy, none.
func WithCompression(names ...string) Option {
	return func(c *config) error {
		for _, name := range names {
			switch name {
			case Uncompressed:
				c.codecs = append(c.codecs, kgo.NoCompression())
			case Gzip:
				c.codecs = append(c.codecs, kgo.GzipCompression())
			case Snappy:
				c.codecs = append(c.codecs, kgo.SnappyCompression())
			case LZ4:
				c.codecs = append(c.codecs, kgo.Lz4Compression())
			case Zstd:
				c.codecs = append(c.codecs, kgo.ZstdCompression())
			default:
				return fmt.Errorf("WithCompression(%q): want none, gzip, snappy, lz4 or zstd", name)
			}
		}
		return nil
	}
}

// WithLinger is how long a record may wait for others of its partition, to be sent with
// them; default 10 ms, 0: not at all.
func WithLinger(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return fmt.Errorf("WithLinger(%v): want 0 or more", d)
		}
		c.linger = d
		return nil
	}
}

// WithDeliveryTimeout bounds how long a record may take from Produce to its result,
// retries included; default 2 minutes, at least 1 s. It is looked at between attempts: a
// record whose request a broker has and does not answer, or that waits for the next attempt, takes
// up to the request's time-out (10 s at most) longer. Time that Produce blocks for a full buffer counts,
// and is not ended by it. What timed out may have been written. Transactions do not time out by
// record, but as a whole.
func WithDeliveryTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d < time.Second {
			return fmt.Errorf("WithDeliveryTimeout(%v): want 1s or more", d)
		}
		c.deliveryTimeout = d
		return nil
	}
}

// WithBufferedBytes bounds the bytes of records that wait for their result; default
// 64 MiB. Beyond it Produce blocks, and TryProduce refuses.
func WithBufferedBytes(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("WithBufferedBytes(%d): want 1 or more", n)
		}
		c.bufferedBytes = n
		return nil
	}
}

// WithMaxRecordBytes bounds a record, and a batch of them before compression; default 1,000,012.
// The topic's max.message.bytes has to allow as much, and wal.segment_size of the server four times that.
func WithMaxRecordBytes(n int32) Option {
	return func(c *config) error {
		if n < 1024 || n > 512<<20 {
			return fmt.Errorf("WithMaxRecordBytes(%d): want 1 KiB to 512 MiB", n)
		}
		c.recordBytes = n
		return nil
	}
}

// WithTopicCreation has brokers create a topic that is produced to or consumed and is
// not there, where they are configured to.
func WithTopicCreation() Option {
	return func(c *config) error { c.createTopics = true; return nil }
}

// WithCircuitBreaker refuses records while none can be delivered.
func WithCircuitBreaker(b Breaker) Option {
	return func(c *config) error { c.breaker = &b; return nil }
}

// WithHooks lets traces and metrics see what is done.
func WithHooks(h Hooks) Option {
	return func(c *config) error { c.hooks = h; return nil }
}

// WithTransactionalID names the producer of [Client.Transact] across restarts: of two
// with one name the older is fenced. timeout is how long a transaction may be open
// before the broker aborts it; 0: 40 s.
func WithTransactionalID(id string, timeout time.Duration) Option {
	return func(c *config) error {
		if id == "" {
			return errors.New("WithTransactionalID: the id is empty")
		}
		c.transactionalID, c.transactionTime = id, timeout
		return nil
	}
}

// WithKafka adds options of franz-go, after those of this package.
func WithKafka(opts ...kgo.Opt) Option {
	return func(c *config) error { c.extra = append(c.extra, opts...); return nil }
}

// base are the options that every franz-go client of this one has.
func (c *config) base(dial *transport.Dialer) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.brokers...), kgo.ClientID(c.clientID), kgo.SoftwareNameAndVersion("rustmq-go", Version),
		kgo.Dialer(dial.Dial), kgo.WithLogger(logger{c.log}), kgo.BrokerMaxWriteBytes(max(smallestWrite, c.recordBytes+requestOverhead)),
		// Who was refused, or whose leader has gone, goes on only once it has asked again.
		kgo.WithHooks(connected{c.hooks}), kgo.MetadataMinAge(metadataPause),
	}
	if c.mechanism != nil {
		opts = append(opts, kgo.SASL(c.mechanism))
	}
	if c.createTopics {
		opts = append(opts, kgo.AllowAutoTopicCreation())
	}
	return opts
}

// producing are the options of a client that produces.
func (c *config) producing() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.MaxBufferedBytes(c.bufferedBytes), kgo.MaxBufferedRecords(maxBufferedRecords), kgo.ProducerBatchMaxBytes(c.recordBytes),
		kgo.ProduceRequestTimeout(min(10*time.Second, max(c.deliveryTimeout/2, 100*time.Millisecond))),
	}
	if len(c.codecs) > 0 {
		opts = append(opts, kgo.ProducerBatchCompression(c.codecs...))
	}
	if c.linger >= 0 {
		opts = append(opts, kgo.ProducerLinger(c.linger))
	}
	switch c.acks {
	case AcksLeader:
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case AcksNone:
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	}
	return opts
}

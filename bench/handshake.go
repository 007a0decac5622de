package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// loadUser is who loads are, where they show a certificate.
const loadUser = "load"

// certified is how who has a certificate in a directory connects, and whom it trusts.
func certified(dir, name string) (*tls.Config, error) {
	pem, err := os.ReadFile(filepath.Join(dir, "bundle.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", dir)
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientSessionCache: tls.NewLRUClientSessionCache(8)}, nil
}

// handshakers are how many connections are being made at once.
const handshakers = 4

// loadFull makes connections, each with a handshake of its own and a first answer, and
// loadResumed the same with sessions that are resumed.
func loadFull(ctx context.Context, s shape) (loadResult, error) { return shakeHands(ctx, s, false) }

func loadResumed(ctx context.Context, s shape) (loadResult, error) { return shakeHands(ctx, s, true) }

func shakeHands(ctx context.Context, s shape, resume bool) (loadResult, error) {
	one := func(config *tls.Config) (resumed bool, err error) {
		conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", s.broker)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().DidResume, askApiVersions(conn)
	}
	var left, failed, resumed atomic.Int64
	var why atomic.Pointer[error]
	left.Store(int64(s.records))
	var wg sync.WaitGroup
	began := time.Now()
	for range handshakers {
		config, err := s.tlsConfig()
		if err != nil {
			return loadResult{}, err
		}
		if !resume {
			config.ClientSessionCache = nil
		}
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				did, err := one(config)
				if err != nil {
					failed.Add(1)
					why.CompareAndSwap(nil, &err)
				}
				if did {
					resumed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if n := failed.Load(); n > 0 {
		return loadResult{}, fmt.Errorf("%d of %d handshakes failed: %w", n, s.records, *why.Load())
	}
	if n := resumed.Load(); resume != (n >= int64(s.records)*9/10) || !resume && n > 0 {
		return loadResult{}, fmt.Errorf("%d of %d handshakes resumed a session", n, s.records)
	}
	return loadResult{Records: int64(s.records), Seconds: took.Seconds()}, nil
}

// bareTLS is a server that does a handshake, reads one small request and answers it, as
// little as there can be. It returns its address.
func bareTLS(dir string, mutual bool) (string, error) {
	config, err := certified(dir, "node-1")
	if err != nil {
		return "", err
	}
	config.ClientSessionCache = nil
	if mutual {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, config.RootCAs
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answerOnce(conn)
		}
	}()
	return listener.Addr().String(), nil
}

func answerOnce(conn net.Conn) {
	defer conn.Close()
	answer := make([]byte, 400) // about as long as ours
	answer[2], answer[3] = 396>>8, 396&0xff
	if _, err := io.ReadFull(conn, make([]byte, 14)); err == nil {
		_, _ = conn.Write(answer)
		_, _ = conn.Read(make([]byte, 1)) // until the client goes
	}
}

// What watches whether a rule is in force.
const (
	watchersABroker = 4
	watchPause      = 2 * time.Millisecond
	ruledTopic      = "ruled"
)

// loadRuled makes and deletes a rule in turn at one broker, so many times, while connections
// to all of them ask for what it allows; the times are from the request to the last answer
// that it is in.
func loadRuled(ctx context.Context, s shape) (loadResult, error) {
	config, err := certified(s.certs, superUser)
	if err != nil {
		return loadResult{}, err
	}
	root, err := kgo.NewClient(kgo.SeedBrokers(s.broker), kgo.DialTLSConfig(config))
	if err != nil {
		return loadResult{}, err
	}
	defer root.Close()
	adm := kadm.NewClient(root)
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, ruledTopic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return loadResult{}, err
	}
	brokers, err := adm.ListBrokers(ctx)
	if err != nil {
		return loadResult{}, err
	}
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	turned := make(chan turn, 1000)
	for _, b := range brokers {
		for range watchersABroker {
			config, err := certified(s.certs, loadUser)
			if err != nil {
				return loadResult{}, err
			}
			conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", b.Host, b.Port))
			if err != nil {
				return loadResult{}, err
			}
			watching.Go(func() { watch(ctx, conn, turned) })
		}
	}
	all := len(brokers) * watchersABroker
	rule := kadm.NewACLs().Topics(ruledTopic).ResourcePatternType(kmsg.ACLResourcePatternTypeLiteral).Allow("User:CN=" + loadUser).AllowHosts("*").Operations(kadm.OpDescribe)
	hist := hdr.New(1, 60_000_000, 3)
	for change := range s.records {
		allows, began := change%2 == 0, time.Now()
		if allows {
			created, e := adm.CreateACLs(ctx, rule)
			if err = e; err == nil {
				err = created[0].Err
			}
		} else {
			deleted, e := adm.DeleteACLs(ctx, rule)
			if err = e; err == nil {
				err = deleted[0].Err
			}
		}
		if err != nil {
			return loadResult{}, fmt.Errorf("change %d: %w", change, err)
		}
		for seen := 0; seen < all; {
			select {
			case t := <-turned:
				if t.err != nil {
					return loadResult{}, fmt.Errorf("ask whether the rule is in force: %w", t.err)
				}
				if t.allowed != allows {
					return loadResult{}, fmt.Errorf("a connection was told %v by change %d", t.allowed, change)
				}
				seen++
			case <-ctx.Done():
				return loadResult{}, fmt.Errorf("%d of %d connections have seen change %d: %w", seen, all, change, ctx.Err())
			}
		}
		_ = hist.RecordValue(time.Since(began).Microseconds())
	}
	return loadResult{
		Records: int64(s.records), P50: float64(hist.ValueAtQuantile(50)), P99: float64(hist.ValueAtQuantile(99)), Max: float64(hist.Max()),
	}, nil
}

// turn is that a connection is told something else than before.
type turn struct {
	allowed bool
	err     error
}

// watch asks for a topic again and again, and says when it is to be seen, and when it is not.
// Nothing is to be seen at first.
func watch(ctx context.Context, conn net.Conn, turned chan<- turn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	q := kmsg.NewPtrMetadataRequest()
	q.Version = 9
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(ruledTopic)
	q.Topics = []kmsg.MetadataRequestTopic{topic}
	request := kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, q, 1)
	allowed := false
	ticker := time.NewTicker(watchPause)
	defer ticker.Stop()
	for {
		seen, err := sees(conn, request)
		if ctx.Err() != nil {
			return
		}
		if seen != allowed || err != nil {
			allowed = seen
			turned <- turn{seen, err}
		}
		if err != nil {
			return
		}
		<-ticker.C
	}
}

func sees(conn net.Conn, request []byte) (bool, error) {
	if _, err := conn.Write(request); err != nil {
		return false, err
	}
	var head [4]byte
	if err := readFull(conn, head[:]); err != nil {
		return false, err
	}
	answer := make([]byte, int(head[0])<<24|int(head[1])<<16|int(head[2])<<8|int(head[3]))
	if err := readFull(conn, answer); err != nil {
		return false, err
	}
	p := kmsg.NewPtrMetadataResponse()
	p.Version = 9
	if err := p.ReadFrom(answer[5:]); err != nil {
		return false, err
	}
	return len(p.Topics) == 1 && p.Topics[0].ErrorCode == 0, nil
}

// rulesAtOnce are made by one request.
const rulesAtOnce = 500

// loadRules makes so many rules, of ten for each of some principals, and those by which the
// loads here may make topics and use them.
func loadRules(ctx context.Context, s shape) (loadResult, error) {
	config, err := certified(s.certs, superUser)
	if err != nil {
		return loadResult{}, err
	}
	root, err := kgo.NewClient(kgo.SeedBrokers(s.broker), kgo.DialTLSConfig(config))
	if err != nil {
		return loadResult{}, err
	}
	defer root.Close()
	rule := func(principal, topic string, operation kmsg.ACLOperation) kmsg.CreateACLsRequestCreation {
		c := kmsg.NewCreateACLsRequestCreation()
		c.ResourceType, c.ResourceName, c.ResourcePatternType = kmsg.ACLResourceTypeTopic, topic, kmsg.ACLResourcePatternTypePrefixed
		c.Principal, c.Host, c.Operation, c.PermissionType = "User:"+principal, "*", operation, kmsg.ACLPermissionTypeAllow
		return c
	}
	rules := []kmsg.CreateACLsRequestCreation{rule("CN="+loadUser, "bench-", kmsg.ACLOperationAll)}
	for i := range s.records {
		rules = append(rules, rule(fmt.Sprintf("CN=user-%d", i/10), fmt.Sprintf("events.%d.", i), kmsg.ACLOperationWrite))
	}
	began := time.Now()
	for from := 0; from < len(rules); from += rulesAtOnce {
		q := kmsg.NewPtrCreateACLsRequest()
		q.Creations = rules[from:min(from+rulesAtOnce, len(rules))]
		p, err := q.RequestWith(ctx, root)
		if err != nil {
			return loadResult{}, err
		}
		for _, x := range p.Results {
			if err := kerr.ErrorForCode(x.ErrorCode); err != nil {
				return loadResult{}, fmt.Errorf("make a rule: %w", err)
			}
		}
	}
	return loadResult{Records: int64(len(rules)), Seconds: time.Since(began).Seconds()}, nil
}

//go:build suites

package apache

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/test/apache"
)

const (
	// patience is how long an answer may take; the machine may be busy.
	patience = 8 * time.Second
	// answerLimit is above every answer that a sequence asks for.
	answerLimit = 16 << 20
)

// span is the versions of a key that a server announces.
type span struct{ min, max int16 }

// peer is one of the two servers.
type peer struct {
	name     string
	addr     string
	versions map[int16]span
}

// startKafka starts one node of Apache Kafka for as long as the test runs.
func startKafka(t *testing.T) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Second)
	defer cancel()
	s, err := apache.Start(ctx, apache.Options{
		Lib: "../../../build/kafka/lib", Dir: t.TempDir(), HeapMiB: 768,
		Properties: map[string]string{
			// rustmq's default: nothing waits for members that may come.
			"group.initial.rebalance.delay.ms": "0",
			// Records are of a fixed day in the past: retention would find them.
			"log.retention.check.interval.ms": "86400000",
			"log.initial.task.delay.ms":       "86400000",
			// Fifty partitions each take long to create, and prove no more.
			"offsets.topic.num.partitions":         "1",
			"transaction.state.log.num.partitions": "1",
		},
	})
	if errors.Is(err, apache.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return newPeer(t, "kafka", s.Addr())
}

// startRustmq starts the binary for as long as the test runs.
func startRustmq(t *testing.T) *peer {
	t.Helper()
	bin := os.Getenv("RUSTMQ_BIN")
	if bin == "" {
		bin = "../../../bin/rustmq"
	}
	cmd := exec.Command(bin, "serve", "--ports", "free", "--data-dir", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v (make build, or set RUSTMQ_BIN)", bin, err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("start %s: no start line: %v", bin, err)
	}
	var says struct {
		Kafka string `json:"kafka"`
	}
	if err := json.Unmarshal(line, &says); err != nil || says.Kafka == "" {
		t.Fatalf("start %s: the first line says no address: %s", bin, line)
	}
	return newPeer(t, "rustmq", says.Kafka)
}

func newPeer(t *testing.T, name, addr string) *peer {
	t.Helper()
	p := &peer{name: name, addr: addr, versions: map[int16]span{}}
	c := &conn{peer: p, format: kmsg.NewRequestFormatter()}
	defer c.close()
	q := kmsg.NewPtrApiVersionsRequest()
	q.Version = 2
	answer, err := c.exchange(q)
	if err != nil {
		t.Fatalf("ask %s for its versions: %v", name, err)
	}
	for _, k := range answer.(*kmsg.ApiVersionsResponse).ApiKeys {
		p.versions[k.ApiKey] = span{k.MinVersion, k.MaxVersion}
	}
	return p
}

// conn is one connection to a server. It is dialed at the first request, and
// again after the server has closed it.
type conn struct {
	peer   *peer
	format *kmsg.RequestFormatter
	net    net.Conn
	next   int32
}

// exchange sends a request and waits for its answer.
func (c *conn) exchange(q kmsg.Request) (kmsg.Response, error) {
	if err := c.send(q); err != nil {
		return nil, err
	}
	return c.receive(q)
}

func (c *conn) send(q kmsg.Request) error {
	c.next++
	return c.write(c.format.AppendRequest(nil, q, c.next))
}

func (c *conn) write(frame []byte) error {
	if c.net == nil {
		dialed, err := net.DialTimeout("tcp", c.peer.addr, patience)
		if err != nil {
			return err
		}
		c.net = dialed
	}
	if err := c.net.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := c.net.Write(frame)
	return err
}

// receive reads the answer to q, which was sent before.
func (c *conn) receive(q kmsg.Request) (kmsg.Response, error) {
	body, err := c.frame()
	if err != nil {
		return nil, err
	}
	p := q.ResponseKind()
	// The header of a flexible answer ends in tags, but for ApiVersions (KIP-511).
	if p.IsFlexible() && p.Key() != int16(kmsg.ApiVersions) {
		if len(body) == 0 || body[0] != 0 {
			return nil, fmt.Errorf("the header has tags: %x", body)
		}
		body = body[1:]
	}
	if err := p.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("an answer of %d bytes does not read: %w", len(body), err)
	}
	if again := p.AppendTo(nil); len(again) != len(body) {
		return nil, fmt.Errorf("an answer of %d bytes reads as one of %d", len(body), len(again))
	}
	return p, nil
}

// frame reads one answer behind its correlation id.
func (c *conn) frame() ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(c.net, head[:]); err != nil {
		c.close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, errors.New("no answer")
		}
		return nil, errors.New("closed")
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 4 || size > answerLimit {
		return nil, fmt.Errorf("an answer of %d bytes", size)
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(c.net, body); err != nil {
		c.close()
		return nil, errors.New("closed in an answer")
	}
	return body, nil
}

func (c *conn) close() {
	if c.net != nil {
		_ = c.net.Close()
		c.net = nil
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rustmq.dev/rustmq/bench/floor"
)

// bareBroker is a process that does what no broker can leave out, and nothing else. Whoever
// asks for an object gets it from the store, each byte received, summed and sent on. What is
// appended is acknowledged, and sent to who reads the tail, once a group commit has synced it.
//
// A connection begins with a byte that says what it is for, which comes back. One for objects then asks by
// lines of a key each, and gets 8 bytes of length and the object. One that appends sends
// records of bareRecord bytes and gets a byte for each. One that reads the tail gets the records.
type bareBroker struct {
	store   *s3.Client
	part    int64 // what is asked of the store at once; 0: the whole object
	log     *floor.Loop
	buffers sync.Pool

	mu   sync.Mutex
	tail net.Conn // guarded by mu
}

// What a connection is for.
const (
	forObjects = 'o'
	forAppends = 'a'
	forTail    = 't'
)

const (
	bareRecord = recordBytes
	bareLog    = 64 * mib // its file begins anew when it is full

	// passStep bytes of an object are passed on before whoever else is ready runs.
	passStep = 256 << 10
)

// startBareBroker starts one within this process, for good, with its log in dir.
func startBareBroker(dir, store string, part int64) (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	log, err := floor.OpenLoop(dir, bareLog)
	if err != nil {
		return "", err
	}
	b := &bareBroker{store: shape{broker: store}.s3Client(), part: part, log: log}
	b.buffers.New = func() any { p := make([]byte, passStep); return &p }
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if err := b.serve(conn); err != nil && !errors.Is(err, io.EOF) {
					fmt.Fprintln(os.Stderr, "bare broker:", err)
				}
			}()
		}
	}()
	return l.Addr().String(), nil
}

func (b *bareBroker) serve(conn net.Conn) error {
	from := bufio.NewReaderSize(conn, 64<<10)
	what, err := from.ReadByte()
	if err != nil {
		return err
	}
	if what == forTail {
		b.mu.Lock()
		b.tail = conn
		b.mu.Unlock()
	}
	if _, err := conn.Write([]byte{what}); err != nil {
		return err
	}
	switch what {
	case forObjects:
		for {
			key, err := from.ReadString('\n')
			if err != nil {
				return err
			}
			if err := b.pass(conn, strings.TrimSuffix(key, "\n")); err != nil {
				return err
			}
		}
	case forAppends:
		for {
			record := make([]byte, bareRecord)
			if _, err := io.ReadFull(from, record); err != nil {
				return err
			}
			if err := b.log.Append(record, &bareAppend{b, conn, record}); err != nil {
				return err
			}
		}
	case forTail:
		_, err := from.ReadByte() // until it goes
		return err
	}
	return fmt.Errorf("a connection for %q", what)
}

// bareAppend is a record that is being committed.
type bareAppend struct {
	b      *bareBroker
	from   net.Conn
	record []byte
}

// Committed implements floor.Completion.
func (a *bareAppend) Committed(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bare broker: commit:", err)
		_ = a.from.Close()
		return
	}
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	_, _ = a.from.Write([]byte{1})
	if a.b.tail != nil {
		_, _ = a.b.tail.Write(a.record)
	}
}

// pass sends an object on.
func (b *bareBroker) pass(to net.Conn, key string) error {
	ctx := context.Background()
	in := &s3.GetObjectInput{Bucket: aws.String(s3Bucket), Key: aws.String(key)}
	size := int64(-1)
	for at := int64(0); at != size; {
		if b.part > 0 {
			in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", at, at+b.part-1))
		}
		out, err := b.store.GetObject(ctx, in)
		if err != nil {
			return err
		}
		if size < 0 {
			if size, err = wholeSize(out); err != nil {
				return err
			}
			if _, err := to.Write(binary.BigEndian.AppendUint64(nil, uint64(size))); err != nil {
				return err
			}
		}
		n, err := b.passBody(to, out.Body)
		if at += n; err != nil || n == 0 {
			return fmt.Errorf("pass %s: %d of %d bytes: %w", key, at, size, err)
		}
	}
	return nil
}

// wholeSize is that of the object of which an answer may be a part.
func wholeSize(out *s3.GetObjectOutput) (size int64, err error) {
	if out.ContentRange == nil {
		return aws.ToInt64(out.ContentLength), nil
	}
	_, whole, _ := strings.Cut(*out.ContentRange, "/")
	_, err = fmt.Sscan(whole, &size)
	return size, err
}

func (b *bareBroker) passBody(to net.Conn, body io.ReadCloser) (n int64, err error) {
	defer body.Close()
	p := b.buffers.Get().(*[]byte)
	defer b.buffers.Put(p)
	sum := uint32(0)
	for {
		m, err := body.Read(*p)
		sum = crc32.Update(sum, castagnoli, (*p)[:m])
		n += int64(m)
		if _, failed := to.Write((*p)[:m]); failed != nil {
			return n, failed
		}
		runtime.Gosched()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// dialBare connects to a bare broker.
func dialBare(addr string, what byte) (net.Conn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err = conn.Write([]byte{what}); err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// getPassed asks for an object and looks at no byte of it.
func getPassed(conn net.Conn, key string, into []byte) (int64, error) {
	if _, err := io.WriteString(conn, key+"\n"); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(conn, into[:8]); err != nil {
		return 0, err
	}
	size := int64(binary.BigEndian.Uint64(into))
	return io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(conn, size), into)
}

// loadPassed is loadS3Get by way of a bare broker.
func loadPassed(_ context.Context, s shape) (loadResult, error) {
	type line struct {
		conn net.Conn
		into []byte
	}
	lines := make(chan line, copiesAtOnce)
	for range copiesAtOnce {
		conn, err := dialBare(s.broker, forObjects)
		if err != nil {
			return loadResult{}, err
		}
		defer conn.Close()
		lines <- line{conn, make([]byte, copyBuffer)}
	}
	return s.copyAll(func(key, _ string) (int64, error) {
		l := <-lines
		defer func() { lines <- l }()
		return getPassed(l.conn, filepath.ToSlash(key), l.into)
	})
}

// loadBareCatchUp is loadCatchUp of a bare broker: all objects, again and again, over one
// connection, until standard input ends.
func loadBareCatchUp(ctx context.Context, s shape) (loadResult, error) {
	keys, err := objectFiles(s.dir)
	if err != nil {
		return loadResult{}, err
	}
	conn, err := dialBare(s.broker, forObjects)
	if err != nil {
		return loadResult{}, err
	}
	defer conn.Close()
	ctx = untilInputEnds(ctx)
	into := make([]byte, copyBuffer)
	var result loadResult
	began := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		n, err := getPassed(conn, keys[i%len(keys)], into)
		if err != nil {
			return loadResult{}, err
		}
		result.Bytes += n
	}
	result.Seconds = time.Since(began).Seconds()
	return result, nil
}

// loadBareSteady is loadSteady of a bare broker.
func loadBareSteady(_ context.Context, s shape) (loadResult, error) {
	producer, err := dialBare(s.broker, forAppends)
	if err != nil {
		return loadResult{}, err
	}
	defer producer.Close()
	consumer, err := dialBare(s.broker, forTail)
	if err != nil {
		return loadResult{}, err
	}
	defer consumer.Close()
	warm, total := s.records, s.records*(s.seconds+1)
	began := time.Now()
	acks := &latencies{began: began, warm: warm, left: total, done: make(chan error, 1), hist: hdr.New(1, 120_000_000, 3)}
	tail := &latencies{began: began, warm: warm, left: total, done: make(chan error, 1), hist: hdr.New(1, 120_000_000, 3)}
	due := func(i int) time.Duration { return time.Duration(i) * time.Second / time.Duration(s.records) }
	go acks.read(producer, 1, func(i int, _ []byte) time.Duration { return due(i) })
	go tail.read(consumer, bareRecord, func(_ int, p []byte) time.Duration { return time.Duration(binary.BigEndian.Uint64(p)) })
	record := value(bareRecord)
	for i := range total {
		time.Sleep(due(i) - time.Since(began))
		binary.BigEndian.PutUint64(record, uint64(due(i)))
		if _, err := producer.Write(record); err != nil {
			return loadResult{}, err
		}
	}
	if err := errors.Join(<-acks.done, <-tail.done); err != nil {
		return loadResult{}, err
	}
	n := int64(s.records * s.seconds)
	return loadResult{
		Records: n, Bytes: n * bareRecord, Seconds: time.Since(began).Seconds(),
		P50: acks.at(50), P99: acks.at(99), TailP50: tail.at(50), TailP99: tail.at(99),
	}, nil
}

// read notes what comes, size bytes for a record.
func (l *latencies) read(conn net.Conn, size int, due func(i int, p []byte) time.Duration) {
	from, p := bufio.NewReaderSize(conn, 64<<10), make([]byte, size)
	for i := range l.left {
		if _, err := io.ReadFull(from, p); err != nil {
			l.fail(err)
			return
		}
		l.took(due(i, p), nil)
	}
}

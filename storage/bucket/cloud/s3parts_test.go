package cloud

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// partStore answers as S3 does to an upload in parts.
type partStore struct {
	part   func(number int, body []byte, header http.Header) // is told of each
	refuse func(*http.Request) bool                          // what is answered by an error; nil: nothing

	mu        sync.Mutex // guards what follows
	begun     http.Header
	parts     map[int][]byte
	completed string // the body of the request that did
	stored    []byte // by it, or by one for the whole
	aborted   int
}

func (s *partStore) answer(r *http.Request) (*http.Response, error) {
	var body []byte
	var err error
	if r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil && s.refuse(r) {
		return answered(http.StatusServiceUnavailable, nil, "<Error><Code>SlowDown</Code></Error>"), nil
	}
	q := r.URL.Query()
	number, _ := strconv.Atoi(q.Get("partNumber"))
	switch {
	case q.Has("uploads"):
		s.begun, s.parts = r.Header, map[int][]byte{}
		return answered(http.StatusOK, nil, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"), nil
	case number > 0:
		s.parts[number] = body
		if s.part != nil {
			s.part(number, body, r.Header)
		}
		return answered(http.StatusOK, http.Header{"Etag": {fmt.Sprintf("e%d", number)}}, ""), nil
	case r.Method == http.MethodPost:
		s.completed = string(body)
		for i := range len(s.parts) {
			s.stored = append(s.stored, s.parts[i+1]...)
		}
		sum := encoded(crc32.ChecksumIEEE(s.stored))
		return answered(http.StatusOK, nil, "<CompleteMultipartUploadResult><ChecksumCRC32>"+sum+"</ChecksumCRC32><ChecksumType>FULL_OBJECT</ChecksumType></CompleteMultipartUploadResult>"), nil
	case r.Method == http.MethodDelete:
		s.aborted++
		return answered(http.StatusNoContent, nil, ""), nil
	}
	s.stored = body
	return answered(http.StatusOK, http.Header{"X-Amz-Checksum-Crc32": {encoded(crc32.ChecksumIEEE(body))}}, ""), nil
}

func answered(status int, header http.Header, body string) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

// numbered is content whose bytes tell where they are.
func numbered(size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return data
}

// TestWhatIsLargerThanAPartIsStoredInParts: whatever its size is, and in whatever pieces it
// is written, all of it is stored, in order, each part with the sum of what was packed.
func TestWhatIsLargerThanAPartIsStoredInParts(t *testing.T) {
	const part = 1 << 20
	for _, size := range []int{part, part + 1, 2 * part, 2*part + part/2} {
		for _, concurrency := range []int{1, 3} {
			data := numbered(size)
			s := &partStore{part: func(number int, body []byte, header http.Header) {
				if told, want := header.Get("x-amz-checksum-crc32"), encoded(crc32.ChecksumIEEE(body)); told != want {
					t.Errorf("%d bytes: part %d is told to have %q, want %q", size, number, told, want)
				}
			}}
			b := bucketOf(s.answer)
			b.o.PartSize, b.o.Concurrency = part, concurrency
			err := b.PutIfAbsent(t.Context(), "k", data)
			parts := (size + part - 1) / part
			if parts == 1 {
				parts = 0 // by one request
			}
			if err != nil || !bytes.Equal(s.stored, data) || len(s.parts) != parts || s.aborted != 0 {
				t.Errorf("%d bytes, %d at once: %v, %d parts, %d bytes are stored, %d given up", size, concurrency, err, len(s.parts), len(s.stored), s.aborted)
			}
			for i := range parts {
				if named := fmt.Sprintf("<ETag>e%d</ETag><PartNumber>%d</PartNumber>", i+1, i+1); !strings.Contains(s.completed, named) {
					t.Errorf("%d bytes: the end names no %s: %s", size, named, s.completed)
				}
			}
		}
	}
}

// TestAnUploadInPartsThatFailsIsGivenUp: nothing of it is an object, or stays behind in the
// store; and the store's failure is told, though content is cut off by it.
func TestAnUploadInPartsThatFailsIsGivenUp(t *testing.T) {
	own := errors.New("the content's own")
	for name, c := range map[string]struct {
		refuse  func(*http.Request) bool
		failure error
		begun   bool // so that there is something to give up
	}{
		"it cannot begin": {refuse: func(r *http.Request) bool { return r.URL.Query().Has("uploads") }},
		"a part":          {refuse: func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "2" }, begun: true},
		"the end":         {refuse: func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") }, begun: true},
		"its content":     {failure: own, begun: true},
	} {
		s := &partStore{refuse: c.refuse}
		b := bucketOf(s.answer)
		b.o.PartSize = 1 << 20
		err := b.Put(t.Context(), "k", writes(func(w io.Writer) error {
			for range 5 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return err
				}
			}
			return c.failure
		}))
		told := err != nil && (c.failure == nil && strings.Contains(err.Error(), "SlowDown") || c.failure != nil && errors.Is(err, own))
		if !told || s.stored != nil || (s.aborted > 0) != c.begun {
			t.Errorf("%s: %v; %d bytes are stored, given up %d times", name, err, len(s.stored), s.aborted)
		}
	}
}

package client

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/test/seeded"
)

// scripted is a connection that reads what it is given, in pieces.
type scripted struct {
	net.Conn
	in    bytes.Buffer
	piece func() int
}

func (s *scripted) Write(b []byte) (int, error) { return len(b), nil }
func (s *scripted) Read(b []byte) (int, error)  { return s.in.Read(b[:min(len(b), s.piece())]) }

func request(key kmsg.Key, version int16, correlation int32) []byte {
	b := binary.BigEndian.AppendUint32(nil, 8)
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	return binary.BigEndian.AppendUint32(b, uint32(correlation))
}

func answer(correlation int32, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(correlation))
	return append(b, body...)
}

func refusing(version int16, code *kerr.Error, text, record string) []byte {
	resp := kmsg.NewPtrProduceResponse()
	resp.SetVersion(version)
	p := kmsg.NewProduceResponseTopicPartition()
	p.ErrorCode = code.Code
	if text != "" {
		p.ErrorMessage = &text
	}
	if record != "" {
		p.ErrorRecords = append(p.ErrorRecords, kmsg.ProduceResponseTopicPartitionErrorRecord{ErrorMessage: &record})
	}
	resp.Topics = append(resp.Topics, kmsg.ProduceResponseTopic{Topic: "t", Partitions: []kmsg.ProduceResponseTopicPartition{p}})
	if resp.IsFlexible() {
		return append([]byte{0}, resp.AppendTo(nil)...)
	}
	return resp.AppendTo(nil)
}

// TestWhatBrokersSayOfRecords is found among other answers, however they are cut, and what is
// not said, or no answer to Produce, is not made up.
func TestWhatBrokersSayOfRecords(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeded.Seed(t), 1))
	for range 50 {
		conn := &scripted{piece: func() int { return 1 + rng.IntN(40) }}
		r := &refusals{said: map[int16]string{}}
		w := r.watch(conn)
		var want []byte
		for _, step := range []struct {
			request []byte
			answer  []byte
		}{
			{request(kmsg.Metadata, 12, 1), answer(1, bytes.Repeat([]byte{7}, 500))},
			{request(kmsg.Produce, 9, 2), answer(2, refusing(9, kerr.InvalidRecord, "a batch", "no field net"))},
			{request(kmsg.Produce, 8, 3), answer(3, refusing(8, kerr.MessageTooLarge, "9 bytes too many", ""))},
			{request(kmsg.Produce, 7, 4), answer(4, refusing(7, kerr.PolicyViolation, "not in this version", ""))},
			{request(kmsg.Produce, 9, 5), answer(5, []byte{0, 99})},
			{request(kmsg.Fetch, 12, 6), answer(6, refusing(12, kerr.UnknownServerError, "no answer to Produce", ""))},
			{request(kmsg.Produce, 9, 7), answer(7, nil)},
			{request(kmsg.Produce, 10, 8), answer(8, refusing(10, kerr.InvalidTimestamp, "too far ahead", ""))},
		} {
			if _, err := w.Write(step.request); err != nil {
				t.Fatal(err)
			}
			conn.in.Write(step.answer)
			want = append(want, step.answer...)
		}
		if got, err := io.ReadAll(w); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came, of %d, %v", len(got), len(want), err)
		}
		for code, text := range map[*kerr.Error]string{
			kerr.InvalidRecord: "no field net", kerr.MessageTooLarge: "9 bytes too many", kerr.InvalidTimestamp: "too far ahead", kerr.PolicyViolation: "", kerr.UnknownServerError: "",
		} {
			if got := r.why(code); got != text {
				t.Errorf("%v: %q, want %q", code, got, text)
			}
		}
	}
	if got := (*refusals)(nil).why(kerr.InvalidRecord); got != "" {
		t.Errorf("nobody has listened: %q", got)
	}
}

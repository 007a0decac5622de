package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FrameError says why a connection's bytes are no Kafka requests.
type FrameError struct{ Reason string }

func (e *FrameError) Error() string { return "malformed frame: " + e.Reason }

// header is the fixed part of a request, and the client's id.
type header struct {
	key, version  int16
	correlationID int32
	clientID      []byte // of the frame
}

// smallestFrame is a header with a null client id.
const smallestFrame = 10

const (
	apiVersionsKey   = int16(kmsg.ApiVersions)
	produceKey       = int16(kmsg.Produce)
	saslHandshakeKey = int16(kmsg.SASLHandshake)
)

// parseHeader reads the header of a frame and returns the body behind it.
func parseHeader(frame []byte) (h header, body []byte, err error) {
	if len(frame) < smallestFrame {
		return h, nil, &FrameError{fmt.Sprintf("%d bytes, a request has at least %d", len(frame), smallestFrame)}
	}
	h.key = int16(binary.BigEndian.Uint16(frame))
	h.version = int16(binary.BigEndian.Uint16(frame[2:]))
	h.correlationID = int32(binary.BigEndian.Uint32(frame[4:]))
	n := int(int16(binary.BigEndian.Uint16(frame[8:])))
	body = frame[smallestFrame:]
	if n > len(body) || n < -1 {
		return h, nil, &FrameError{fmt.Sprintf("client id of %d bytes in a frame of %d", n, len(frame))}
	}
	if n > 0 {
		h.clientID, body = body[:n], body[n:]
	}
	if flexible(h.key, h.version) {
		if body, err = skipTags(body); err != nil && h.key != apiVersionsKey {
			return h, nil, err
		}
	}
	// ApiVersions of a version to come may have any header (KIP-511).
	return h, body, nil
}

// flexible reports whether requests of that version have tagged fields. What is
// unknown has none: it is answered by its header alone.
func flexible(key, version int16) bool {
	if key < 0 || version < 0 {
		return false
	}
	since := int16(math.MaxInt16)
	if int(key) < len(flexibleSince) {
		since = flexibleSince[key]
	}
	return version >= since
}

// flexibleSince is, for each key, the first flexible version.
var flexibleSince = func() []int16 {
	since := make([]int16, kmsg.MaxKey+1)
	for key := range since {
		since[key] = math.MaxInt16
		req := kmsg.RequestForKey(int16(key))
		if req == nil {
			continue
		}
		for v := int16(0); v <= req.MaxVersion(); v++ {
			req.SetVersion(v)
			if req.IsFlexible() {
				since[key] = v
				break
			}
		}
	}
	return since
}()

var errTags = &FrameError{"tagged fields of the header are cut off"}

// skipTags steps over the tagged fields of a header (KIP-482).
func skipTags(b []byte) ([]byte, error) {
	count, b, err := uvarint(b)
	if err != nil {
		return nil, err
	}
	for range count {
		if _, b, err = uvarint(b); err != nil {
			return nil, err
		}
		var size uint64
		if size, b, err = uvarint(b); err != nil {
			return nil, err
		}
		if size > uint64(len(b)) {
			return nil, errTags
		}
		b = b[size:]
	}
	return b, nil
}

func uvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v > math.MaxInt32 {
		return 0, nil, errTags
	}
	return v, b[n:], nil
}

// decode parses the body of a request. A parser that runs past its input is an
// error of the input.
func decode(key, version int16, body []byte) (req kmsg.Request, err error) {
	req = kmsg.RequestForKey(key)
	if req == nil || version < 0 || version > req.MaxVersion() {
		return nil, &FrameError{fmt.Sprintf("request of key %d, version %d is not known", key, version)}
	}
	req.SetVersion(version)
	if err := req.ReadFrom(body); err != nil {
		return nil, errors.Join(&FrameError{fmt.Sprintf("%s v%d", kmsg.NameForKey(key), version)}, err)
	}
	return req, nil
}

package kafka

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzHeader parses frames: what is left for the body is the end of the frame,
// whatever the input.
func FuzzHeader(f *testing.F) {
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID("client"))
	for key := range int16(kmsg.MaxKey + 1) {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		for v := int16(0); v <= req.MaxVersion(); v++ {
			req.SetVersion(v)
			f.Add(format.AppendRequest(nil, req, 7)[4:])
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, body, err := parseHeader(frame)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(frame, body) || len(body)+len(h.clientID)+smallestFrame > len(frame) {
			t.Fatalf("header %+v leaves %d bytes of %d", h, len(body), len(frame))
		}
	})
}

// TestHeaderOfEveryRequest takes apart what kmsg puts together.
func TestHeaderOfEveryRequest(t *testing.T) {
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID("client"))
	for key := range int16(kmsg.MaxKey + 1) {
		req := kmsg.RequestForKey(key)
		if req == nil || key == int16(kmsg.ControlledShutdown) { // its v0 has a header of its own
			continue
		}
		for v := int16(0); v <= req.MaxVersion(); v++ {
			req.SetVersion(v)
			frame := format.AppendRequest(nil, req, 7)[4:]
			h, body, err := parseHeader(frame)
			if err != nil {
				t.Fatal(err)
			}
			if h.key != key || h.version != v || h.correlationID != 7 || !bytes.Equal(body, req.AppendTo(nil)) {
				t.Fatalf("%s v%d: %+v, body of %d bytes", kmsg.NameForKey(key), v, h, len(body))
			}
			if string(h.clientID) != "client" {
				t.Fatalf("%s v%d: client id %q", kmsg.NameForKey(key), v, h.clientID)
			}
		}
	}
}

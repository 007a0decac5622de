//go:build suites

package apache

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// malformed sends bytes that are no request. What is compared is whether there is
// an answer, and which; and that a closed connection is the only loss.
func malformed(r *run) {
	frame := func(key, version int16, body ...byte) []byte {
		head := binary.BigEndian.AppendUint16(nil, uint16(key))
		head = binary.BigEndian.AppendUint16(head, uint16(version))
		head = binary.BigEndian.AppendUint32(head, 7)              // correlation id
		head = append(binary.BigEndian.AppendUint16(head, 1), 'x') // client id
		return append(head, body...)
	}
	send := func(label string, key int16, payload []byte) {
		c := r.conn(1)
		s := step{label: label, key: key}
		err := c.write(append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...))
		var answer []byte
		if err == nil {
			answer, err = c.frame()
		}
		if err != nil {
			s.fields = []field{{"answer", "closed"}}
			if err.Error() == "no answer" {
				s.fields = []field{{"answer", "no answer"}}
			}
		} else {
			s.fields = []field{{"answer", hex.EncodeToString(answer[:min(len(answer), 2)])}}
		}
		c.close()
		r.steps = append(r.steps, s)
	}
	send("versions of a version there is not", 18, frame(18, 99, 0))
	send("versions of a negative version", 18, frame(18, -1, 0))
	send("a key there is not", 0, frame(999, 0))
	send("a negative key", 0, frame(-1, 0))
	send("metadata of a version there is not", 3, frame(3, 99))
	send("fetch of a version there was", 1, frame(1, 3))
	send("join of a version there is not", 11, frame(11, 99))
	send("metadata cut off", 3, frame(3, 1, 0, 0))
	send("metadata of a negative count", 3, frame(3, 1, 0xff, 0xff, 0xff, 0xf0))
	send("metadata of a huge count", 3, frame(3, 1, 0x7f, 0xff, 0xff, 0xff))
	send("metadata with bytes left", 3, frame(3, 1, 0, 0, 0, 0, 9, 9, 9))
	send("metadata of null where no null is", 3, frame(3, 0, 0xff, 0xff, 0xff, 0xff))
	send("a topic of a null name", 3, frame(3, 1, 0, 0, 0, 1, 0xff, 0xff))
	send("heartbeat of a null group", 12, frame(12, 0, 0xff, 0xff, 0, 0, 0, 1, 0, 1, 'm'))
	send("heartbeat of no UTF-8", 12, frame(12, 0, 0, 2, 0xff, 0xfe, 0, 0, 0, 1, 0, 1, 'm'))
	send("flexible with tags it does not know", 12, frame(12, 4, 0, 2, 'g', 0, 0, 0, 1, 2, 'm', 0, 1, 99, 1, 0))
	send("flexible with tags cut off", 12, frame(12, 4, 0, 2, 'g', 0, 0, 0, 1, 2, 'm', 0, 5))
	send("a varint without an end", 12, frame(12, 4, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
	send("a header cut off", 0, []byte{0, 18, 0})
	send("nothing", 0, nil)
	send("versions", 18, frame(18, 0))
	m := kmsg.NewPtrMetadataRequest()
	m.Topics = []kmsg.MetadataRequestTopic{}
	r.ask("served as before", m)
}

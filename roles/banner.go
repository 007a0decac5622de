package roles

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// banner is what serve says once it can be used.
type banner struct {
	Kafka   string `json:"kafka"`          // host:port, TCP
	TLS     bool   `json:"tls"`            // whether the TCP port speaks TLS
	QUIC    string `json:"quic,omitempty"` // host:port, UDP
	HTTP    string `json:"http,omitempty"`
	DataDir string `json:"data_dir"`
	CA      string `json:"ca,omitempty"` // file that clients of TLS and QUIC trust
	Acks    string `json:"acks"`         // what an ack means, in plain words
	Roles   string `json:"roles"`
	Node    int32  `json:"node"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Startup string `json:"startup"` // time from start to ready
}

// print writes at most ten lines for a person, or one JSON line for a program.
func (b banner) print(w io.Writer, terminal bool) error {
	if !terminal {
		return json.NewEncoder(w).Encode(b)
	}
	proto := "plain"
	if b.TLS {
		proto = "TLS"
	}
	var s strings.Builder
	fmt.Fprintf(&s, "rustmq %s is ready in %s (node %d: %s)\n", b.Version, b.Startup, b.Node, b.Roles)
	if b.Kafka != "" {
		fmt.Fprintf(&s, "  kafka   %s (TCP, %s)", b.Kafka, proto)
		if b.QUIC != "" {
			fmt.Fprintf(&s, " and %s (QUIC)", b.QUIC)
		}
		s.WriteByte('\n')
	}
	if b.HTTP != "" {
		fmt.Fprintf(&s, "  http    http://%s (metrics, health, API)\n", b.HTTP)
	}
	fmt.Fprintf(&s, "  data    %s\n", b.DataDir)
	if b.CA != "" {
		fmt.Fprintf(&s, "  trust   %s\n", b.CA)
	}
	fmt.Fprintf(&s, "  acks    %s\n", b.Acks)
	if b.Kafka != "" {
		fmt.Fprintf(&s, "\nNext: echo hello | rustmq produce t%s\n", brokerFlag(b.Kafka))
	}
	_, err := io.WriteString(w, s.String())
	return err
}

// brokerFlag is the flag a client command needs to reach addr: none where the
// default does.
func brokerFlag(addr string) string {
	if addr == "127.0.0.1:9092" || addr == "localhost:9092" {
		return ""
	}
	return " -b " + addr
}

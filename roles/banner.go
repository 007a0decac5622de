package roles

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/client"
)

// banner is what serve says once it can be used.
type banner struct {
	Kafka   string `json:"kafka"`          // host:port, TCP
	TLS     bool   `json:"tls"`            // whether the TCP port speaks TLS
	QUIC    string `json:"quic,omitempty"` // host:port, UDP
	HTTP    string `json:"http,omitempty"`
	HTTPTLS bool   `json:"http_tls,omitempty"` // whether that port speaks TLS
	DataDir string `json:"data_dir"`
	CA      string `json:"ca,omitempty"`   // file that clients of TLS and QUIC trust
	Acks    string `json:"acks,omitempty"` // what an ack means, in plain words; "" where nobody acks
	Roles   string `json:"roles"`
	Node    int32  `json:"node"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Startup string `json:"startup"` // time from start to ready

	program    string // how the person called us: only that is sure to work again
	api        bool   // HTTP has /api/v1
	autoCreate bool   // topics are made on first use
	asks       bool   // clients say who they are
	trusted    bool   // CA is the file that clients in this directory take by themselves
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
		has := "metrics, health"
		if b.api {
			has = "console, API, " + has
		}
		fmt.Fprintf(&s, "  http    %s (%s)\n", b.url(), has)
	}
	fmt.Fprintf(&s, "  data    %s\n", b.DataDir)
	if b.CA != "" {
		fmt.Fprintf(&s, "  trust   %s\n", b.CA)
	}
	if b.Acks != "" {
		fmt.Fprintf(&s, "  acks    %s\n", b.Acks)
	}
	fmt.Fprintf(&s, "\nNext: %s\n", b.next())
	_, err := io.WriteString(w, s.String())
	return err
}

// next is the command to paste: it works as it stands, in the directory where
// this one was given.
func (b banner) next() string {
	program := shellWord(b.program)
	switch {
	case b.Kafka == "" && !b.api:
		return "curl " + b.url() + "/metrics"
	case b.Kafka == "":
		return program + " admin topics list" + urlFlag(b.url())
	case b.asks && b.api:
		return program + " admin users create NAME" + urlFlag(b.url())
	case !b.autoCreate && b.api:
		return program + " admin topics create t" + urlFlag(b.url())
	}
	command := "echo hello | " + program + " produce t" + brokerFlag(b.Kafka)
	if b.TLS {
		command += " --tls"
		if b.CA != "" && !b.trusted {
			command += " --cafile " + shellWord(b.CA)
		}
	}
	return command
}

// url is where the HTTP side is.
func (b banner) url() string {
	if b.HTTPTLS {
		return "https://" + b.HTTP
	}
	return "http://" + b.HTTP
}

// programName is how to call a program again that was called as name: by its
// path where that was given, for then PATH may not have it.
func programName(name string) string {
	if strings.ContainsRune(name, filepath.Separator) {
		return name
	}
	return "rustmq"
}

// brokerFlag is the flag a client command needs to reach addr: none where the
// default does.
func brokerFlag(addr string) string {
	if addr == "127.0.0.1:9092" || addr == "localhost:9092" {
		return ""
	}
	return " -b " + addr
}

// urlFlag is the same for an admin command.
func urlFlag(url string) string {
	if url == admin.DefaultURL {
		return ""
	}
	return " --url " + url
}

// shellWord quotes s for a shell where it is not one plain word.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:,@%", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// banner is what serve says of the node.
func (n *Node) banner(started time.Duration) banner {
	acks := "every ack means: synced to this disk (wal.sync = always)"
	switch before := n.ackBeforeSync(); {
	case n.broker == nil:
		acks = ""
	case before > 0:
		acks = fmt.Sprintf("acks come BEFORE the disk; a power cut can lose the last %v (wal.sync = interval)", before)
	}
	b := banner{
		Kafka: n.kafkaAddr, TLS: n.config.Network.TLS == "on", HTTP: n.httpAddr, HTTPTLS: n.config.HTTPTLS(), DataDir: n.DataDir(), CA: n.caFile, Acks: acks,
		Roles: strings.Join(n.config.RoleList(), ", "), Node: n.config.Broker.ID, PID: os.Getpid(), Version: Version(),
		Startup: started.Round(time.Millisecond).String(),
		program: programName(os.Args[0]), api: n.servesAPI(), autoCreate: autoCreate(n.config), asks: n.logins != nil, trusted: client.TrustsByDefault(n.caFile),
	}
	if len(n.quic) > 0 {
		b.QUIC = n.quic[0].Addr().String()
	}
	return b
}

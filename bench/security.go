package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Changes of a rule in the first part of K7, and the handshakes of a load in its last.
const (
	ruleChanges     = 200
	handshakesALoad = 2000
)

// Names in certificates of [authority].
const (
	superUser   = "root"
	secureTopic = "secure"
)

// authority is a directory of certificates, of nodes 1 to 3 and of two clients.
type authority struct{ dir string }

// newAuthority has rustmq make one.
func newAuthority() (a authority, err error) {
	if a.dir, err = os.MkdirTemp("", "rustmq-bench-ca-"); err != nil {
		return a, err
	}
	ca, out := "--ca-dir="+filepath.Join(a.dir, "ca"), "--out="+a.dir
	commands := [][]string{
		{"ca", "init", ca, "--no-passphrase"},
		{"certs", "issue", loadUser, ca, out, "--profile=client"},
		{"certs", "issue", superUser, ca, out, "--profile=client"},
	}
	for i := range clusterSize {
		commands = append(commands, []string{
			"certs", "issue", fmt.Sprintf("node-%d", i+1), ca, out, "--profile=broker,controller", "--cluster=bench",
			fmt.Sprintf("--node=%d", i+1), "--host=127.0.0.1", "--host=" + clusterHost(i),
		})
	}
	for _, c := range commands {
		if said, err := exec.Command(rustmqBinary(), append([]string{"admin"}, c...)...).CombinedOutput(); err != nil {
			a.remove()
			return a, fmt.Errorf("rustmq admin %s: %w: %s", strings.Join(c, " "), err, said)
		}
	}
	return a, nil
}

func (a authority) remove() { _ = os.RemoveAll(a.dir) }

func (a authority) file(name string) string { return filepath.Join(a.dir, name) }

// tls has a node show a certificate, and mutual has it ask for those of clients too.
func (a authority) tls() []string {
	return []string{"network.tls=on", "security.tls.cert_file=" + a.file("node-1.pem"), "security.tls.key_file=" + a.file("node-1.key")}
}

func (a authority) mutual(more ...string) []string {
	return slices.Concat(a.tls(), []string{
		"security.tls.client_auth=require", "security.tls.client_ca_file=" + a.file("bundle.pem"), "security.tls.crl_file=" + a.file("crl.pem"),
		"security.authorization.super_users=CN=" + superUser,
	}, more)
}

// unruled has everybody do everything, and nothing of it be recorded.
func unruled() []string {
	return []string{"security.authorization.mode=off", "security.audit.record=none"}
}

// recorded has everything be recorded that can be.
const recorded = "security.audit.record=denied,login,admin,data"

// security is K7.
func (r *run) security() error {
	a, err := newAuthority()
	if err != nil {
		return err
	}
	defer a.remove()
	for _, part := range []func(*run, authority) error{(*run).ruled, (*run).encrypted, (*run).authorised, (*run).handshakes} {
		if err := part(r, a); err != nil {
			return err
		}
	}
	return nil
}

// ruled is how long a rule that is made or deleted at one of three brokers takes until all
// connections to all of them are judged by it.
func (r *run) ruled(a authority) error {
	p, err := startSecureCluster(a.dir, "security.authorization.super_users=CN="+superUser)
	if err != nil {
		return err
	}
	defer p.stop()
	var p50s, p99s, most []float64
	for range r.pairs {
		x, err := p.load("ruled", args("certs", a.dir, "records", ruleChanges)...)
		if err != nil {
			return err
		}
		p50s, p99s, most = append(p50s, x.P50/1000), append(p99s, x.P99/1000), append(most, x.Max/1000)
	}
	what := fmt.Sprintf("a rule, from the request that makes or deletes it at one of three brokers to the last of %d connections that is judged by it", clusterSize*watchersABroker)
	detail := fmt.Sprintf("%d changes each time, a request every %v on each connection", ruleChanges, watchPause)
	r.add(summarise(row{Figure: "K7", Name: what + ": p50", Unit: "ms", Less: true, Detail: detail}, p50s))
	r.add(summarise(row{Figure: "K7", Name: what + ": p99", Unit: "ms", Must: 1000, Aim: 100, Less: true, Detail: detail}, p99s))
	r.add(summarise(row{Figure: "K7", Name: what + ": the longest", Unit: "ms", Less: true, Detail: detail}, most))
	return nil
}

// encrypted is what TLS costs a client that produces and one that consumes.
func (r *run) encrypted(a authority) error {
	plain, err := startRustmq("rustmq in the clear")
	if err != nil {
		return err
	}
	defer plain.stop()
	secure, err := startRustmq("rustmq with TLS", a.tls()...)
	if err != nil {
		return err
	}
	defer secure.stop()
	mutual, err := startRustmq("rustmq with mTLS", a.mutual(unruled()...)...)
	if err != nil {
		return err
	}
	defer mutual.stop()
	const records = 400_000
	with := map[*process][]string{plain: nil, secure: args("transport", "tls", "certs", a.dir), mutual: args("transport", "tls", "certs", a.dir)}
	for _, p := range []*process{plain, secure, mutual} {
		shape := append(args("records", records, "topic", secureTopic), "-keep")
		if _, err := p.load("produce", append(shape, with[p]...)...); err != nil {
			return err
		}
	}
	for _, kind := range []string{"produce", "consume"} {
		for _, side := range []struct {
			what string
			p    *process
		}{{"TLS 1.3", secure}, {"TLS 1.3 with certificates of clients", mutual}} {
			shape := args("records", records)
			if kind == "consume" {
				shape = args("records", records, "topic", secureTopic)
			}
			err := r.pair(row{Figure: "K7", Name: kind + " 1 KiB, 1 connection, over " + side.what + ", against the clear", Unit: "×", Bound: secureBound},
				on(side.p, kind, slices.Concat(shape, with[side.p])...), on(plain, kind, slices.Concat(shape, with[plain])...), rateRatio,
				func(x, y loadResult) string {
					return fmt.Sprintf("%.0f MB/s at %.1f ms of both ends' processors a MB; in the clear %.0f at %.1f", x.megabytes(), x.cpuPerMegabyte(), y.megabytes(), y.cpuPerMegabyte())
				})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// secureBound is what stands between TLS and the clear.
const secureBound = "AES-GCM of each byte at both ends, which share two cores, and 16 KiB at a time instead of writes of 1 MiB."

// authorised is what rules, and the log of who did what, cost who produces.
func (r *run) authorised(a authority) error {
	ruled, err := startRustmq("rustmq with rules", a.mutual(recorded)...)
	if err != nil {
		return err
	}
	defer ruled.stop()
	free, err := startRustmq("rustmq without rules", a.mutual(unruled()...)...)
	if err != nil {
		return err
	}
	defer free.stop()
	if _, err := ruled.load("rules", args("certs", a.dir, "records", 10_000)...); err != nil {
		return err
	}
	for _, p := range []*process{ruled, free} {
		if err := p.pinLog(a); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		name, kind string
		shape      []string
	}{
		{"produce 1 KiB to 1 partition, 1 connection", "produce", args("records", 400_000)},
		{"produce 1 KiB to 100 partitions, 8 connections", "produce", args("records", 400_000, "connections", 8, "partitions", 100)},
		{"produce 1 KiB, one record at a time", "lone", args("records", 2_000)},
	} {
		shape := append(c.shape, args("transport", "tls", "certs", a.dir)...)
		if err := r.pair(row{Figure: "K7", Name: c.name + ", with 10,000 rules and audit, against without", Unit: "×", Must: 0.95},
			on(ruled, c.kind, shape...), on(free, c.kind, shape...), rateRatio, rates("with", "without")); err != nil {
			return err
		}
	}
	return nil
}

// pinLog makes a small topic that stays. The topics of loads are deleted: a server on which
// nothing else lies in front of them recycles its log at once, into files that were written
// before, and one with an audit log takes new ones, of which those that are made while it is
// busy get no zeros and cost each lone sync a write more. That is no cost of security.
func (p *process) pinLog(a authority) error {
	_, err := p.load("produce", append(args("records", 100, "topic", "bench-stays", "transport", "tls", "certs", a.dir), "-keep")...)
	return err
}

// handshakes is how many connections a second are made, against a bare server of crypto/tls.
func (r *run) handshakes(a authority) error {
	secure, err := startRustmq("rustmq with TLS", a.tls()...)
	if err != nil {
		return err
	}
	defer secure.stop()
	mutual, err := startRustmq("rustmq with mTLS", a.mutual(unruled()...)...)
	if err != nil {
		return err
	}
	defer mutual.stop()
	for _, side := range []struct {
		what string
		p    *process
		asks []string
	}{{"TLS 1.3", secure, nil}, {"TLS 1.3 with certificates of clients", mutual, []string{"-mutual"}}} {
		bare, err := startPeer("tls", append([]string{"tls", "-certs", a.dir}, side.asks...)...)
		if err != nil {
			return err
		}
		for _, how := range []string{"full", "resumed"} {
			shape := args("certs", a.dir, "records", handshakesALoad, "transport", "tls")
			err := r.pair(row{Figure: "K7", Name: how + " handshakes with a first answer, " + side.what + ", against a bare server of crypto/tls", Unit: "×", Aim: 0.9},
				on(side.p, how, shape...), on(bare, how, shape...), rateRatio, func(x, y loadResult) string {
					return fmt.Sprintf("rustmq %.0f/s, bare %.0f/s, of 4 at once; %.0f µs and %.0f µs of the server's processor each", x.rate(), y.rate(), x.serverMicros(), y.serverMicros())
				})
			if err != nil {
				bare.stop()
				return err
			}
		}
		bare.stop()
	}
	return nil
}

func (r loadResult) megabytes() float64 { return float64(r.Bytes) / r.Seconds / 1e6 }
func (r loadResult) cpuPerMegabyte() float64 {
	return (r.ServerCPU + r.ClientCPU) * 1000 / (float64(r.Bytes) / 1e6)
}
func (r loadResult) serverMicros() float64 { return r.ServerCPU * 1e6 / float64(r.Records) }

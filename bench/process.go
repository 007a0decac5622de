package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server this run started.
type process struct {
	name string
	cmd  *exec.Cmd
	dir  string // removed when the process is stopped
	addr string // what clients dial
	http string // rustmq only
	ca   string // rustmq only: the file clients trust
	pid  int    // 0: that of cmd
	// others are the other nodes of its cluster: their processor time counts with its own.
	others []*process
	// started is the time from exec to the first line (peers) or to readyz (rustmq).
	started time.Duration
}

// startPeer starts this very executable as a peer server.
func startPeer(name string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rustmq-bench-")
	if err != nil {
		return nil, err
	}
	p := &process{name: name, dir: dir}
	p.cmd = exec.Command(self, append([]string{"peer"}, append(args, "-dir", dir)...)...)
	var line listening
	if err := p.start(&line); err != nil {
		return nil, err
	}
	p.addr = line.Addr
	return p, nil
}

// rustmqLine is the part of serve's start line that bench needs.
type rustmqLine struct {
	Kafka string `json:"kafka"`
	HTTP  string `json:"http"`
	CA    string `json:"ca"`
}

// startRustmq starts bin/rustmq on free ports with a data directory of its own.
func startRustmq(name string, set ...string) (*process, error) {
	return startRustmqIn(nil, name, set...)
}

// startRustmqIn is startRustmq with more in the environment.
func startRustmqIn(env []string, name string, set ...string) (*process, error) {
	dir, err := os.MkdirTemp("", "rustmq-bench-")
	if err != nil {
		return nil, err
	}
	p := &process{name: name, dir: dir}
	p.cmd = exec.Command(rustmqBinary(), p.serve(set)...)
	p.cmd.Env = append(os.Environ(), env...)
	return p, p.startRustmq()
}

// rustmqBinary is the program that is measured.
func rustmqBinary() string {
	if binary := os.Getenv("RUSTMQ_BIN"); binary != "" {
		return binary
	}
	return "../bin/rustmq"
}

func (p *process) serve(set []string) []string {
	args := []string{"serve", "--ports", "free", "--data-dir", filepath.Join(p.dir, "data")}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	return args
}

func (p *process) startRustmq() error {
	var line rustmqLine
	if err := p.start(&line); err != nil {
		return err
	}
	p.addr, p.http, p.ca = line.Kafka, line.HTTP, line.CA
	return nil
}

// restart ends rustmq and starts it again on the same data.
func (p *process) restart() error { return p.again(p.cmd.Args[1:]) }

// restartWith is restart with other settings.
func (p *process) restartWith(set ...string) error { return p.again(p.serve(set)) }

func (p *process) again(args []string) error {
	p.end()
	env := p.cmd.Env
	p.cmd = exec.Command(p.cmd.Path, args...)
	p.cmd.Env = env
	return p.startRustmq()
}

func (p *process) start(line any) error {
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var stderr bytes.Buffer
	p.cmd.Stderr = &stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	first, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		p.stop()
		return fmt.Errorf("start %s: no start line: %w\n%s", p.name, err, stderr.String())
	}
	if err := json.Unmarshal(first, line); err != nil {
		p.stop()
		return fmt.Errorf("start %s: start line %q: %w", p.name, first, err)
	}
	if r, ok := line.(*rustmqLine); ok {
		if err := awaitReady(r.HTTP); err != nil {
			p.stop()
			return fmt.Errorf("start %s: %w", p.name, err)
		}
	}
	p.started = time.Since(began)
	return nil
}

// awaitReady polls readyz until it answers 200, for 10 s at most.
func awaitReady(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", addr, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the process and removes its directory.
func (p *process) stop() {
	p.end()
	_ = os.RemoveAll(p.dir)
}

// end ends the process, first kindly, after the others of its cluster.
func (p *process) end() {
	for _, o := range p.others {
		o.stop()
	}
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
}

func (p *process) id() int {
	if p.pid != 0 {
		return p.pid
	}
	return p.cmd.Process.Pid
}

// cpu is the processor time the process, and the others of its cluster, have used so far.
func (p *process) cpu() (time.Duration, error) {
	var others time.Duration
	for _, o := range p.others {
		used, err := o.cpu()
		if err != nil {
			return 0, err
		}
		others += used
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.id()))
	if err != nil {
		return 0, err
	}
	// The command name may hold spaces; fields are counted after its ')'.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		return 0, err
	}
	return others + time.Duration(user+system)*(time.Second/100), nil // USER_HZ is 100
}

// rss is the resident memory of the process in bytes.
func (p *process) rss() (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.id()))
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no VmRSS in the status of pid %d", p.id())
}

// metric reads one sample of /metrics, named with its labels.
func (p *process) metric(sample string) (float64, error) {
	m, err := p.metrics(sample)
	if err != nil {
		return 0, err
	}
	return m[0], nil
}

// metrics reads several samples at one time.
func (p *process) metrics(samples ...string) ([]float64, error) {
	resp, err := http.Get("http://" + p.http + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	values, found := make([]float64, len(samples)), 0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		for i, sample := range samples {
			if value, ok := strings.CutPrefix(lines.Text(), sample+" "); ok {
				if values[i], err = strconv.ParseFloat(value, 64); err != nil {
					return nil, fmt.Errorf("metric %s of %s: %w", sample, p.name, err)
				}
				found++
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", p.name, err)
	}
	if found < len(samples) {
		return nil, fmt.Errorf("%d of %q in the metrics of %s", found, samples, p.name)
	}
	return values, nil
}

// load runs this executable as a client against p and reads its result.
func (p *process) load(kind string, args ...string) (loadResult, error) {
	self, err := os.Executable()
	if err != nil {
		return loadResult{}, err
	}
	args = append([]string{"load", kind, "-broker", p.addr, "-ca", p.ca}, args...)
	return p.client(kind, exec.Command(self, args...))
}

// client runs a program that is a client of p and reads its result.
func (p *process) client(kind string, cmd *exec.Cmd) (loadResult, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := awaitQuiet(); err != nil {
		return loadResult{}, err
	}
	before, err := p.cpu()
	if err != nil {
		return loadResult{}, fmt.Errorf("%s has gone: %w", p.name, err)
	}
	if err := cmd.Run(); err != nil {
		return loadResult{}, fmt.Errorf("load %s on %s: %w: %s", kind, p.name, err, stderr.String())
	}
	var result loadResult
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		return loadResult{}, fmt.Errorf("load %s on %s: answer %q: %w", kind, p.name, stdout.String(), err)
	}
	after, err := p.cpu()
	if err != nil {
		return loadResult{}, fmt.Errorf("%s died under load: %w", p.name, err)
	}
	result.ServerCPU = (after - before).Seconds()
	result.ClientCPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	return result, nil
}

// awaitQuiet waits, for 10 s at most, until nothing runs on this machine: what a
// server still does for the load before, such as collecting the garbage of
// gigabytes, is not to be paid by the other side of the pair.
func awaitQuiet() error {
	const window = 200 * time.Millisecond
	before, err := busy()
	for range 50 {
		if err != nil {
			return err
		}
		time.Sleep(window)
		var now time.Duration
		now, err = busy()
		if now-before <= window/10 {
			return err
		}
		before = now
	}
	return nil
}

// busy is the processor time that all processes and the kernel have used.
func busy() (time.Duration, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	var ticks int64
	for i, field := range strings.Fields(line)[1:] {
		const idle, iowait, steal = 3, 4, 7
		if i == idle || i == iowait || i >= steal {
			continue // guest time is counted as user time already
		}
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil
}

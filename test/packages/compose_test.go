//go:build packages

package packages

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// project is a compose file as it comes to be. What stands in it and is not known here is an
// error: it would not be tested.
type project struct {
	Name     string                     `json:"name"`
	Services map[string]*service        `json:"services"`
	Networks map[string]json.RawMessage `json:"networks"`
	Volumes  map[string]json.RawMessage `json:"volumes"`
	XNode    json.RawMessage            `json:"x-node"`
	XEnv     json.RawMessage            `json:"x-environment"`
}

type service struct {
	Image string `json:"image"`
	Build *struct {
		Context    string            `json:"context"`
		Dockerfile string            `json:"dockerfile"`
		Args       map[string]string `json:"args"`
	} `json:"build"`
	Command     []string                   `json:"command"`
	Entrypoint  []string                   `json:"entrypoint"`
	Environment map[string]string          `json:"environment"`
	Hostname    string                     `json:"hostname"`
	Restart     string                     `json:"restart"` // nobody restarts here
	Networks    map[string]json.RawMessage `json:"networks"`
	ReadOnly    bool                       `json:"read_only"`
	CapDrop     []string                   `json:"cap_drop"`
	SecurityOpt []string                   `json:"security_opt"`
	StopGrace   string                     `json:"stop_grace_period"`
	Tmpfs       []string                   `json:"tmpfs"`
	DependsOn   map[string]json.RawMessage `json:"depends_on"`
	Volumes     []struct {
		Type     string          `json:"type"`
		Source   string          `json:"source"`
		Target   string          `json:"target"`
		ReadOnly bool            `json:"read_only"`
		Volume   json.RawMessage `json:"volume"`
		Bind     json.RawMessage `json:"bind"`
	} `json:"volumes"`
	Ports []struct {
		Mode      string `json:"mode"`
		HostIP    string `json:"host_ip"`
		Target    int    `json:"target"`
		Published string `json:"published"`
		Protocol  string `json:"protocol"`
	} `json:"ports"`
	Health *struct {
		Test     []string `json:"test"`
		Timeout  string   `json:"timeout"`
		Interval string   `json:"interval"`
		Start    string   `json:"start_period"`
	} `json:"healthcheck"`
}

// loadProject has the library of Docker Compose read the file.
func loadProject(t *testing.T, r *rig) *project {
	t.Helper()
	text := out(t, r.command(nil, filepath.Join(r.repo, "build/tools/composefile"), "deploy/docker/compose.yaml"))
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	var p project
	must(t, decoder.Decode(&p))
	return &p
}

// stack is a project that runs.
type stack struct {
	*project
	rig        *rig
	network    *network
	images     map[string]*image
	containers map[string]*container
	volumes    map[string]string
}

// runCompose starts the project, and uses it as somebody on its host would.
func runCompose(t *testing.T, r *rig, built *image) {
	s := &stack{project: loadProject(t, r), rig: r, network: newNetwork(t, r), containers: map[string]*container{}, volumes: map[string]string{}}
	s.images = map[string]*image{"rustmq": built, "versity/versitygw": s.foreign(t, "versitygw", "build/buckets/versitygw"), "prom/prometheus": s.foreign(t, "prometheus", "build/monitoring/prometheus")}
	s.checkGrafana(t)
	s.network.hosts = filepath.Join(r.work, "hosts")
	must(t, os.WriteFile(s.network.hosts, []byte("127.0.0.1 localhost\n"), 0o644))
	names := slices.Sorted(maps.Keys(s.Services))
	hosts := "127.0.0.1 localhost\n"
	for _, name := range names {
		if c := s.create(t, name); c != nil {
			hosts += c.addr + " " + name + "\n"
		}
	}
	must(t, os.WriteFile(s.network.hosts, []byte(hosts), 0o644))
	s.containers["s3"].start(t)
	nodes := []*container{s.containers["rustmq-1"], s.containers["rustmq-2"], s.containers["rustmq-3"]}
	for _, c := range append(nodes, s.containers["prometheus"]) {
		c.start(t)
	}
	for _, c := range nodes {
		s.healthy(t, c)
		c.confined(t)
	}
	if t.Failed() {
		for _, c := range s.containers {
			t.Log(c.log())
		}
		t.FailNow()
	}

	rustmq := func(stdin string, args ...string) string {
		t.Helper()
		cmd := r.command([]string{"HOME=" + r.work}, filepath.Join(built.root, "usr/bin/rustmq"), args...)
		cmd.Stdin = strings.NewReader(stdin)
		return out(t, cmd)
	}
	const api = "http://127.0.0.1:9642"
	checkConsole(t, api)
	rustmq("", "admin", "--url", api, "topics", "create", "orders", "--partitions", "6")
	rustmq("", "admin", "--url", api, "storage", "probe")
	var records strings.Builder
	const each = 300
	for n := range each {
		fmt.Fprintf(&records, "record %d\n", n)
	}
	rustmq(records.String(), "produce", "orders", "-b", "localhost:9092")
	rustmq(records.String(), "produce", "orders", "-b", "localhost:9292")
	consumed := func(from string) int {
		return strings.Count(rustmq("", "consume", "orders", "-b", from, "-o", "start", "-n", fmt.Sprint(2*each), "-f", "%v\n"), "record ")
	}
	if got := consumed("localhost:9192"); got != 2*each {
		t.Errorf("%d records of %d", got, 2*each)
	}
	if objects, err := os.ReadDir(s.volumes["bucket"]); err != nil || len(objects) == 0 {
		t.Errorf("the bucket has %v, %v", objects, err)
	}

	// One is stopped, as for an upgrade: the others serve all, and it comes back.
	grace, err := time.ParseDuration(s.Services["rustmq-3"].StopGrace)
	must(t, err)
	nodes[2].stop(t, grace)
	if got := consumed("localhost:9092"); got != 2*each {
		t.Errorf("while one is stopped: %d records of %d", got, 2*each)
	}
	nodes[2].start(t)
	s.healthy(t, nodes[2])
	if got := consumed("localhost:9292"); got != 2*each {
		t.Errorf("by the one that was stopped: %d records of %d", got, 2*each)
	}
	s.checkPrometheus(t)
	for _, c := range nodes {
		must(t, syscall.Kill(c.pid, syscall.SIGKILL)) // nothing is asked of their end
	}
}

// checkConsole holds that the console is in the executable, with all that its page loads, and
// not the page that stands in its place.
func checkConsole(t *testing.T, api string) {
	t.Helper()
	get := func(path string) string {
		t.Helper()
		response, err := http.Get(api + path)
		must(t, err)
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		must(t, err)
		if response.StatusCode != http.StatusOK || len(raw) == 0 {
			t.Errorf("the console's %s: %s, %d bytes", path, response.Status, len(raw))
		}
		return string(raw)
	}
	page := get("/")
	loaded := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(loaded) < 2 {
		t.Errorf("the console is not in the image:\n%s", page)
	}
	for _, of := range loaded {
		get(of[1])
	}
}

// foreign is the image of somebody else, of which the program is here.
func (s *stack) foreign(t *testing.T, name, binary string) *image {
	t.Helper()
	root := s.rig.overlay(t, "image-"+name, s.rig.layer("debian"))
	raw, err := os.ReadFile(filepath.Join(s.rig.repo, binary))
	if err != nil {
		t.Fatalf("%v: scripts/deps.sh brings it", err)
	}
	must(t, os.WriteFile(filepath.Join(root, "usr/bin", name), raw, 0o755))
	return &image{root: root, dir: "/", user: "0:0", entrypoint: []string{"/usr/bin/" + name}, env: []string{"PATH=/usr/bin"}}
}

// create makes the container of a service; nil where its image is not here.
func (s *stack) create(t *testing.T, name string) *container {
	t.Helper()
	of := s.Services[name]
	imageName, _, _ := strings.Cut(of.Image, ":")
	i := s.images[imageName]
	if i == nil {
		if imageName != "grafana/grafana" {
			t.Fatalf("the image of service %s is not known here: %s", name, of.Image)
		}
		return nil
	}
	if imageName == "rustmq" {
		if of.Build == nil || of.Build.Dockerfile != "deploy/docker/Dockerfile" || of.Build.Context != s.rig.repo {
			t.Errorf("service %s is built of %+v", name, of.Build)
		}
		if !of.ReadOnly || !slices.Equal(of.CapDrop, []string{"ALL"}) || !slices.Equal(of.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("service %s may write or gain rights", name)
		}
	}
	var mounts []mounted
	for _, at := range of.Tmpfs {
		mounts = append(mounts, mounted{at: at})
	}
	for _, v := range of.Volumes {
		from := v.Source
		if v.Type == "volume" {
			from = s.volume(t, v.Source, filepath.Join(i.root, v.Target))
		}
		if _, err := os.Stat(from); err != nil {
			t.Errorf("service %s mounts what is not there: %v", name, err)
		}
		mounts = append(mounts, mounted{from: from, at: v.Target, readOnly: v.ReadOnly})
	}
	hostname := of.Hostname
	if hostname == "" {
		hostname = name
	}
	c := newContainer(t, s.network, i, name, hostname, of.ReadOnly, mounts)
	for key, value := range of.Environment {
		c.env = append(c.env, key+"="+value)
	}
	c.args = i.entrypoint
	if of.Entrypoint != nil {
		c.args = of.Entrypoint
	}
	command := i.command
	if of.Command != nil {
		command = of.Command
	}
	c.args = slices.Concat(c.args, command)
	for _, p := range of.Ports {
		publish(t, p.Protocol, p.HostIP+":"+p.Published, fmt.Sprint(c.addr, ":", p.Target))
	}
	s.containers[name] = c
	return c
}

// volume is a named one, which begins as what the image has there, and whose that is.
func (s *stack) volume(t *testing.T, name, at string) string {
	t.Helper()
	if _, declared := s.Volumes[name]; !declared {
		t.Errorf("volume %s is not declared", name)
	}
	dir := s.rig.dir(t, "volumes/"+name)
	if info, err := os.Stat(at); err == nil {
		of := info.Sys().(*syscall.Stat_t)
		must(t, os.Chown(dir, int(of.Uid), int(of.Gid)))
	}
	s.volumes[name] = dir
	return dir
}

// healthy waits for what the service's own check says.
func (s *stack) healthy(t *testing.T, c *container) {
	t.Helper()
	check := s.Services[c.name].Health.Test
	if check[0] != "CMD" {
		t.Fatalf("a health check of %v is not known here", check)
	}
	var said bytes.Buffer
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(40 * time.Second); ; <-tick.C {
		said.Reset()
		cmd := c.inside(check[1:]...)
		cmd.Stdout, cmd.Stderr = &said, &said
		err := cmd.Run()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not healthy: %v: %s\n%s", c.name, err, said.String(), c.log())
		}
	}
}

// checkPrometheus holds that it scrapes every node, and knows every alert.
func (s *stack) checkPrometheus(t *testing.T) {
	t.Helper()
	get := func(path string, into any) error {
		response, err := http.Get("http://127.0.0.1:9090" + path)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, into)
	}
	await(t, "Prometheus has figures of three nodes\n"+s.containers["prometheus"].log(), 30*time.Second, func() error {
		var up struct {
			Data struct {
				Result []struct {
					Metric map[string]string `json:"metric"`
				} `json:"result"`
			} `json:"data"`
		}
		if err := get("/api/v1/query?query="+url.QueryEscape(`rustmq_build_info{job="rustmq"}`), &up); err != nil {
			return err
		}
		if len(up.Data.Result) != 3 {
			return fmt.Errorf("it has %v", up.Data.Result)
		}
		return nil
	})
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []json.RawMessage `json:"rules"`
			} `json:"groups"`
		} `json:"data"`
	}
	must(t, get("/api/v1/rules", &rules))
	count := 0
	for _, g := range rules.Data.Groups {
		count += len(g.Rules)
	}
	if want := strings.Count(read(t, filepath.Join(s.rig.repo, "deploy/monitoring/alerts.yml")), "- alert:"); count != want || want == 0 {
		t.Errorf("Prometheus has %d alerts of %d", count, want)
	}
}

// checkGrafana holds that what it is given finds each other; it does not run here.
func (s *stack) checkGrafana(t *testing.T) {
	t.Helper()
	at := map[string]string{}
	for _, v := range s.Services["grafana"].Volumes {
		at[v.Target] = v.Source
	}
	provider := read(t, at["/etc/grafana/provisioning/dashboards/rustmq.yml"])
	dashboards := ""
	for line := range strings.Lines(provider) {
		if path, is := strings.CutPrefix(strings.TrimSpace(line), "path: "); is {
			dashboards = at[path]
		}
	}
	files, err := filepath.Glob(filepath.Join(dashboards, "*.json"))
	must(t, err)
	if len(files) == 0 {
		t.Errorf("Grafana is provisioned with no dashboards: %v", at)
	}
	for _, file := range files {
		var dashboard struct {
			UID string `json:"uid"`
		}
		if err := json.Unmarshal([]byte(read(t, file)), &dashboard); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	source := read(t, at["/etc/grafana/provisioning/datasources/rustmq.yml"])
	if _, is := s.Services["prometheus"]; !is || !strings.Contains(source, "url: http://prometheus:9090") || !strings.Contains(source, "type: prometheus") {
		t.Errorf("Grafana's source is\n%s", source)
	}
}

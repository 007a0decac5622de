package test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

var binary = flag.String("rustmq", "../../../bin/rustmq", "the binary that pods run")

// patience is how long anything of the cluster may take on a busy machine.
const patience = 90 * time.Second

// kubelet runs the pods of a release as processes of this machine: what is rendered, with
// each pod's address, and the directories of its volumes, in the place of those that it has there.
type kubelet struct {
	*testing.T
	dir  string
	net  string // the first three numbers of the pods' addresses
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	now  *rendered
	pods map[string]*process
}

type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
	log   buffer
}

// buffer takes what several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newKubelet(t *testing.T) *kubelet {
	t.Helper()
	if _, err := os.Stat(*binary); err != nil {
		t.Fatalf("%v: make build", err)
	}
	k := &kubelet{T: t, dir: t.TempDir(), net: fmt.Sprintf("127.%d.%d", 20+os.Getpid()%100, os.Getpid()/100%250), pods: map[string]*process{}}
	k.ca, k.key = k.authority()
	t.Cleanup(func() {
		for _, p := range k.pods {
			_ = p.cmd.Process.Kill() // it may have ended
			<-p.ended
		}
		if t.Failed() {
			for name, p := range k.pods {
				t.Logf("%s:\n%s", name, last(p.log.String(), 3000))
			}
		}
	})
	return k
}

func last(s string, n int) string { return s[max(0, len(s)-n):] }

func (k *kubelet) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *kubelet) address(id int32) string { return fmt.Sprintf("%s.%d", k.net, id) }

// here rewrites a text for a pod: its own addresses, those of all others, and its directories.
func (k *kubelet) here(id int32, text string) string {
	var pairs []string
	for pod, other := range k.all() {
		pairs = append(pairs, fmt.Sprintf("%s.%s-headless.%s.svc.cluster.local", pod, fullname, namespace), k.address(other),
			fmt.Sprintf("kafka-%d.example.com", other), k.address(other))
	}
	home := filepath.Join(k.dir, strconv.Itoa(int(id)))
	pairs = append(pairs, `"0.0.0.0"`, `"`+k.address(id)+`"`, "/etc/rustmq/certs", filepath.Join(k.dir, "certs"), "/etc/rustmq", home+"/etc",
		"/var/lib/rustmq", home+"/var", fullname+"-console."+namespace+".svc.cluster.local", k.address(1))
	return strings.NewReplacer(pairs...).Replace(text)
}

// all are the pods of the release, with their numbers.
func (k *kubelet) all() map[string]int32 {
	all := map[string]int32{}
	for _, s := range k.now.sets {
		maps.Copy(all, podsOf(s))
	}
	return all
}

// set is the StatefulSet of a pod.
func (k *kubelet) set(pod string) *appsv1.StatefulSet {
	at := slices.IndexFunc(k.now.sets, func(s *appsv1.StatefulSet) bool { _, has := podsOf(s)[pod]; return has })
	return k.now.sets[at]
}

// apply does what Kubernetes does of a release before pods start: configurations, and what
// cert-manager makes of Certificates.
func (k *kubelet) apply(r *rendered) {
	k.Helper()
	k.now = r
	k.must(os.MkdirAll(filepath.Join(k.dir, "certs"), 0o700))
	for pod, id := range k.all() {
		etc := filepath.Join(k.dir, strconv.Itoa(int(id)), "etc/config")
		k.must(os.MkdirAll(etc, 0o700))
		for _, sub := range []string{"var", "tmp"} {
			k.must(os.MkdirAll(filepath.Join(k.dir, strconv.Itoa(int(id)), sub), 0o700))
		}
		k.must(os.WriteFile(filepath.Join(etc, fmt.Sprintf("node-%d.toml", id)), []byte(k.here(id, r.files()[pod])), 0o600))
	}
	secrets := map[string]map[string][]byte{}
	for _, c := range r.certificates {
		if c.Spec.IsCA {
			continue
		}
		cert, key := k.issue(c)
		secrets[c.Spec.SecretName] = map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": pemOf("CERTIFICATE", k.ca.Raw)}
	}
	for name, secret := range secrets {
		for _, s := range r.sets {
			k.project(s, name, secret)
		}
	}
	for key, text := range secrets[fullname+"-admin"] {
		k.keep("admin-"+key, text)
	}
}

// project puts of a Secret into the files of certificates what a StatefulSet's volume has of it.
func (k *kubelet) project(s *appsv1.StatefulSet, name string, secret map[string][]byte) {
	k.Helper()
	for _, v := range s.Spec.Template.Spec.Volumes {
		if v.Name != "certs" {
			continue
		}
		for _, source := range v.Projected.Sources {
			for _, item := range source.Secret.Items {
				if source.Secret.Name == name {
					k.keep(item.Path, secret[item.Key])
				}
			}
		}
	}
}

// keep writes a file of certificates that is not there yet.
func (k *kubelet) keep(name string, text []byte) {
	k.Helper()
	file := filepath.Join(k.dir, "certs", name)
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		k.must(os.WriteFile(file, text, 0o600))
	}
}

func pemOf(kind string, raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
}

func (k *kubelet) authority() (*x509.Certificate, *ecdsa.PrivateKey) {
	k.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	k.must(err)
	ca, err := x509.ParseCertificate(raw)
	k.must(err)
	return ca, key
}

// issue makes of a Certificate what cert-manager makes of it.
func (k *kubelet) issue(c *Certificate) (cert, key []byte) {
	k.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.must(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	k.must(err)
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: c.Spec.CommonName}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 3, 0)}
	for _, use := range c.Spec.Usages {
		switch use {
		case "digital signature":
			template.KeyUsage = x509.KeyUsageDigitalSignature
		case "server auth":
			template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		case "client auth":
			template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		default:
			k.Fatalf("usage %q", use)
		}
	}
	for _, name := range append(slices.Clone(c.Spec.DNSNames), c.Spec.IPAddresses...) {
		if ip := net.ParseIP(k.here(1, name)); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	for _, text := range c.Spec.URIs {
		u, err := url.Parse(text)
		k.must(err)
		template.URIs = append(template.URIs, u)
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, k.ca, &private.PublicKey, k.key)
	k.must(err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	k.must(err)
	return pemOf("CERTIFICATE", raw), pemOf("PRIVATE KEY", der)
}

// start runs a pod's container, by its arguments and environment.
func (k *kubelet) start(pod string) {
	k.Helper()
	set, id := k.set(pod), k.all()[pod]
	container := set.Spec.Template.Spec.Containers[0]
	field := map[string]string{"metadata.labels['apps.kubernetes.io/pod-index']": strconv.Itoa(int(id)), "metadata.labels['topology.kubernetes.io/zone']": "zone-" + strconv.Itoa(int(id%3))}
	env := []string{"TMPDIR=" + filepath.Join(k.dir, strconv.Itoa(int(id)), "tmp")}
	var expand []string
	for _, e := range container.Env {
		value := e.Value
		if e.ValueFrom != nil {
			v, ok := field[e.ValueFrom.FieldRef.FieldPath]
			if !ok {
				k.Fatalf("nobody knows %s", e.ValueFrom.FieldRef.FieldPath)
			}
			value = v
		}
		env = append(env, e.Name+"="+value)
		expand = append(expand, "$("+e.Name+")", value)
	}
	var args []string
	for _, a := range container.Args {
		args = append(args, k.here(id, strings.NewReplacer(expand...).Replace(a)))
	}
	p := &process{cmd: exec.Command(*binary, args...), ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = env, &p.log, &p.log, mortal()
	k.must(p.cmd.Start())
	go func() { _ = p.cmd.Wait(); close(p.ended) }() // how it ended is in ProcessState
	k.pods[pod] = p
}

// stop ends a pod as Kubernetes does, within its time.
func (k *kubelet) stop(pod string) {
	k.Helper()
	p := k.pods[pod]
	k.must(p.cmd.Process.Signal(syscall.SIGTERM))
	grace := time.Duration(*k.set(pod).Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
	select {
	case <-p.ended:
	case <-time.After(grace):
		k.Fatalf("%s takes longer to stop than it has", pod)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		k.Fatalf("%s ended with %d: %s", pod, code, last(p.log.String(), 2000))
	}
}

func (k *kubelet) client() *http.Client {
	k.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(k.dir, "certs/admin-tls.crt"), filepath.Join(k.dir, "certs/admin-tls.key"))
	k.must(err)
	roots := x509.NewCertPool()
	roots.AddCert(k.ca)
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}}}
}

// probe asks what a probe asks, as a kubelet does: without a certificate, and without looking at
// the server's.
func (k *kubelet) probe(pod string, p *corev1.Probe) (bool, string) {
	client := &http.Client{Timeout: time.Duration(p.TimeoutSeconds) * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	port := containerPort(k.set(pod).Spec.Template.Spec.Containers[0], p.HTTPGet.Port.StrVal)
	resp, err := client.Get(fmt.Sprintf("%s://%s:%d%s", strings.ToLower(string(p.HTTPGet.Scheme)), k.address(k.all()[pod]), port, p.HTTPGet.Path))
	if err != nil {
		return false, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<12)) // what came says enough
	return resp.StatusCode == http.StatusOK, string(body)
}

// until waits for something, and fails with what it says last.
func (k *kubelet) until(what string, is func() (bool, string)) {
	k.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var said string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-ticker.C {
		ok, text := is()
		if ok {
			return
		}
		said = text
	}
	k.Fatalf("%s: not within %v; %s", what, patience, said)
}

// ready waits as Kubernetes does, until the probes of start and readiness say yes.
func (k *kubelet) ready(pod string) {
	k.Helper()
	container := k.set(pod).Spec.Template.Spec.Containers[0]
	for _, p := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
		k.until(pod+" answers "+p.HTTPGet.Path, func() (bool, string) {
			select {
			case <-k.pods[pod].ended:
				k.Fatalf("%s ended: %s", pod, last(k.pods[pod].log.String(), 3000))
			default:
			}
			return k.probe(pod, p)
		})
	}
}

// get asks the admin API of a node.
func (k *kubelet) get(client *http.Client, id int32, path string, into any) error {
	resp, err := client.Get(fmt.Sprintf("https://%s:9642/api/v1/%s", k.address(id), path))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %s, %w", path, resp.Status, body, err)
	}
	return json.Unmarshal(body, into)
}

// written waits until so many more records are committed.
func (k *kubelet) written(client *http.Client, id int32, before *int64, what string, said fmt.Stringer) {
	k.Helper()
	k.until("records are acked "+what, func() (bool, string) {
		var topic struct {
			PartitionList []struct {
				HighWatermark int64 `json:"high_watermark"`
			} `json:"partition_list"`
		}
		if err := k.get(client, id, "topics/load", &topic); err != nil {
			return false, err.Error()
		}
		sum := int64(0)
		for _, p := range topic.PartitionList {
			sum += p.HighWatermark
		}
		if sum > *before+200 {
			*before = sum
			return true, ""
		}
		return false, fmt.Sprintf("%d records; the load says %s", sum, said)
	})
}

// order is the one in which a StatefulSet replaces its pods: from the last number down.
func order(set *appsv1.StatefulSet) []string {
	return slices.SortedFunc(maps.Keys(podsOf(set)), func(a, b string) int { return int(podsOf(set)[b] - podsOf(set)[a]) })
}

// The pods that the chart renders, run as processes: they find each other and are a cluster
// whose servers and clients prove who they are, what is acknowledged while they are replaced one
// after the other is there, and another pod joins, is told to clients and has its share.
func TestPodsAreACluster(t *testing.T) {
	k := newKubelet(t)
	values := bucket + `
nodes: {replicas: %d}
rollout: {minReadySeconds: 0}
external: {enabled: true, host: 'kafka-{id}.example.com', port: 9192}
config:
  wal: {capacity: 256MiB, segment_size: 8MiB, memory: 32MiB, upload_bytes: 4MiB}
  operations: {log_level: %s}
`
	values = strings.Replace(values, "s3://streams?region=eu-central-1", "file://"+filepath.Join(k.dir, "bucket"), 1)
	k.apply(render(t, fmt.Sprintf(values, 3, "info")))
	k.begin()
	client := k.client()
	// Clients come from outside, by the second listener.
	brokers := fmt.Sprintf("%s:9192,%s:9192,%s:9192", k.address(1), k.address(2), k.address(3))
	producer := k.verify(brokers, "--phase", "produce", "--records", "100000000", "--size", "512", "-o", "json")
	var said buffer
	producer.Stdout, producer.Stderr = &said, &said
	k.must(producer.Start())
	stopped := make(chan error, 1)
	go func() { stopped <- producer.Wait() }()
	defer func() { _ = producer.Process.Kill() }() // it has ended, unless the test has failed
	var records int64
	k.written(client, 1, &records, "at first", &said)

	// A new configuration replaces every pod.
	before := k.now.sets[0].Spec.Template
	k.apply(render(t, fmt.Sprintf(values, 3, "warn")))
	if marshal(t, before) == marshal(t, k.now.sets[0].Spec.Template) {
		t.Fatal("nothing is replaced")
	}
	for _, pod := range order(k.now.sets[0]) {
		k.stop(pod)
		asked := int32(1)
		if pod == fullname+"-1" {
			asked = 2
		}
		k.written(client, asked, &records, "without "+pod, &said)
		k.start(pod)
		k.ready(pod)
		k.inSync(client, pod)
		k.written(client, asked, &records, "with "+pod, &said)
	}

	// Another pod, and no other is replaced.
	before = k.now.sets[0].Spec.Template
	k.apply(render(t, fmt.Sprintf(values, 4, "warn")))
	if marshal(t, before) != marshal(t, k.now.sets[0].Spec.Template) {
		t.Fatal("a fourth pod replaces the others")
	}
	k.start(fullname + "-4")
	k.ready(fullname + "-4")
	k.until("node 4 has replicas, and is told to clients where they dial", func() (bool, string) {
		var list struct {
			Brokers []struct {
				ID        int32  `json:"id"`
				State     string `json:"state"`
				Replicas  int    `json:"replicas"`
				Listeners []struct {
					Name    string `json:"name"`
					Address string `json:"address"`
				} `json:"listeners"`
			} `json:"brokers"`
		}
		if err := k.get(client, 4, "brokers", &list); err != nil {
			return false, err.Error()
		}
		for _, b := range list.Brokers {
			for _, l := range b.Listeners {
				if b.ID == 4 && b.State == "serving" && b.Replicas > 0 && l.Name == "external" && l.Address == k.address(4)+":9192" {
					return true, ""
				}
			}
		}
		return false, fmt.Sprintf("%+v", list.Brokers)
	})
	k.written(client, 4, &records, "with four", &said)
	k.must(producer.Process.Signal(syscall.SIGINT))
	if err := <-stopped; err != nil {
		t.Fatalf("the load: %v, %s", err, said.String())
	}
	if out, err := k.verify(brokers, "--phase", "check").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// begin starts all pods at once, and waits for them.
func (k *kubelet) begin() {
	k.Helper()
	for pod := range k.all() {
		k.start(pod)
	}
	for pod := range k.all() {
		k.ready(pod)
	}
	k.helmTest()
}

// verify is a load with the certificate of the admin.
func (k *kubelet) verify(brokers string, args ...string) *exec.Cmd {
	args = append([]string{"verify", "--topic", "load", "--state", filepath.Join(k.dir, "acks"), "-b", brokers, "--transport", "tcp", "--tls",
		"--cafile", filepath.Join(k.dir, "certs/admin-ca.crt"), "--cert", filepath.Join(k.dir, "certs/admin-tls.crt"), "--cert-key", filepath.Join(k.dir, "certs/admin-tls.key")}, args...)
	c := exec.Command(*binary, args...)
	c.Env, c.SysProcAttr = []string{"HOME=" + k.dir, "TMPDIR=" + k.dir}, mortal()
	return c
}

// Controllers and brokers that are pods of their own are a cluster too.
func TestSeparateRolesAreACluster(t *testing.T) {
	k := newKubelet(t)
	k.apply(render(t, `
bucket: {url: 'file://`+filepath.Join(k.dir, "bucket")+`'}
roles: separate
controllers: {replicas: 1}
brokers: {replicas: 2}
config: {wal: {capacity: 256MiB, segment_size: 8MiB, memory: 32MiB, upload_bytes: 4MiB}}
`))
	k.begin()
	for _, phase := range []string{"produce", "check"} {
		if out, err := k.verify(k.address(101)+":9092", "--phase", phase, "--records", "2000").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// inSync checks that a pod which is ready is in sync: so none is replaced too early.
func (k *kubelet) inSync(client *http.Client, pod string) {
	k.Helper()
	var list struct {
		Brokers []struct {
			ID       int32 `json:"id"`
			Replicas int   `json:"replicas"`
			InSync   int   `json:"in_sync"`
		} `json:"brokers"`
	}
	k.must(k.get(client, k.all()[pod], "brokers", &list))
	for _, b := range list.Brokers {
		if b.ID == k.all()[pod] && (b.Replicas == 0 || b.InSync < b.Replicas) {
			k.Errorf("%s is ready with %d of %d replicas in sync", pod, b.InSync, b.Replicas)
		}
	}
}

// helmTest runs the container of helm test.
func (k *kubelet) helmTest() {
	k.Helper()
	for _, pod := range k.now.pods {
		container := pod.Spec.Containers[0]
		var args []string
		for _, a := range container.Args {
			a = strings.NewReplacer("/etc/rustmq/ca/ca.pem", "/etc/rustmq/certs/admin-ca.crt", "/etc/rustmq/admin/", "/etc/rustmq/certs/admin-").Replace(a)
			args = append(args, k.here(1, a))
		}
		ctx, cancel := context.WithTimeout(k.Context(), patience)
		defer cancel()
		c := exec.CommandContext(ctx, *binary, args...)
		c.Env, c.SysProcAttr = []string{"TMPDIR=" + k.dir}, mortal()
		if out, err := c.CombinedOutput(); err != nil {
			k.Errorf("helm test: %v, %s", err, out)
		}
	}
}

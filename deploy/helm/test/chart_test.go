package test

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/strvals"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"rustmq.dev/rustmq/configs"
)

const bucket = "bucket: {url: 's3://streams?region=eu-central-1'}\n"

// combinations are values that go together, each by a name.
var combinations = func() map[string]string {
	all := map[string]string{}
	roles := map[string]string{
		"combined": "roles: combined\n", "separate": "roles: separate\n",
		"one":  "nodes: {replicas: 1, controllers: 1, antiAffinity: none}\n",
		"many": "nodes: {replicas: 7, controllers: 5, zoneSpread: DoNotSchedule, antiAffinity: preferred}\n",
	}
	tls := map[string]string{
		"own CA":   "",
		"issuer":   "tls: {certManager: {issuer: {name: vault, kind: ClusterIssuer}, admin: false, extraNames: [kafka.example.com]}, clusterName: prod}\n",
		"secret":   "tls: {mode: secret, secretName: certs}\n",
		"no lists": "tls: {mode: secret, secretName: certs, crl: false, clientAuth: request}\nconfig: {security: {sasl: {mechanisms: 'SCRAM-SHA-512'}}}\ntest: {token: {secret: health}}\n",
		"sasl":     "tls: {clientAuth: none}\nconfig: {security: {sasl: {mechanisms: 'SCRAM-SHA-512,PLAIN'}}}\nsuperUsers: [operator]\n",
		"none":     "tls: {mode: none}\nallowInsecure: true\n",
	}
	more := map[string]string{
		"inside": "", "balanced": "external: {enabled: true, host: 'kafka-{id}.example.com', quic: true, annotations: {external-dns.alpha.kubernetes.io/hostname: '{host}'}, bootstrap: {host: kafka.example.com}}\n",
		"ports": "external: {enabled: true, type: NodePort, host: 192.0.2.7, bootstrap: {enabled: false}}\nnetworkPolicy: {enabled: false}\n",
		"all":   "monitoring: {serviceMonitor: {enabled: true, token: {secret: scrape}}, prometheusRule: {enabled: true, labels: {release: prometheus}}}\nworkloadIdentity: {provider: azure, identity: '4711'}\nextraEnv: [{name: AWS_REGION, value: eu}]\nshutdown: {seconds: 90, preStopSleepSeconds: 5}\nconsole: {type: LoadBalancer}\n",
	}
	for r, a := range roles {
		for s, b := range tls {
			for m, c := range more {
				all[r+", "+s+", "+m] = bucket + a + b + c
			}
		}
	}
	return all
}()

func TestHelmFindsNothing(t *testing.T) {
	values := map[string]any{"bucket": map[string]any{"url": "s3://streams"}}
	for _, m := range lint.RunAll(chartDir, values, namespace).Messages {
		if m.Severity > support.InfoSev {
			t.Error(m)
		}
	}
}

// Whatever goes together renders objects that Kubernetes takes, and that fit each other.
func TestEveryCombinationFits(t *testing.T) {
	for name, values := range combinations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := render(t, values)
			if len(slices.Compact(slices.Clone(r.names))) != len(r.names) {
				t.Errorf("two objects have one name: %v", r.names)
			}
			for _, s := range r.sets {
				r.fitsPods(t, s)
				r.fitsVolumes(t, s)
			}
			r.fitsServices(t)
			r.fitsMonitoring(t)
			if r.notes == "" || strings.Contains(r.notes, "%!") {
				t.Errorf("notes: %s", r.notes)
			}
		})
	}
}

func selects(t *testing.T, selector map[string]string, of map[string]string) bool {
	t.Helper()
	return labels.SelectorFromSet(selector).Matches(labels.Set(of))
}

// fitsPods checks what selects the pods of a StatefulSet, and how they are stopped.
func (r *rendered) fitsPods(t *testing.T, s *appsv1.StatefulSet) {
	t.Helper()
	pod := s.Spec.Template
	if !selects(t, s.Spec.Selector.MatchLabels, pod.Labels) {
		t.Errorf("%s does not select its own pods: %v, %v", s.Name, s.Spec.Selector, pod.Labels)
	}
	budgets := 0
	for _, b := range r.budgets {
		if selects(t, b.Spec.Selector.MatchLabels, pod.Labels) {
			budgets++
			if b.Spec.MaxUnavailable.IntValue() != 1 {
				t.Errorf("%s: %v may be away", b.Name, b.Spec.MaxUnavailable)
			}
		}
	}
	if budgets != 1 {
		t.Errorf("%d budgets of disruptions have the pods of %s", budgets, s.Name)
	}
	for _, p := range r.policies {
		if !selects(t, p.Spec.PodSelector.MatchLabels, pod.Labels) {
			t.Errorf("%s is in no network policy", s.Name)
		}
	}
	if s.Spec.PodManagementPolicy != appsv1.ParallelPodManagement || s.Spec.UpdateStrategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		t.Errorf("%s: %s, %s", s.Name, s.Spec.PodManagementPolicy, s.Spec.UpdateStrategy.Type)
	}
	if !slices.ContainsFunc(r.accounts, func(a *corev1.ServiceAccount) bool { return a.Name == pod.Spec.ServiceAccountName }) {
		t.Errorf("there is no service account %s", pod.Spec.ServiceAccountName)
	}
	for name, id := range podsOf(s) {
		text, ok := r.files()[name]
		if !ok {
			t.Errorf("%s has no configuration", name)
			continue
		}
		c := config(t, text)
		if c.Broker.ID != id {
			t.Errorf("%s is node %d", name, c.Broker.ID)
		}
		grace := *pod.Spec.TerminationGracePeriodSeconds
		if stop := c.Operations.GracefulShutdownTimeout; float64(grace) < seconds(stop)+10 {
			t.Errorf("%s has %d s to stop, and rustmq takes up to %v", name, grace, stop)
		}
		if has := strings.Contains(pod.Labels["app.kubernetes.io/component"], "broker") || pod.Labels["app.kubernetes.io/component"] == "node"; has != slices.Contains(c.RoleList(), "broker") {
			t.Errorf("%s has roles %s", name, c.Broker.Roles)
		}
		if c.Network.AdvertisedHost != fmt.Sprintf("%s.%s.%s.svc.cluster.local", name, s.Spec.ServiceName, namespace) {
			t.Errorf("%s is told to others as %s", name, c.Network.AdvertisedHost)
		}
	}
	container := pod.Spec.Containers[0]
	if got := strings.Join(container.Args, " "); got != "serve --config /etc/rustmq/config/node-$(NODE_ID).toml" {
		t.Errorf("arguments %q", got)
	}
	for _, probe := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
		want := corev1.URISchemeHTTP
		if strings.Contains(r.files()[anyPod(s)], `network.http_tls = "on"`) {
			want = corev1.URISchemeHTTPS
		}
		if probe.HTTPGet.Scheme != want || containerPort(container, probe.HTTPGet.Port.StrVal) != 9642 {
			t.Errorf("a probe asks by %s at %v", probe.HTTPGet.Scheme, probe.HTTPGet.Port)
		}
	}
	secure := container.SecurityContext
	if *secure.AllowPrivilegeEscalation || !*secure.ReadOnlyRootFilesystem || !*pod.Spec.SecurityContext.RunAsNonRoot || !slices.Equal(secure.Capabilities.Drop, []corev1.Capability{"ALL"}) || pod.Spec.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s may do more than it needs", s.Name)
	}
	// The keys of the development CA are for nobody else: Always would have the group read them.
	if *pod.Spec.SecurityContext.FSGroupChangePolicy != corev1.FSGroupChangeOnRootMismatch {
		t.Errorf("%s changes the modes of its keys", s.Name)
	}
}

func seconds(d configs.Duration) float64 { return float64(d) / 1e9 }

func anyPod(s *appsv1.StatefulSet) string {
	return slices.Sorted(maps.Keys(podsOf(s)))[0]
}

func containerPort(c corev1.Container, name string) int32 {
	for _, p := range c.Ports {
		if p.Name == name {
			return p.ContainerPort
		}
	}
	return 0
}

// config reads a file as rustmq does.
func config(t *testing.T, text string) *configs.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "node.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(configs.Sources{File: file})
	if err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return c
}

// fitsVolumes checks that what is mounted is there, and that every file that the configuration
// names is in it.
func (r *rendered) fitsVolumes(t *testing.T, s *appsv1.StatefulSet) {
	t.Helper()
	spec := s.Spec.Template.Spec
	volumes := map[string]corev1.Volume{}
	for _, v := range spec.Volumes {
		volumes[v.Name] = v
	}
	for _, c := range s.Spec.VolumeClaimTemplates {
		volumes[c.Name] = corev1.Volume{}
	}
	mounted := map[string]corev1.Volume{}
	for _, m := range spec.Containers[0].VolumeMounts {
		v, ok := volumes[m.Name]
		if !ok {
			t.Errorf("%s mounts %s, which is not there", s.Name, m.Name)
		}
		mounted[m.MountPath] = v
		delete(volumes, m.Name)
	}
	if len(volumes) != 0 {
		t.Errorf("%s does not mount %v", s.Name, slices.Collect(maps.Keys(volumes)))
	}
	certs := mounted["/etc/rustmq/certs"]
	for pod := range podsOf(s) {
		for _, file := range regexp.MustCompile(`"/etc/rustmq/certs/([^"]+)"`).FindAllStringSubmatch(r.files()[pod], -1) {
			if certs.Projected == nil || !r.projected(certs.Projected, file[1]) {
				t.Errorf("%s wants %s, and no volume has it", pod, file[1])
			}
		}
	}
}

// projected tells whether a file is in a volume, from a Secret that a Certificate makes, or by
// its name from that of tls.secretName.
func (r *rendered) projected(v *corev1.ProjectedVolumeSource, file string) bool {
	for _, source := range v.Sources {
		made := slices.ContainsFunc(r.certificates, func(c *Certificate) bool { return c.Spec.SecretName == source.Secret.Name })
		for _, item := range source.Secret.Items {
			if item.Path == file && (made && slices.Contains([]string{"tls.crt", "tls.key", "ca.crt"}, item.Key) || !made && item.Key == file) {
				return true
			}
		}
	}
	return false
}

// fitsServices checks that each Service selects pods which have its ports.
func (r *rendered) fitsServices(t *testing.T) {
	t.Helper()
	nodePorts := map[string]string{}
	for _, service := range r.services {
		found := false
		ports := map[string]bool{}
		for _, s := range r.sets {
			for pod := range podsOf(s) {
				of := maps.Clone(s.Spec.Template.Labels)
				of["statefulset.kubernetes.io/pod-name"] = pod
				if !selects(t, service.Spec.Selector, of) {
					continue
				}
				found = true
				for _, p := range s.Spec.Template.Spec.Containers[0].Ports {
					ports[p.Name+"/"+string(p.Protocol)] = true
				}
			}
		}
		if !found {
			t.Errorf("Service %s selects nobody: %v", service.Name, service.Spec.Selector)
		}
		for _, p := range service.Spec.Ports {
			if !ports[p.TargetPort.StrVal+"/"+string(p.Protocol)] {
				t.Errorf("Service %s: no pod has port %s/%s", service.Name, p.TargetPort.StrVal, p.Protocol)
			}
			if p.NodePort == 0 {
				continue
			}
			at := fmt.Sprint(p.Protocol, p.NodePort)
			if other := nodePorts[at]; other != "" {
				t.Errorf("Services %s and %s have one port %d", service.Name, other, p.NodePort)
			}
			nodePorts[at] = service.Name
			if pod := service.Spec.Selector["statefulset.kubernetes.io/pod-name"]; pod != "" {
				if c := config(t, r.files()[pod]); c.Network.External.AdvertisedPort != int(p.NodePort) {
					t.Errorf("%s tells clients %d, and its Service has %d", pod, c.Network.External.AdvertisedPort, p.NodePort)
				}
			}
		}
	}
	for _, s := range r.sets {
		if !slices.ContainsFunc(r.services, func(x *corev1.Service) bool {
			return x.Name == s.Spec.ServiceName && x.Spec.ClusterIP == corev1.ClusterIPNone && x.Spec.PublishNotReadyAddresses
		}) {
			t.Errorf("%s has no Service that names its pods", s.Name)
		}
	}
}

// fitsMonitoring checks that the scraper finds one Service, by a name that is in certificates.
func (r *rendered) fitsMonitoring(t *testing.T) {
	t.Helper()
	for _, m := range r.monitors {
		found := 0
		for _, s := range r.services {
			if selects(t, m.Spec.Selector.MatchLabels, s.Labels) {
				found++
				if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == m.Spec.Endpoints[0].Port }) {
					t.Errorf("%s has no port %s", s.Name, m.Spec.Endpoints[0].Port)
				}
			}
		}
		if found != 1 {
			t.Errorf("%d Services are scraped", found)
		}
		name := m.Spec.Endpoints[0].TLSConfig.ServerName
		for _, c := range r.certificates {
			if len(c.Spec.URIs) > 0 && !slices.Contains(c.Spec.DNSNames, name) {
				t.Errorf("%s is not valid for %s", c.Name, name)
			}
		}
	}
	want, err := os.ReadFile("../../monitoring/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	copied, err := os.ReadFile(filepath.Join(chartDir, "files/alerts.yml"))
	if err != nil || string(want) != string(copied) {
		t.Errorf("files/alerts.yml of the chart is not deploy/monitoring/alerts.yml: %v", err)
	}
	for _, rule := range r.rules {
		if len(rule.Spec.Groups) == 0 || !strings.Contains(string(want), rule.Spec.Groups[0].Rules[0].Alert) || strings.Contains(rule.Spec.Groups[0].Rules[0].Annotations["summary"], "{{ ") {
			t.Errorf("%+v", rule.Spec)
		}
	}
}

// What each role's certificate says is what rustmq asks of a server in that role.
func TestCertificatesNameTheirNodes(t *testing.T) {
	for name, values := range combinations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := render(t, values)
			for _, s := range r.sets {
				for pod, id := range podsOf(s) {
					c := config(t, r.files()[pod])
					if !strings.Contains(c.Security.TLS.CertFile, fmt.Sprintf("node-%d.pem", id)) && c.Security.AllowInsecure == false {
						t.Errorf("%s shows %s", pod, c.Security.TLS.CertFile)
					}
					at := slices.IndexFunc(r.certificates, func(x *Certificate) bool { return x.Name == pod })
					if at < 0 {
						if len(r.certificates) > 0 {
							t.Errorf("%s has no certificate", pod)
						}
						continue
					}
					proves(t, r.certificates[at], c)
				}
			}
			if !slices.ContainsFunc(r.issuers, func(i *Issuer) bool { return i.Spec.CA != nil }) && strings.Contains(name, "own CA") {
				t.Error("nobody issues")
			}
		})
	}
}

// proves checks what a Certificate says of a node.
func proves(t *testing.T, certificate *Certificate, c *configs.Config) {
	t.Helper()
	spec := certificate.Spec
	u, err := url.Parse(spec.URIs[0])
	if err != nil || len(spec.URIs) != 1 || u.Path != "/node/"+strconv.Itoa(int(c.Broker.ID)) {
		t.Errorf("%s is %v: %v", certificate.Name, spec.URIs, err)
	}
	for _, host := range []string{c.Network.AdvertisedHost, c.Network.External.AdvertisedHost, fullname + "." + namespace + ".svc.cluster.local", "localhost"} {
		if host != "" && !slices.Contains(append(slices.Clone(spec.DNSNames), spec.IPAddresses...), host) {
			t.Errorf("%s is not valid for %s: %v", certificate.Name, host, spec.DNSNames)
		}
	}
	if self, named := c.Self(); named && !slices.Contains(spec.DNSNames, self.Host) {
		t.Errorf("%s is not valid for %s, as controller.peers calls it", certificate.Name, self.Host)
	}
	for _, use := range []string{"server auth", "client auth", "digital signature"} {
		if !slices.Contains(spec.Usages, use) {
			t.Errorf("%s is not for %s", certificate.Name, use)
		}
	}
}

// Another node changes nothing of the pods that are there: they are not restarted.
func TestScalingRestartsNobody(t *testing.T) {
	for _, values := range []string{bucket + "nodes: {replicas: %d}\n", bucket + "roles: separate\nbrokers: {replicas: %d}\n"} {
		three, four := render(t, fmt.Sprintf(values, 3)), render(t, fmt.Sprintf(values, 4))
		for i := range three.sets {
			before, after := three.sets[i].Spec, four.sets[i].Spec
			a, b := marshal(t, before.Template), marshal(t, after.Template)
			if a != b {
				t.Errorf("the template of %s changes:\n%s\n%s", three.sets[i].Name, a, b)
			}
		}
		for pod, text := range three.files() {
			if four.files()[pod] != text {
				t.Errorf("the configuration of %s changes", pod)
			}
		}
	}
	// What is the same for all restarts them, in turn.
	changed := render(t, bucket+"config: {wal: {memory: 512MiB}}\n")
	if marshal(t, changed.sets[0].Spec.Template) == marshal(t, render(t, bucket).sets[0].Spec.Template) {
		t.Error("a change of the configuration restarts nobody")
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	raw, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestWorkloadIdentityNeedsNoKeys(t *testing.T) {
	for provider, key := range map[string]string{"aws": "eks.amazonaws.com/role-arn", "gcp": "iam.gke.io/gcp-service-account", "azure": "azure.workload.identity/client-id"} {
		r := render(t, bucket+"workloadIdentity: {provider: "+provider+", identity: who}\n")
		if r.accounts[0].Annotations[key] != "who" {
			t.Errorf("%s: %v", provider, r.accounts[0].Annotations)
		}
		if uses := r.sets[0].Spec.Template.Labels["azure.workload.identity/use"]; (uses == "true") != (provider == "azure") {
			t.Errorf("%s: pods have %q", provider, uses)
		}
	}
}

// Nobody else reaches what servers say to each other.
func TestOthersReachKafkaAndHTTPOnly(t *testing.T) {
	r := render(t, bucket+"networkPolicy: {kafkaFrom: [{namespaceSelector: {}}]}\n")
	for _, rule := range r.policies[0].Spec.Ingress {
		for _, p := range rule.Ports {
			inside := len(rule.From) == 1 && rule.From[0].PodSelector != nil && rule.From[0].NamespaceSelector == nil
			if port := p.Port.IntValue(); port >= 9093 && port <= 9095 && !inside {
				t.Errorf("port %d is open to %v", port, rule.From)
			}
		}
	}
	if got := r.policies[0].Spec.Ingress[1].From; len(got) != 1 || got[0].NamespaceSelector == nil {
		t.Errorf("clients come from %v", got)
	}
}

// rollout.partition is a node's number; Kubernetes counts a StatefulSet's pods from its first.
func TestThePartitionOfARolloutIsANode(t *testing.T) {
	for _, values := range []string{"rollout: {partition: %d}\n", "rollout: {partition: %d}\nroles: separate\n"} {
		for _, from := range []int32{0, 1, 3, 4, 101, 103} {
			r := render(t, bucket+fmt.Sprintf(values, from))
			for _, s := range r.sets {
				for pod, id := range podsOf(s) {
					if replaced := id-s.Spec.Ordinals.Start >= *s.Spec.UpdateStrategy.RollingUpdate.Partition; replaced != (id >= from) {
						t.Errorf("from node %d on: %s is replaced: %v", from, pod, replaced)
					}
				}
			}
		}
	}
}

// Whoever may reach HTTP, the pod of helm test may.
func TestHelmTestReachesHTTP(t *testing.T) {
	r := render(t, bucket+"networkPolicy: {httpFrom: [{podSelector: {matchLabels: {app: prometheus}}}]}\n")
	for _, rule := range r.policies[0].Spec.Ingress {
		for _, from := range rule.From {
			for _, p := range rule.Ports {
				if from.NamespaceSelector == nil && from.PodSelector != nil && selects(t, from.PodSelector.MatchLabels, r.pods[0].Labels) && p.Port.IntValue() == 9642 {
					return
				}
			}
		}
	}
	t.Errorf("a pod with %v reaches nobody: %+v", r.pods[0].Labels, r.policies[0].Spec.Ingress)
}

// Who gets into a broker's container has no controller's key.
func TestBrokersHaveNoKeyOfAController(t *testing.T) {
	for _, tls := range []string{"", "tls: {mode: secret, secretName: certs}\n"} {
		r := render(t, bucket+"roles: separate\n"+tls)
		for _, s := range r.sets {
			for _, v := range s.Spec.Template.Spec.Volumes {
				if v.Secret != nil && len(v.Secret.Items) == 0 {
					t.Errorf("%s has all of Secret %s", s.Name, v.Secret.SecretName)
				}
				if v.Projected == nil {
					continue
				}
				for _, source := range v.Projected.Sources {
					for _, item := range source.Secret.Items {
						var id int
						if _, err := fmt.Sscanf(item.Path, "node-%d.key", &id); err == nil && (id <= 100) == strings.HasSuffix(s.Name, "-broker") {
							t.Errorf("%s has %s", s.Name, item.Path)
						}
					}
				}
			}
		}
	}
}

// What the docs say to install names an image that somebody has made: the chart's own tag is none.
func TestDocsInstallAnImage(t *testing.T) {
	for _, file := range []string{"../../../docs/kubernetes.md", filepath.Join(chartDir, "README.md")} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		command := regexp.MustCompile(`(?m)^helm install (?:[^\n]*\\\n)*[^\n]*$`).FindString(string(raw))
		values := map[string]any{}
		for _, set := range regexp.MustCompile(`--set ([^ \n]+)`).FindAllStringSubmatch(command, -1) {
			if err := strvals.ParseInto(strings.ReplaceAll(set[1], "'", ""), values); err != nil {
				t.Fatal(err)
			}
		}
		r := render(t, marshal(t, values))
		if image := r.sets[0].Spec.Template.Spec.Containers[0].Image; !regexp.MustCompile(`^[a-z.]+\.[a-z]+/rustmq:[0-9.]+$`).MatchString(image) {
			t.Errorf("%s installs %q: %s", file, image, command)
		}
	}
}

// What does not go together is refused, with what to do.
func TestWrongValuesAreRefused(t *testing.T) {
	for values, want := range map[string]string{
		"":                                              "bucket.url",
		bucket + "replicas: 3\n":                        "replicas",
		bucket + "nodes: {replica: 3}\n":                "replica",
		bucket + "nodes: {replicas: 0}\n":               "minimum",
		bucket + "nodes: {controllers: 2}\n":            "controllers",
		bucket + "nodes: {replicas: 2}\n":               "nodes.controllers",
		bucket + "roles: mixed\n":                       "roles",
		"bucket: {url: 'http://x'}\n":                   "url",
		"bucket: {url: 'mem://'}\n":                     "url",
		bucket + "tls: {mode: none}\n":                  "allowInsecure",
		bucket + "tls: {mode: secret}\n":                "tls.secretName",
		bucket + "tls: {clientAuth: none}\n":            "tls.clientAuth",
		bucket + "tls: {clusterName: Prod}\n":           "clusterName",
		bucket + "tls: {maxNodes: 2}\n":                 "tls.maxNodes",
		bucket + "config: {wal: {capacitiy: 1GiB}}\n":   "capacitiy",
		bucket + "config: {wal: {capacity: much}}\n":    "capacity",
		bucket + "config: {broker: {id: 7}}\n":          "id",
		bucket + "config: {network: {kafka_port: 1}}\n": "kafka_port",
		bucket + "external: {enabled: true}\n":          "external.host",
		bucket + "external: {type: ClusterIP}\n":        "type",
		// Kubernetes refuses ranges that no load balancer holds.
		bucket + "external: {enabled: true, type: NodePort, host: 192.0.2.7, sourceRanges: [192.0.2.0/24]}\n": "sourceRanges",
		bucket + "workloadIdentity: {provider: aws}\n":                                                        "workloadIdentity.identity",
		bucket + "image: {digest: 'sha256:1'}\n":                                                              "digest",
		bucket + "roles: separate\nbrokers: {firstId: 3}\n":                                                   "brokers.firstId",
		bucket + "tls: {mode: none}\nallowInsecure: true\nconfig: {security: {sasl: {mechanisms: PLAIN}}}\n":  "sasl",
	} {
		if _, err := try(t, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("values\n%s\nwant an error that names %q, got %v", values, want, err)
		}
	}
}

// Every value is in the schema, and every section refuses what it does not know.
func TestTheSchemaIsStrict(t *testing.T) {
	c := load(t)
	var walk func(at string, values map[string]any)
	walk = func(at string, values map[string]any) {
		if len(values) == 0 || slices.Contains([]string{".podSecurityContext", ".containerSecurityContext"}, at) || strings.HasSuffix(at, ".requests") || strings.HasSuffix(at, ".limits") {
			return
		}
		path := strings.Split(strings.TrimPrefix(at, "."), ".")
		nested := "nonsense: 1"
		for _, name := range slices.Backward(path) {
			if name != "" {
				nested = name + ": {" + nested + "}"
			}
		}
		if _, err := try(t, nested+"\n"); err == nil || !strings.Contains(err.Error(), "nonsense") {
			t.Errorf("%s takes what it does not know: %v", at, err)
		}
		for name, v := range values {
			if inner, ok := v.(map[string]any); ok {
				walk(at+"."+name, inner)
			}
		}
	}
	walk("", c.Values)
}
